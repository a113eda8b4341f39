#include "runner/baremetal/adoption.h"

#include <gtest/gtest.h>

namespace hivemetal::runner {
namespace {

using State = AttemptRecord::State;

TEST(Adoption, FollowsTheTable) {
  EXPECT_EQ(adoption_of({.state = State::Running, .guard_answers = true, .populated = true}),
            Adoption::Resume);
  EXPECT_EQ(adoption_of({.state = State::Launching, .guard_answers = true}), Adoption::Resume);
  EXPECT_EQ(adoption_of({.state = State::Stopping, .guard_answers = true}), Adoption::Resume);
  EXPECT_EQ(adoption_of({.state = State::Running, .exit_recorded = true}), Adoption::TakeExit);
  EXPECT_EQ(adoption_of({.state = State::Running, .populated = true}), Adoption::LostGuard);
  EXPECT_EQ(adoption_of({.state = State::Running}), Adoption::UnknownExit);
  EXPECT_EQ(adoption_of({.state = State::Preparing}), Adoption::Undo);
  EXPECT_EQ(adoption_of({.state = State::Launching, .populated = true}), Adoption::Undo);
  EXPECT_EQ(adoption_of({.state = State::Running, .same_boot = false}), Adoption::LostReboot);
  EXPECT_EQ(adoption_of({.state = State::Ended}), Adoption::TakeExit);
  EXPECT_EQ(adoption_of({.state = State::Cleaned}), Adoption::Load);
}

TEST(Adoption, BelievesARecordedExitAcrossAReboot) {
  EXPECT_EQ(adoption_of({.state = State::Running, .same_boot = false, .exit_recorded = true}),
            Adoption::TakeExit);
}

TEST(Adoption, NeverTouchesACleanedAttemptAgain) {
  for (int bits = 0; bits < 16; ++bits) {
    EXPECT_EQ(
        adoption_of({State::Cleaned, (bits & 1) != 0, (bits & 2) != 0, (bits & 4) != 0, (bits & 8) != 0}),
        Adoption::Load);
  }
}

}  // namespace
}  // namespace hivemetal::runner
