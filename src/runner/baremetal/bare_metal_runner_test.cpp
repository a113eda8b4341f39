// The runner against this machine: real guards, users and cgroups. Limits and adoption have files of their
// own.
#include "runner/baremetal/bare_metal_runner.h"

#include <fcntl.h>
#include <fstream>
#include <gmock/gmock.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "runner/baremetal/runner_fixture.h"

namespace hivemetal::runner {
namespace {

using testing::HasSubstr;
using testing::Not;

TEST_F(RunnerTest, RunsAProgramAndKeepsItsOutputAndExitCode) {
  open();
  const ExitRecord exit = run_to_end(shell("run.0.1", "echo out; echo err >&2; exit 3"));
  EXPECT_EQ(exit.reason, "EXIT");
  EXPECT_EQ(exit.code, 3);
  EXPECT_GT(exit.cpu_usec, 0U);
  EXPECT_GT(exit.memory_peak_bytes, 0U);
  EXPECT_EQ(output("run.0.1", 1), "out\n");
  EXPECT_EQ(output("run.0.1", 2), "err\n");
  EXPECT_TRUE(runner->read_log("run.0.1", 0, 1 << 20)->ended);
  ASSERT_EQ(ended.size(), 1U);
  EXPECT_EQ(ended[0].id, "run.0.1");
}

TEST_F(RunnerTest, StartsWithTheFilesOfTheSpec) {
  open();
  AttemptSpec spec = shell("run.0.1", "./a/b.sh; cat c.txt; ls -ld . a/b.sh | cut -c1-10");
  spec.files = {{"a/b.sh", "#!/bin/sh\necho from b\n", true}, {"c.txt", "from c\n", false}};
  EXPECT_EQ(run_to_end(spec).code, 0);
  EXPECT_EQ(output("run.0.1"), "from b\nfrom c\ndrwx------\n-rwx------\n");
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

  spec.id = "run.0.2";
  spec.argv = {"/etc/passwd"};
  EXPECT_FALSE(run(runner->start(spec)));
  EXPECT_EQ(status("run.0.2").exit->code, 126);
  EXPECT_THAT(status("run.0.2").exit->detail, HasSubstr("/etc/passwd: EACCES"));
}

TEST_F(RunnerTest, GivesTheProgramItsEnvironmentAndNothingElse) {
  ::setenv("HIVEMETAL_SECRET", "the daemon's", 1);
  open();
  AttemptSpec spec = shell("run.0.1", "");
  spec.argv = {"env"};
  spec.environment = {{"ASKED_FOR", "yes"}};
  run_to_end(spec);
  ::unsetenv("HIVEMETAL_SECRET");
  const std::string text = output("run.0.1");
  EXPECT_THAT(text, HasSubstr("ASKED_FOR=yes\n"));
  EXPECT_THAT(text, HasSubstr("HOME=" + runner->work_folder("run.0.1").string() + "\n"));
  EXPECT_THAT(text, HasSubstr("OMP_NUM_THREADS=1\n"));
  EXPECT_THAT(text, Not(HasSubstr("SECRET")));
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 12);
}

TEST_F(RunnerTest, LetsNoDescriptorThrough) {
  const int leak = ::open("/dev/null", O_RDONLY);  // without O_CLOEXEC, as a library might
  open();
  run_to_end(shell("run.0.1", "ls /proc/self/fd | tr '\\n' ' '; readlink /proc/self/fd/0"));
  ::close(leak);
  // 3 is ls's own, of the folder it lists.
  EXPECT_EQ(output("run.0.1"), "0 1 2 3 /dev/null\n");
}

TEST_F(RunnerTest, SetsTheLimitsAndPrivilegesOfAProcess) {
  open();
  AttemptSpec spec =
      shell("run.0.1",
            "grep -E 'NoNewPrivs|SigIgn|Groups' /proc/self/status; cat /proc/self/oom_score_adj; "
            "grep -E 'core|open files|file size' /proc/self/limits | tr -s ' '");
  spec.limits.disk_bytes = 123456;
  run_to_end(spec);
  const std::string text = output("run.0.1");
  EXPECT_THAT(text, HasSubstr("NoNewPrivs:\t1\n"));
  EXPECT_THAT(text, HasSubstr("SigIgn:\t0000000000000000\n"));
  EXPECT_THAT(text, HasSubstr("\n500\n"));
  EXPECT_THAT(text, HasSubstr("Max core file size 1 1 bytes"));
  EXPECT_THAT(text, HasSubstr("Max open files 4096 4096 files"));
  EXPECT_THAT(text, HasSubstr("Max file size 123456 123456 bytes"));
}

TEST_F(RunnerTest, EndsAProgramThatWritesPastItsDiskLimitAsDiskFull) {
  open();
  AttemptSpec spec = shell("run.0.1", "exec head -c 2000000 /dev/zero > file");
  spec.limits.disk_bytes = 1'000'000;
  EXPECT_EQ(run_to_end(spec).reason, "DISK_FULL");
}

TEST_F(RunnerTest, RunsEveryAttemptAsAUserOfItsOwn) {
  require_root();
  if (IsSkipped()) return;
  open();
  ASSERT_TRUE(run(runner->start(shell("run.0.1", "id -u; id -G; sleep 60"))));
  ASSERT_TRUE(run(runner->start(shell("run.1.1", "id -u; id -G; sleep 60"))));
  ASSERT_TRUE(wait_output("run.0.1", "\n"));
  ASSERT_TRUE(wait_output("run.1.1", "\n"));
  const std::uint32_t first = status("run.0.1").uid, second = status("run.1.1").uid;
  EXPECT_NE(first, second);
  EXPECT_GE(first, options.uids.first);
  EXPECT_EQ(output("run.0.1"), fmt::format("{0}\n{0}\n", first));
  EXPECT_TRUE(has_uid(status("run.1.1").pid, second));
  EXPECT_TRUE(run(runner->stop("run.0.1", "STOPPED")));
  EXPECT_TRUE(run(runner->stop("run.1.1", "STOPPED")));
}

TEST_F(RunnerTest, HidesOneAttemptsFilesFromAnother) {
  require_root();
  if (IsSkipped()) return;
  open();
  AttemptSpec spec = shell("run.0.1", "sleep 60");
  spec.files = {{"secret", "s", false}};
  ASSERT_TRUE(run(runner->start(spec)));
  const std::string work = runner->work_folder("run.0.1").string();
  const auto& folder = runner->work_folder("run.0.1").parent_path().string();
  run_to_end(shell("run.1.1", fmt::format("cat {}/secret; cat {}/record.json; ls {}/log; true > {}/exit.json",
                                          work, folder, folder, folder)));
  const std::string text = output("run.1.1");
  EXPECT_EQ(text.find("\"state\""), std::string::npos);
  std::size_t denied = 0;
  for (std::size_t at = 0; (at = text.find("ermission denied", at)) != std::string::npos; ++at) ++denied;
  EXPECT_EQ(denied, 4U) << text;
  EXPECT_TRUE(run(runner->stop("run.0.1", "STOPPED")));
}

TEST_F(RunnerTest, AsksAProgramToEndBeforeItKills) {
  open();
  ASSERT_TRUE(run(runner->start(
      shell("run.0.1", "trap 'echo bye; exit 7' TERM; echo ready; while :; do sleep 0.05; done"))));
  ASSERT_TRUE(wait_output("run.0.1", "ready"));
  const auto exit = run(runner->stop("run.0.1", "STOPPED"));
  ASSERT_TRUE(exit);
  EXPECT_EQ(exit->reason, "STOPPED");
  EXPECT_EQ(exit->code, 7);
  EXPECT_EQ(output("run.0.1", 1), "ready\nbye\n");
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

// Two forks and a session of its own: no longer a child, not in the group, output closed.
constexpr const char* kSurvivor =
    "trap '' TERM; (setsid sh -c 'trap \"\" TERM; (sleep 300 >/dev/null 2>&1 & echo survivor $!); exit 0' &) "
    "; echo ready; ";

pid_t survivor_in(const std::string& text) { return std::atoi(text.c_str() + text.find("survivor ") + 9); }

TEST_F(RunnerTest, KillsASurvivorOfADoubleForkOnStop) {
  open();
  ASSERT_TRUE(run(runner->start(shell("run.0.1", std::string(kSurvivor) + "sleep 300"))));
  ASSERT_TRUE(wait_output("run.0.1", "survivor"));
  const pid_t survivor = survivor_in(output("run.0.1"));
  ASSERT_EQ(::kill(survivor, 0), 0);
  EXPECT_TRUE(run(runner->stop("run.0.1", "STOPPED")));
  EXPECT_FALSE(stat_of(survivor));
}

TEST_F(RunnerTest, KillsASurvivorOfADoubleForkWithoutRootToo) {
  options.privileged = false;
  open();
  ASSERT_TRUE(run(runner->start(shell("run.0.1", std::string(kSurvivor) + "sleep 300"))));
  ASSERT_TRUE(wait_output("run.0.1", "survivor"));
  const pid_t survivor = survivor_in(output("run.0.1"));
  ASSERT_EQ(::kill(survivor, 0), 0);
  const auto exit = run(runner->stop("run.0.1", "STOPPED"));
  EXPECT_FALSE(stat_of(survivor));
  EXPECT_THAT(exit->degradations, testing::Contains("no_root"));
  EXPECT_THAT(exit->degradations, testing::Contains("no_memory_limit"));
}

TEST_F(RunnerTest, KillsWhatAProgramLeavesBehindWhenItExits) {
  open();
  const ExitRecord exit = run_to_end(shell("run.0.1", std::string(kSurvivor) + "sleep 0.3; exit 0"));
  EXPECT_EQ(exit.reason, "EXIT");
  EXPECT_EQ(exit.code, 0);
  EXPECT_TRUE(exit.killed_at_end);
  EXPECT_FALSE(stat_of(survivor_in(output("run.0.1"))));
}

TEST_F(RunnerTest, StopsAnAttemptWhoseLeaseNobodyRenews) {
  open();
  AttemptSpec spec = shell("run.0.1", "sleep 300");
  spec.lease = 1500ms;
  ASSERT_TRUE(run(runner->start(spec)));
  const auto begin = std::chrono::steady_clock::now();
  run_until([&] { return std::chrono::steady_clock::now() - begin > 1s; });
  ASSERT_TRUE(runner->renew("run.0.1", 1500ms));
  ASSERT_TRUE(wait_end("run.0.1"));
  EXPECT_GE(std::chrono::steady_clock::now() - begin, 2400ms);
  EXPECT_EQ(status("run.0.1").exit->reason, "LEASE_EXPIRED");
  EXPECT_EQ(runner->renew("run.0.1", 1s).error().code, ErrorCode::NotFound);
}

TEST_F(RunnerTest, RotatesALongLogAndContinuesItsOffsets) {
  open();
  AttemptSpec spec = shell(
      "run.0.1", "i=0; while [ $i -lt 10 ]; do head -c 1048576 /dev/zero | tr '\\0' $i; i=$((i+1)); done");
  spec.limits.log_bytes_max = 4 << 20;
  const ExitRecord exit = run_to_end(spec);
  EXPECT_EQ(exit.log_dropped_bytes, 0U);
  std::uint64_t size = 0;
  for (const auto& entry : std::filesystem::directory_iterator(runner->work_folder("run.0.1") / "../log")) {
    size += entry.file_size();
  }
  EXPECT_LE(size, 4U << 20);
  const std::string rest = output("run.0.1", 1);
  EXPECT_GT(rest.size(), 3U << 20);
  EXPECT_EQ(rest.substr(rest.size() - (1 << 20)), std::string(1 << 20, '9'));
  EXPECT_TRUE(std::is_sorted(rest.begin(), rest.end()));
  const LogChunk first = runner->read_log("run.0.1", 0, 1 << 16).value();
  EXPECT_EQ(first.frames[0].stream, 3);
  EXPECT_GT(first.frames[1].offset, 6U << 20);
}

TEST_F(RunnerTest, KeepsAFolderForTheNextAttempt) {
  open();
  AttemptSpec spec =
      shell("run.0.1",
            "echo epoch 3 > $HIVEMETAL_CHECKPOINTS/state; ln /etc/hostname $HIVEMETAL_CHECKPOINTS/theirs");
  spec.keep = "run.0";
  run_to_end(spec);
  struct stat before{}, after{};
  ASSERT_EQ(::stat("/etc/hostname", &before), 0);
  spec.id = "run.0.2";
  spec.argv[2] =
      "cat $HIVEMETAL_CHECKPOINTS/state; echo epoch 4 >> $HIVEMETAL_CHECKPOINTS/state; cat "
      "$HIVEMETAL_CHECKPOINTS/state";
  run_to_end(spec);
  EXPECT_EQ(output("run.0.2"), "epoch 3\nepoch 3\nepoch 4\n");
  ASSERT_EQ(::stat("/etc/hostname", &after), 0);
  EXPECT_EQ(before.st_uid, after.st_uid);  // a link that a worker made gives it nothing
  EXPECT_TRUE(run(runner->remove_kept("run.0")));
  EXPECT_FALSE(std::filesystem::exists(options.directory / "kept/run.0"));
}

TEST_F(RunnerTest, SweepsWhatItsUserLeftInSharedFolders) {
  require_root();
  if (IsSkipped()) return;
  open();
  run_to_end(shell(
      "run.0.1",
      "mkdir -p /tmp/hivemetal-left/a/b; echo x > /dev/shm/hivemetal-left; mkfifo /tmp/hivemetal-left/f; "
      "python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"/tmp/hivemetal-left.sock\")'; "
      "ipcmk -M 4096 -S 1 -Q; ls /tmp/hivemetal-left.sock"));
  EXPECT_THAT(output("run.0.1", 1), HasSubstr("Shared memory id"));
  EXPECT_THAT(output("run.0.1", 1), HasSubstr("/tmp/hivemetal-left.sock"));
  EXPECT_EQ(traces(options), std::set<std::string>());
  for (const char* table : {"/proc/sysvipc/shm", "/proc/sysvipc/sem", "/proc/sysvipc/msg"}) {
    EXPECT_THAT(read_file(table).value(), Not(HasSubstr(fmt::format("{}", options.uids.first)))) << table;
  }
}

TEST_F(RunnerTest, DeletesWhateverAWorkerMade) {
  open();
  run_to_end(
      shell("run.0.1",
            "python3 -c '\nimport os\nfor i in range(700):\n  os.mkdir(\"d\"*200); os.chdir(\"d\"*200)\n"
            "open(b\"a\\nb\\xff\", \"w\")\nos.symlink(\"/etc\", \"link\")\n'; mkdir closed; touch closed/f; "
            "chmod 0 closed; echo done"));
  ASSERT_THAT(output("run.0.1"), HasSubstr("done"));
  const auto removed = run(runner->remove("run.0.1"));
  EXPECT_TRUE(removed) << removed.error().message;
  EXPECT_FALSE(std::filesystem::exists(options.directory / "attempts/run.0.1"));
  EXPECT_TRUE(std::filesystem::exists("/etc/passwd"));
  EXPECT_EQ(run(runner->remove("run.0.1")).error().code, ErrorCode::NotFound);
}

TEST_F(RunnerTest, LeavesTheMachineAsItWas) {
  require_root();
  if (IsSkipped()) return;
  const auto mounts = read_file("/proc/self/mounts").value();
  open();
  for (int i = 0; i < 3; ++i)
    run_to_end(shell(fmt::format("run.{}.1", i), "touch /tmp/hivemetal-left-$$; sleep 0.01"));
  AttemptSpec broken = shell("run.9.1", "");
  broken.argv = {"/nowhere"};
  EXPECT_FALSE(run(runner->start(broken)));
  close();
  EXPECT_EQ(traces(options), std::set<std::string>());
  EXPECT_EQ(read_file("/proc/self/mounts").value(), mounts);
  for (const auto& entry : std::filesystem::directory_iterator(options.machine / "uids")) {
    EXPECT_THAT((std::set<std::string>{"lock", "next"}), testing::Contains(entry.path().filename().string()));
  }
  EXPECT_EQ(cgroups_of_node(), std::vector<std::string>());
}

TEST_F(RunnerTest, RunsOnWhenTheDiskIsFull) {
  require_root();
  if (IsSkipped()) return;
  std::filesystem::create_directories(options.directory);
  ASSERT_EQ(::mount("tmpfs", options.directory.c_str(), "tmpfs", 0, "size=2m,mode=755"), 0);
  open();
  ASSERT_TRUE(
      run(runner->start(shell("run.0.1",
                              "echo first; "
                              "while [ ! -e go ]; do sleep 0.02; done; head -c 300000 /dev/zero; exit 5"))));
  ASSERT_TRUE(wait_output("run.0.1", "first"));
  {
    std::ofstream filler(options.directory / "filler", std::ios::binary);
    filler << std::string(4 << 20, 'x');
  }
  ASSERT_EQ(::symlink("/etc/passwd", (runner->work_folder("run.0.1") / "go").c_str()), 0);
  ASSERT_TRUE(wait_end("run.0.1"));
  const ExitRecord exit = *status("run.0.1").exit;
  EXPECT_EQ(exit.reason, "EXIT");
  EXPECT_EQ(exit.code, 5);
  EXPECT_GT(exit.log_dropped_bytes, 0U);
  EXPECT_TRUE(decode_exit_record(read_file(options.directory / "attempts/run.0.1/exit.json").value()));
  EXPECT_EQ(
      decode_attempt_record(read_file(options.directory / "attempts/run.0.1/record.json").value())->state,
      AttemptRecord::State::Cleaned);
  close();
  EXPECT_EQ(::umount(options.directory.c_str()), 0);
}

TEST_F(RunnerTest, ExplainsAFolderThatWorkersCannotReach) {
  require_root();
  if (IsSkipped()) return;
  std::filesystem::create_directories(options.directory);
  ::chmod(options.directory.c_str(), 0700);
  open();
  const auto started = run(runner->start(shell("run.0.1", "true")));
  ASSERT_FALSE(started);
  EXPECT_THAT(started.error().message, HasSubstr("chmod o+x"));
  EXPECT_EQ(status("run.0.1").exit->reason, "LAUNCH_FAILED");
  EXPECT_EQ(probe(options).findings.back().what, "closed_directory");
}

TEST_F(RunnerTest, RefusesTheSameIdAndTheSameKeptFolderTwice) {
  open();
  AttemptSpec spec = shell("run.0.1", "sleep 60");
  spec.keep = "run.0";
  ASSERT_TRUE(run(runner->start(spec)));
  EXPECT_EQ(run(runner->start(spec)).error().code, ErrorCode::Invalid);
  spec.id = "run.0.2";
  EXPECT_EQ(run(runner->start(spec)).error().code, ErrorCode::Refused);
  EXPECT_EQ(run(runner->remove("run.0.1")).error().code, ErrorCode::Refused);
  EXPECT_TRUE(run(runner->stop("run.0.1", "STOPPED")));
}

TEST_F(RunnerTest, SaysWhatTheMachineOffers) {
  const Confinement found = probe(options);
  EXPECT_EQ(found.root, ::getuid() == 0);
  BareMetalOptions without = options;
  without.privileged = false;
  const Confinement weak = probe(without);
  EXPECT_FALSE(weak.uid_per_attempt || weak.cgroup_kill || weak.cpu_limit || weak.memory_limit ||
               weak.pids_limit);
  for (const Finding& finding : weak.findings) {
    EXPECT_FALSE(finding.what.empty() || finding.consequence.empty() || finding.remedy.empty());
  }
  EXPECT_EQ(weak.findings.front().what, "no_root");
}

}  // namespace
}  // namespace hivemetal::runner
