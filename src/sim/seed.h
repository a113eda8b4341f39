// The seed of a randomised test, and how to run the same case again. For tests only: needs GoogleTest.
//
//     const std::uint64_t seed = sim::test_seed();
//     SCOPED_TRACE(sim::repeat_with(seed));
#pragma once

#include <cstdint>
#include <cstdlib>
#include <gtest/gtest.h>
#include <string>

namespace hivemetal::sim {

// HIVEMETAL_SEED if it is set to a number, else `fixed`.
inline std::uint64_t test_seed(std::uint64_t fixed = 1) {
  const char* text = std::getenv("HIVEMETAL_SEED");  // NOLINT(concurrency-mt-unsafe): tests have one thread
  return text == nullptr || *text == '\0' ? fixed : std::strtoull(text, nullptr, 10);
}

// The command that repeats the running test with `seed`; gtest prints it with every failure in its scope.
inline std::string repeat_with(std::uint64_t seed) {
  const testing::TestInfo* test = testing::UnitTest::GetInstance()->current_test_info();
  const std::string name = test == nullptr ? "*" : std::string(test->test_suite_name()) + "." + test->name();
  const auto arguments = testing::internal::GetArgvs();
  const std::string program = arguments.empty() ? "the test" : arguments[0];
  return "repeat with: HIVEMETAL_SEED=" + std::to_string(seed) + " " + program + " --gtest_filter=" + name;
}

}  // namespace hivemetal::sim
