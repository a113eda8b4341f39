#include "runner/fake/fake_runner.h"

#include <gtest/gtest.h>

#include <boost/asio/io_context.hpp>

#include "sim/sim_clock.h"

namespace hivemetal::runner {
namespace {

using namespace std::chrono_literals;

struct FakeRunnerTest : testing::Test {
  FakeRunnerTest() {
    runner.on_end([this](const AttemptStatus& status) { ended.push_back(status); });
  }
  ~FakeRunnerTest() override { clock.run(close()); }
  asio::awaitable<bool> close() {
    co_await runner.close();
    co_return true;
  }

  asio::io_context loop;
  sim::SimClock clock{loop};
  FakeRunner runner{loop.get_executor(), clock};
  std::vector<AttemptStatus> ended;
};

TEST_F(FakeRunnerTest, EndsAnAttemptAtItsScriptedTime) {
  runner.script([](const AttemptSpec&) {
    return FakeRunner::Script{.ends_after = 5s, .exit = {.reason = "EXIT", .code = 3}};
  });
  ASSERT_TRUE(clock.run(runner.start({.id = "run.0.1", .argv = {"train"}})));
  clock.run_for(4s);
  EXPECT_TRUE(ended.empty());
  clock.run_for(2s);
  ASSERT_EQ(ended.size(), 1U);
  EXPECT_EQ(ended[0].exit->code, 3);
}

TEST_F(FakeRunnerTest, ExpiresALeaseThatNobodyRenews) {
  ASSERT_TRUE(clock.run(runner.start({.id = "run.0.1", .argv = {"train"}, .lease = 10s})));
  clock.run_for(9s);
  ASSERT_TRUE(runner.renew("run.0.1", 10s));
  clock.run_for(9s);
  EXPECT_TRUE(ended.empty());
  clock.run_for(2s);
  ASSERT_EQ(ended.size(), 1U);
  EXPECT_EQ(ended[0].exit->reason, "LEASE_EXPIRED");
}

TEST_F(FakeRunnerTest, KeepsTheLogOffsetsOfARealRunner) {
  ASSERT_TRUE(clock.run(runner.start({.id = "run.0.1", .argv = {"train"}})));
  runner.print("run.0.1", 1, "one");
  const LogChunk first = runner.read_log("run.0.1", 0, 1000).value();
  runner.print("run.0.1", 2, "two");
  const LogChunk second = runner.read_log("run.0.1", first.next_offset, 1000).value();
  ASSERT_EQ(second.frames.size(), 1U);
  EXPECT_EQ(second.frames[0].bytes, "two");
  EXPECT_FALSE(second.ended);
  EXPECT_TRUE(clock.run(runner.stop("run.0.1", "STOPPED")));
  EXPECT_TRUE(runner.read_log("run.0.1", second.next_offset, 1000)->ended);
}

}  // namespace
}  // namespace hivemetal::runner
