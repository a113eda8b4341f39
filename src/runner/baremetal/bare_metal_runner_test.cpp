// The runner against this machine: real guards, users and cgroups.
#include "runner/baremetal/bare_metal_runner.h"

#include <gmock/gmock.h>
#include <signal.h>
#include <sys/stat.h>

#include "runner/baremetal/runner_fixture.h"

namespace hivemetal::runner {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

TEST_F(RunnerTest, RunsAProgramAndKeepsItsOutputAndExitCode) {
  open();
  const ExitRecord exit = run_to_end(shell("run.0.1", "echo out; echo err >&2; exit 3"));
  EXPECT_EQ(exit.reason, "EXIT");
  EXPECT_EQ(exit.code, 3);
  EXPECT_EQ(output("run.0.1", 1), "out\n");
  EXPECT_EQ(output("run.0.1", 2), "err\n");
  ASSERT_EQ(ended.size(), 1U);
  EXPECT_EQ(ended[0].id, "run.0.1");
}

TEST_F(RunnerTest, SaysWhichProgramIsMissingWithTheCodeOfAShell) {
  open();
  AttemptSpec spec = shell("run.0.1", "");
  spec.argv = {"no-such-program"};
  const auto started = run(runner->start(spec));
  ASSERT_FALSE(started);
  EXPECT_EQ(started.error().code, ErrorCode::Refused);
  EXPECT_THAT(started.error().message, HasSubstr("EXEC_FAILED: exec no-such-program: ENOENT"));
  EXPECT_EQ(status("run.0.1").exit->code, 127);
  EXPECT_TRUE(ended.empty());
}

TEST_F(RunnerTest, KillsWhatIgnoresTheRequestToEndAfterTheGrace) {
  open();
  ASSERT_TRUE(run(runner->start(shell("run.0.1", "trap '' TERM; echo ready; while :; do sleep 0.05; done"))));
  ASSERT_TRUE(wait_output("run.0.1", "ready"));
  const auto begin = std::chrono::steady_clock::now();
  const auto exit = run(runner->stop("run.0.1", "STOPPED"));
  ASSERT_TRUE(exit);
  EXPECT_EQ(exit->reason, "STOPPED");
  EXPECT_EQ(exit->signal, SIGKILL);
  EXPECT_GE(std::chrono::steady_clock::now() - begin, 1900ms);
}

}  // namespace
}  // namespace hivemetal::runner
