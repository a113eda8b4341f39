// Every limit bites. Each destructive program is an attempt of its own.
#include <gmock/gmock.h>
#include <signal.h>

#include "runner/baremetal/cgroups.h"
#include "runner/baremetal/runner_fixture.h"

namespace hivemetal::runner {
namespace {

using testing::HasSubstr;

class LimitsTest : public RunnerTest {
 protected:
  // Skips, naming what is missing, where this machine cannot enforce `controller`.
  void require(const std::string& controller) {
    require_root();
    if (IsSkipped()) return;
    const Confinement found = probe(options);
    const bool has = controller == "cpu"      ? found.cpu_limit
                     : controller == "memory" ? found.memory_limit
                                              : found.pids_limit;
    if (!has) GTEST_SKIP() << "needs the cgroup controller " << controller;
  }
};

TEST_F(LimitsTest, HoldsTwoBusyLoopsToTheirShareOfACore) {
  require("cpu");
  if (IsSkipped()) return;
  open();
  AttemptSpec spec = shell("run.0.1", "(while :; do :; done) & while :; do :; done");
  spec.limits.cpus = 0.2;
  spec.grace = 100ms;
  ASSERT_TRUE(run(runner->start(spec)));
  const auto begin = std::chrono::steady_clock::now();
  run_until([&] { return std::chrono::steady_clock::now() - begin > 4s; });
  const double used = runner->usage("run.0.1")->cpu_seconds;
  const double passed = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  // A busy machine may give less, never more; a period (20 ms of quota) may be half through.
  EXPECT_LE(used / passed, 0.2 * 1.05 + 0.02);
  EXPECT_GT(used, 0.02);
  const auto exit = run(runner->stop("run.0.1", "STOPPED"));
  EXPECT_NEAR(static_cast<double>(exit->cpu_usec) * 1e-6, used, 0.5);
}

TEST_F(LimitsTest, KillsTheWholeAttemptWhenItsMemoryIsUsedUp) {
  require("memory");
  if (IsSkipped()) return;
  open();
  AttemptSpec spec = shell("run.0.1",
                           "(sleep 300; echo bystander) & exec python3 -c 'import time; x = b\"x\" * (200 << "
                           "20); print(len(x)); time.sleep(60)'");
  spec.limits.memory_bytes = 64 << 20;
  const auto begin = std::chrono::steady_clock::now();
  const ExitRecord exit = run_to_end(spec);
  EXPECT_LT(std::chrono::steady_clock::now() - begin, 30s);
  EXPECT_EQ(exit.reason, "OOM");
  EXPECT_EQ(exit.signal, SIGKILL);
  EXPECT_LE(exit.memory_peak_bytes, 64U << 20);
  EXPECT_GE(exit.memory_peak_bytes, 50U << 20);
  EXPECT_EQ(output("run.0.1", 1), "");
}

TEST_F(LimitsTest, EndsAnAttemptWhoseChildHitsTheMemoryLimit) {
  require("memory");
  if (IsSkipped()) return;
  open();
  AttemptSpec spec = shell("run.0.1", "python3 -c 'x = b\"x\" * (200 << 20)'; sleep 300");
  spec.limits.memory_bytes = 64 << 20;
  EXPECT_EQ(run_to_end(spec).reason, "OOM");
}

TEST_F(LimitsTest, AnswersAForkBombWithEagain) {
  require("pids");
  if (IsSkipped()) return;
  open();
  AttemptSpec spec = shell("run.0.1", "");
  spec.argv = {"python3", "-c",
               "import os, time, errno\n"
               "n = 0\n"
               "try:\n"
               "  while n < 500:\n"
               "    if os.fork() == 0:\n"
               "      time.sleep(300)\n"
               "    n += 1\n"
               "except OSError as e:\n"
               "  print(n, errno.errorcode[e.errno], flush=True)\n"
               "time.sleep(300)\n"};
  spec.limits.pids = 40;
  spec.grace = 100ms;
  ASSERT_TRUE(run(runner->start(spec)));
  ASSERT_TRUE(wait_output("run.0.1", "\n"));
  EXPECT_EQ(output("run.0.1"), "39 EAGAIN\n");
  EXPECT_EQ(runner->usage("run.0.1")->processes, 40U);
  EXPECT_TRUE(run(runner->stop("run.0.1", "STOPPED")));
}

TEST_F(LimitsTest, StopsAForkStorm) {
  require("pids");
  if (IsSkipped()) return;
  open();
  AttemptSpec spec = shell("run.0.1", "");
  spec.argv = {"python3", "-c",
               "import os, signal\n"
               "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
               "print('ready', flush=True)\n"
               "while True:\n"
               "  try: os.fork()\n"
               "  except OSError: pass\n"};
  spec.limits.pids = 200;
  spec.limits.cpus = 0.5;
  spec.grace = 200ms;
  ASSERT_TRUE(run(runner->start(spec)));
  ASSERT_TRUE(wait_output("run.0.1", "ready"));
  const auto exit = run(runner->stop("run.0.1", "STOPPED"));
  ASSERT_TRUE(exit);
  EXPECT_EQ(exit->reason, "STOPPED");
}

TEST_F(LimitsTest, RefusesALimitThatDoesNotReadBack) {
  require("pids");
  if (IsSkipped()) return;
  const CgroupLayout layout = read_cgroup_layout();
  CgroupPlan plan = plan_cgroups(layout, "", "limits-test", "a", Limits{});
  for (CgroupWrite& write : plan.writes) {
    if (write.limit == "pids") write.value = "no number";
  }
  const auto made = make_cgroups(plan);
  ASSERT_FALSE(made);
  EXPECT_THAT(made.error().message, HasSubstr("LIMIT_UNENFORCEABLE pids"));
  for (auto folder = plan.folders.rbegin(); folder != plan.folders.rend(); ++folder) ::rmdir(folder->c_str());
}

TEST_F(LimitsTest, DropsWhatExceedsTheRateOfALogAndCountsIt) {
  open();
  AttemptSpec spec = shell("run.0.1", "head -c 40000000 /dev/zero; echo end >&2");
  const ExitRecord exit = run_to_end(spec);
  EXPECT_GT(exit.log_dropped_bytes, 15'000'000U);
  EXPECT_LT(exit.log_dropped_bytes, 30'000'000U);
  EXPECT_THAT(output("run.0.1", 3), HasSubstr(" bytes dropped"));
}

}  // namespace
}  // namespace hivemetal::runner
