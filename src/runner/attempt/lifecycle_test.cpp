#include "runner/attempt/lifecycle.h"

#include <cerrno>
#include <gtest/gtest.h>
#include <signal.h>

namespace hivemetal::runner {
namespace {

using Action = Lifecycle::Action;

constexpr std::int64_t kSecond = 1'000'000'000;
constexpr int kExit3 = 3 << 8;

TEST(Lifecycle, FinishesWhenTheProgramLeavesNothingBehind) {
  Lifecycle life(10'000, 0, 0);
  EXPECT_EQ(life.next(kSecond), Action::None);
  life.program_ended(kExit3, kSecond);
  life.all_gone();
  EXPECT_EQ(life.next(kSecond), Action::Finish);
  const ExitRecord exit = life.conclude(0);
  EXPECT_EQ(exit.reason, "EXIT");
  EXPECT_EQ(exit.code, 3);
  EXPECT_FALSE(exit.killed_at_end);
}

TEST(Lifecycle, KillsWhatTheProgramLeftAfterASecond) {
  Lifecycle life(10'000, 0, 0);
  life.program_ended(0, kSecond);
  EXPECT_EQ(life.next(kSecond), Action::None);
  EXPECT_EQ(life.wake_at(), 2 * kSecond);
  EXPECT_EQ(life.next(2 * kSecond), Action::Kill);
  life.all_gone();
  EXPECT_TRUE(life.conclude(0).killed_at_end);
  EXPECT_EQ(life.conclude(0).reason, "EXIT");
}

TEST(Lifecycle, KillsTheRestAtOnceWhenASignalEndedTheProgram) {
  Lifecycle life(10'000, 0, 0);
  life.program_ended(SIGSEGV, kSecond);
  EXPECT_EQ(life.next(kSecond), Action::Kill);
  EXPECT_EQ(life.conclude(0).reason, "SIGNAL");
}

TEST(Lifecycle, AsksFirstAndKillsAfterTheGrace) {
  Lifecycle life(10'000, 0, 0);
  life.stop("STOPPED", -1, kSecond);
  EXPECT_EQ(life.next(kSecond), Action::Terminate);
  EXPECT_EQ(life.next(kSecond), Action::None);
  EXPECT_EQ(life.next(11 * kSecond - 1), Action::None);
  EXPECT_EQ(life.next(11 * kSecond), Action::Kill);
  EXPECT_EQ(life.next(11 * kSecond), Action::None);
  EXPECT_EQ(life.next(12 * kSecond), Action::Kill);
}

TEST(Lifecycle, CallsAnAttemptUnkillableAfterHalfAMinute) {
  Lifecycle life(0, 0, 0);
  life.stop("STOPPED", -1, 0);
  EXPECT_EQ(life.next(0), Action::Terminate);
  EXPECT_EQ(life.next(0), Action::Kill);
  EXPECT_EQ(life.next(30 * kSecond), Action::Finish);
  EXPECT_EQ(life.conclude(0).reason, "UNKILLABLE");
}

TEST(Lifecycle, StopsItselfWhenNobodyRenewsTheLease) {
  Lifecycle life(1'000, 5'000, 0);
  life.renew(5'000, 3 * kSecond);
  EXPECT_EQ(life.next(7 * kSecond), Action::None);
  EXPECT_EQ(life.wake_at(), 8 * kSecond);
  EXPECT_EQ(life.next(8 * kSecond), Action::Terminate);
  life.program_ended(SIGTERM, 8 * kSecond);
  EXPECT_EQ(life.conclude(0).reason, "LEASE_EXPIRED");
}

TEST(Lifecycle, PutsMemoryBeforeAStopAndAStopBeforeASignal) {
  Lifecycle both(1'000, 0, 0);
  both.stop("STOPPED", -1, 0);
  both.out_of_memory(0);
  both.program_ended(SIGKILL, 0);
  EXPECT_EQ(both.conclude(1).reason, "OOM");

  Lifecycle stopped(1'000, 0, 0);
  stopped.stop("STOPPED", -1, 0);
  stopped.program_ended(SIGTERM, 0);
  EXPECT_EQ(stopped.conclude(0).reason, "STOPPED");
}

TEST(Lifecycle, ReportsAnExitWithOomKillsAsAnExit) {
  Lifecycle life(1'000, 0, 0);
  life.program_ended(0, 0);
  EXPECT_EQ(life.conclude(1).reason, "EXIT");
  EXPECT_EQ(life.conclude(1).oom_kills, 1U);
}

TEST(Lifecycle, KeepsTheProgramsOwnEndWhenTheStopComesLate) {
  Lifecycle life(60'000, 0, 0);
  life.program_ended(kExit3, 0);
  life.stop("STOPPED", -1, 1);
  EXPECT_EQ(life.next(1), Action::Kill);
  EXPECT_EQ(life.conclude(0).reason, "EXIT");
}

TEST(Lifecycle, KeepsAReasonItDoesNotKnowAsDetail) {
  Lifecycle life(0, 0, 0);
  life.stop("the swarm moved it", -1, 0);
  EXPECT_EQ(life.conclude(0).reason, "STOPPED");
  EXPECT_EQ(life.conclude(0).detail, "the swarm moved it");
}

TEST(Lifecycle, CallsAFileAtTheDiskLimitDiskFull) {
  Lifecycle life(0, 0, 0);
  life.program_ended(SIGXFSZ, 0);
  EXPECT_EQ(life.conclude(0).reason, "DISK_FULL");
}

TEST(LaunchFailure, HasTheCodesOfAShellForExecAlone) {
  EXPECT_EQ(launch_failure("exec", ENOENT, "x").code, 127);
  EXPECT_EQ(launch_failure("exec", EACCES, "x").code, 126);
  const ExitRecord exit = launch_failure("rlimits", EPERM, "");
  EXPECT_EQ(exit.reason, "LAUNCH_FAILED");
  EXPECT_EQ(exit.code, std::nullopt);
  EXPECT_EQ(exit.detail, "rlimits: EPERM");
}

}  // namespace
}  // namespace hivemetal::runner
