// Daemons that die at a bad moment. The first daemon is a process of its own (this binary again), killed with
// -9.
#include <fstream>
#include <gmock/gmock.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "runner/baremetal/runner_fixture.h"

namespace hivemetal::runner {
namespace {

using testing::Contains;
using testing::IsEmpty;

// Not a test: the daemon that gets killed. Starts one attempt and watches it for ever.
TEST(RunnerHelper, DISABLED_StartsOneAttemptAndWaitsToBeKilled) {
  const char* folder = std::getenv("HIVEMETAL_TEST_FOLDER");
  ASSERT_NE(folder, nullptr);
  BareMetalOptions options =
      options_for(folder, static_cast<std::uint32_t>(std::stoul(std::getenv("HIVEMETAL_TEST_UIDS"))));
  options.privileged = std::getenv("HIVEMETAL_TEST_PRIVILEGED") != nullptr;
  asio::io_context loop;
  SystemClock clock;
  auto runner = BareMetalRunner::open(loop.get_executor(), clock, options);
  ASSERT_TRUE(runner);
  const auto work = [](BareMetalRunner& runner) -> asio::awaitable<bool> {
    static_cast<void>(co_await runner.adopt());
    AttemptSpec spec;
    spec.id = "run.0.1";
    spec.argv = {"sh", "-c", std::getenv("HIVEMETAL_TEST_SCRIPT")};
    spec.grace = 1s;
    if (const char* lease = std::getenv("HIVEMETAL_TEST_LEASE_MS"))
      spec.lease = std::chrono::milliseconds(std::atoi(lease));
    co_return static_cast<bool>(co_await runner.start(spec));
  };
  asio::co_spawn(loop, work(**runner), [&](const std::exception_ptr&, bool started) {
    std::ofstream(std::filesystem::path(folder) / "started") << started;
  });
  loop.run();
  ::pause();
}

class AdoptionTest : public RunnerTest {
 protected:
  ~AdoptionTest() override {
    if (daemon_ > 0) kill_daemon();
  }

  // A daemon in a process of its own that has started run.0.1 with this script.
  void start_daemon(const std::string& script, int lease_ms = 0) {
    std::vector<std::string> environment{"HIVEMETAL_TEST_FOLDER=" + folder.string(),
                                         "HIVEMETAL_TEST_SCRIPT=" + script,
                                         fmt::format("HIVEMETAL_TEST_UIDS={}", options.uids.first),
                                         "PATH=/usr/bin:/bin", "ASAN_OPTIONS=detect_leaks=0"};
    if (options.privileged) environment.push_back("HIVEMETAL_TEST_PRIVILEGED=1");
    if (lease_ms > 0) environment.push_back(fmt::format("HIVEMETAL_TEST_LEASE_MS={}", lease_ms));
    std::vector<char*> envp;
    for (auto& variable : environment) envp.push_back(variable.data());
    envp.push_back(nullptr);
    std::string self = std::filesystem::read_symlink("/proc/self/exe").string();
    char filter[] = "--gtest_filter=RunnerHelper.*", all[] = "--gtest_also_run_disabled_tests";
    char* argv[] = {self.data(), filter, all, nullptr};
    posix_spawn_file_actions_t actions;
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
    ASSERT_EQ(::posix_spawn(&daemon_, self.c_str(), &actions, nullptr, argv, envp.data()), 0);
    ::posix_spawn_file_actions_destroy(&actions);
    ASSERT_TRUE(run_until([&] { return read_file(folder / "started").value_or("") == "1"; }, 30s));
  }

  void kill_daemon() {
    ::kill(daemon_, SIGKILL);
    ::waitpid(daemon_, nullptr, 0);
    daemon_ = 0;
  }

  std::filesystem::path attempt() const { return options.directory / "attempts/run.0.1"; }
  AttemptRecord record() const {
    return decode_attempt_record(read_file(attempt() / "record.json").value()).value();
  }

  bool wait_for_exit_record() {
    return run_until(
        [&] { return std::filesystem::exists(attempt() / "exit.json") && !is_alive(record().guard); });
  }

 private:
  pid_t daemon_ = 0;
};

TEST_F(AdoptionTest, FindsARunningWorkerAgainWithoutAGapInItsLog) {
  start_daemon("i=0; while [ $i -lt 300 ]; do echo $i; i=$((i+1)); sleep 0.01; done; exit 9");
  kill_daemon();
  open();
  ASSERT_EQ(adopted.size(), 1U);
  EXPECT_EQ(adopted[0].state, AttemptState::Running);
  EXPECT_GT(adopted[0].pid, 0);
  ASSERT_TRUE(wait_end("run.0.1"));
  EXPECT_EQ(status("run.0.1").exit->reason, "EXIT");
  EXPECT_EQ(status("run.0.1").exit->code, 9);
  ASSERT_EQ(ended.size(), 1U);
  std::string expected;
  for (int i = 0; i < 300; ++i) expected += fmt::format("{}\n", i);
  EXPECT_EQ(output("run.0.1"), expected);
}

TEST_F(AdoptionTest, KnowsTheExitCodeOfAWorkerThatEndedMeanwhile) {
  start_daemon("echo one; sleep 0.3; echo two; exit 4");
  kill_daemon();
  ASSERT_TRUE(wait_for_exit_record());
  open();
  ASSERT_EQ(adopted.size(), 1U);
  EXPECT_EQ(adopted[0].state, AttemptState::Ended);
  EXPECT_EQ(adopted[0].exit->reason, "EXIT");
  EXPECT_EQ(adopted[0].exit->code, 4);
  EXPECT_EQ(output("run.0.1"), "one\ntwo\n");
  EXPECT_THAT(ended, IsEmpty());
  EXPECT_TRUE(run(runner->remove("run.0.1")));
  close();
  open();
  EXPECT_THAT(adopted, IsEmpty());
}

TEST_F(AdoptionTest, StopsAndRenewsWhatItAdopted) {
  start_daemon("sleep 300", 60'000);
  kill_daemon();
  open();
  EXPECT_TRUE(runner->renew("run.0.1", 1h));
  const auto exit = run(runner->stop("run.0.1", "STOPPED"));
  ASSERT_TRUE(exit);
  EXPECT_EQ(exit->reason, "STOPPED");
  EXPECT_EQ(exit->signal, SIGTERM);
}

TEST_F(AdoptionTest, LetsAWorkerWithoutADaemonRunNoLongerThanItsLease) {
  start_daemon("sleep 300", 700);
  kill_daemon();
  ASSERT_TRUE(wait_for_exit_record());
  open();
  ASSERT_EQ(adopted.size(), 1U);
  EXPECT_EQ(adopted[0].exit->reason, "LEASE_EXPIRED");
}

TEST_F(AdoptionTest, EndsAnAttemptWhoseGuardIsKilled) {
  open();
  ASSERT_TRUE(run(runner->start(shell("run.0.1", "setsid sleep 300 & echo $!; sleep 300"))));
  ASSERT_TRUE(wait_output("run.0.1", "\n"));
  const pid_t other = std::atoi(output("run.0.1").c_str());
  const pid_t worker = status("run.0.1").pid;
  ::kill(record().guard.pid, SIGKILL);
  ASSERT_TRUE(wait_end("run.0.1"));
  EXPECT_EQ(status("run.0.1").exit->reason, "LOST_GUARD");
  EXPECT_FALSE(is_alive({worker, stat_of(worker).value_or(ProcessStat{}).id.start_time}));
  EXPECT_FALSE(is_alive({other, stat_of(other).value_or(ProcessStat{}).id.start_time}));
  ASSERT_EQ(ended.size(), 1U);
  EXPECT_EQ(output("run.0.1"), fmt::format("{}\n", other));
}

TEST_F(AdoptionTest, KillsWhatIsLeftWhenGuardAndDaemonAreKilled) {
  for (const bool privileged : {true, false}) {
    if (privileged && ::getuid() != 0) continue;
    SCOPED_TRACE(privileged ? "root" : "without root");
    options.privileged = privileged;
    std::filesystem::remove(folder / "started");
    start_daemon("setsid sleep 300 & echo $! > other; sleep 300");
    ASSERT_TRUE(run_until([&] { return !read_file(attempt() / "work/other").value_or("").empty(); }));
    const pid_t other = std::atoi(read_file(attempt() / "work/other")->c_str());
    const auto before = stat_of(other);
    ASSERT_TRUE(before);
    kill_daemon();
    ::kill(record().guard.pid, SIGKILL);
    open();
    ASSERT_EQ(adopted.size(), 1U);
    EXPECT_THAT((std::set<std::string>{"LOST_GUARD", "UNKNOWN_EXIT"}), Contains(adopted[0].exit->reason));
    EXPECT_FALSE(is_alive(before->id));
    EXPECT_TRUE(run(runner->remove("run.0.1")));
    close();
  }
}

TEST_F(AdoptionTest, CarriesOutAStopThatAnEarlierDaemonDecided) {
  start_daemon("sleep 300");
  kill_daemon();
  AttemptRecord changed = record();
  changed.state = AttemptRecord::State::Stopping;
  changed.reason = "LEASE_EXPIRED";
  ASSERT_TRUE(replace_file(attempt() / "record.json", encode(changed)));
  open();
  ASSERT_TRUE(wait_end("run.0.1"));
  EXPECT_EQ(status("run.0.1").exit->reason, "LEASE_EXPIRED");
}

TEST_F(AdoptionTest, SaysThatTheMachineWasRestarted) {
  start_daemon("sleep 300");
  kill_daemon();
  AttemptRecord changed = record();
  ::kill(changed.guard.pid, SIGKILL);
  changed.boot_id = "another";
  ASSERT_TRUE(replace_file(attempt() / "record.json", encode(changed)));
  open();
  ASSERT_EQ(adopted.size(), 1U);
  EXPECT_EQ(adopted[0].exit->reason, "LOST_REBOOT");
}

TEST_F(AdoptionTest, DoesNotTakeAnotherProcessForTheGuard) {
  start_daemon("sleep 300");
  kill_daemon();
  AttemptRecord changed = record();
  const ProcessId guard = changed.guard;
  changed.guard = stat_of(::getpid())->id;  // as if the pid had been used again
  changed.guard.start_time += 1;
  ASSERT_TRUE(replace_file(attempt() / "record.json", encode(changed)));
  open();
  ASSERT_EQ(adopted.size(), 1U);
  EXPECT_EQ(adopted[0].state, AttemptState::Ended);
  EXPECT_TRUE(run_until([&] { return !is_alive(guard); }, 10s));
}

TEST_F(AdoptionTest, GoesOnWithAGuardThatWasSuspended) {
  open();
  ASSERT_TRUE(run(runner->start(shell("run.0.1", "echo before; sleep 0.2; exit 6"))));
  const pid_t guard = record().guard.pid;
  ::kill(guard, SIGSTOP);
  const auto begin = std::chrono::steady_clock::now();
  run_until([&] { return std::chrono::steady_clock::now() - begin > 300ms; });
  ::kill(guard, SIGCONT);
  ASSERT_TRUE(wait_end("run.0.1"));
  EXPECT_EQ(status("run.0.1").exit->code, 6);
  EXPECT_EQ(output("run.0.1"), "before\n");
}

TEST_F(AdoptionTest, IgnoresStrangersOnTheGuardsSocket) {
  open();
  ASSERT_TRUE(run(runner->start(shell("run.0.1", "sleep 300"))));
  struct stat status_of_socket{};
  const auto path = attempt() / "guard.sock";
  ASSERT_EQ(::stat(path.c_str(), &status_of_socket), 0);
  EXPECT_EQ(status_of_socket.st_mode & 0077, 0U);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
  for (const std::string& text :
       {std::string("what?\n"), std::string(2 << 20, 'x'), std::string("{\"op\":\"spec\"}\n")}) {
    const Fd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    ASSERT_EQ(::connect(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    static_cast<void>(!::send(socket.get(), text.data(), text.size(), MSG_NOSIGNAL));
    char byte = 0;
    EXPECT_LE(::recv(socket.get(), &byte, 1, 0), 0);  // closed, without a word
  }
  EXPECT_EQ(status("run.0.1").state, AttemptState::Running);
  EXPECT_EQ(run(runner->stop("run.0.1", "STOPPED"))->reason, "STOPPED");
}

TEST_F(AdoptionTest, RemovesWhatNoRecordAccountsFor) {
  require_root();
  if (IsSkipped()) return;
  open();
  close();
  // As after a crash between allocation and the first record, and after one in the middle of a launch.
  UidPool pool(options.machine / "uids", options.uids,
               std::filesystem::canonical(options.directory).string());
  const auto lost = pool.allocate("lost.0.1").value();
  const auto prepared = pool.allocate("run.0.1").value();
  const CgroupPlan plan =
      plan_cgroups(read_cgroup_layout(), "", node_tag(options.directory), "lost.0.1", Limits{});
  ASSERT_TRUE(make_cgroups(plan));
  std::filesystem::create_directories(options.directory / "attempts/lost.0.2/work");
  std::filesystem::create_directories(attempt() / "work");
  AttemptRecord half;
  half.attempt = "run.0.1";
  half.boot_id = boot_id();
  half.uid = prepared;
  ASSERT_TRUE(replace_file(attempt() / "record.json", encode(half)));

  open();
  ASSERT_EQ(adopted.size(), 1U);
  EXPECT_EQ(adopted[0].exit->reason, "LAUNCH_FAILED");
  EXPECT_THAT(pool.owned(), IsEmpty()) << lost;
  EXPECT_FALSE(plan.cgroup2.empty() ? false : std::filesystem::exists(plan.cgroup2));
  EXPECT_FALSE(std::filesystem::exists(options.directory / "attempts/lost.0.2"));
}

TEST_F(AdoptionTest, KeepsNodesOfOneMachineApart) {
  open();
  ASSERT_TRUE(run(runner->start(shell("run.0.1", "sleep 300"))));
  BareMetalOptions other = options;
  other.directory = folder / "other";
  auto second = BareMetalRunner::open(loop.get_executor(), clock, other).value();
  EXPECT_THAT(run(second->adopt()).value(), IsEmpty());
  const auto started = run(second->start(shell("run.0.1", "sleep 300")));  // even with the same id
  ASSERT_TRUE(started) << started.error().message;
  if (::getuid() == 0) EXPECT_NE(started->uid, status("run.0.1").uid);
  EXPECT_TRUE(run(second->stop("run.0.1", "STOPPED")));
  EXPECT_EQ(status("run.0.1").state, AttemptState::Running);
  const auto close_other = [](BareMetalRunner& runner) -> asio::awaitable<bool> {
    co_await runner.close();
    co_return true;
  };
  run(close_other(*second));
  EXPECT_TRUE(run(runner->stop("run.0.1", "STOPPED")));
}

}  // namespace
}  // namespace hivemetal::runner
