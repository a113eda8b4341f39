#include "sim/sim_clock.h"

#include <gtest/gtest.h>
#include <vector>

#include <boost/asio/detached.hpp>

namespace hivemetal::sim {
namespace {

using namespace std::chrono_literals;

asio::awaitable<void> note_after(Clock& clock, Clock::Duration delay, int name, std::vector<int>& order) {
  co_await clock.sleep_for(delay);
  order.push_back(name);
}

TEST(SimClock, LetsADayPassAtOnceAndWakesSleepersInOrder) {
  asio::io_context loop;
  SimClock clock(loop);
  std::vector<int> order;
  asio::co_spawn(loop, note_after(clock, 24h, 3, order), asio::detached);
  asio::co_spawn(loop, note_after(clock, 1s, 1, order), asio::detached);
  asio::co_spawn(loop, note_after(clock, 1s, 2, order), asio::detached);
  const double before = clock.unix_time();
  clock.run_for(48h);
  EXPECT_EQ(order, (std::vector{1, 2, 3}));
  EXPECT_DOUBLE_EQ(clock.unix_time() - before, 48 * 3600);
}

TEST(SimClock, StopsAtTheGivenTimeAndGoesOnLater) {
  asio::io_context loop;
  SimClock clock(loop);
  std::vector<int> order;
  asio::co_spawn(loop, note_after(clock, 10s, 1, order), asio::detached);
  clock.run_for(9s);
  EXPECT_TRUE(order.empty());
  clock.run_for(1s);
  EXPECT_EQ(order.size(), 1U);
}

TEST(SimClock, RunsACoroutineToItsEnd) {
  asio::io_context loop;
  SimClock clock(loop);
  const auto work = [](Clock& clock) -> asio::awaitable<int> {
    co_await clock.sleep_for(1h);
    co_return 42;
  };
  EXPECT_EQ(clock.run(work(clock)), 42);
}

TEST(SimClock, CallsActionsInOrderOfTimeAndNotAfterTheyAreCancelled) {
  asio::io_context loop;
  SimClock clock(loop);
  std::vector<int> order;
  clock.call_at(clock.now() + 2s, [&order] { order.push_back(2); });
  clock.call_at(clock.now() + 1s, [&order] { order.push_back(1); });
  const auto timer = clock.call_at(clock.now() + 1s, [&order] { order.push_back(99); });
  clock.cancel(timer);
  clock.run_for(3s);
  clock.cancel(timer);
  EXPECT_EQ(order, (std::vector{1, 2}));
}

}  // namespace
}  // namespace hivemetal::sim
