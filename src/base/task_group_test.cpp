#include "base/task_group.h"

#include <gtest/gtest.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/use_future.hpp>

#include "base/clock.h"
#include "base/deadline.h"

namespace hivemetal {
namespace {

using namespace std::chrono_literals;

asio::awaitable<void> sleep_for_a_year(Clock& clock, bool& ended) {
  struct Flag {
    bool& ended;
    ~Flag() { ended = true; }
  } const flag{ended};
  co_await clock.sleep_for(24h * 365);
}

asio::awaitable<Result<int>> answer_after(Clock& clock, Clock::Duration delay, int value) {
  co_await clock.sleep_for(delay);
  co_return value;
}

TEST(TaskGroup, CloseCancelsEveryTaskAndWaitsForItsEnd) {
  asio::io_context loop;
  SystemClock clock;
  TaskGroup tasks(loop.get_executor());
  bool first = false;
  bool second = false;
  tasks.spawn("first", sleep_for_a_year(clock, first));
  tasks.spawn("second", sleep_for_a_year(clock, second));
  asio::co_spawn(loop, tasks.close(), asio::detached);
  loop.run();
  EXPECT_TRUE(first);
  EXPECT_TRUE(second);
  EXPECT_EQ(tasks.size(), 0U);
}

TEST(TaskGroup, DropsATaskThatComesAfterClose) {
  asio::io_context loop;
  SystemClock clock;
  TaskGroup tasks(loop.get_executor());
  asio::co_spawn(loop, tasks.close(), asio::detached);
  loop.run();
  bool ended = false;
  tasks.spawn("late", sleep_for_a_year(clock, ended));
  EXPECT_EQ(tasks.size(), 0U);
}

asio::awaitable<void> wait_within(Clock& clock, bool& ended) {
  struct Flag {
    bool& ended;
    ~Flag() { ended = true; }
  } const flag{ended};
  (void)co_await with_deadline(clock, clock.now() + 1h, answer_after(clock, 1h, 7));
}

TEST(TaskGroup, TakesACancelledWaitWithADeadlineForACancellation) {
  asio::io_context loop;
  SystemClock clock;
  TaskGroup tasks(loop.get_executor());
  bool ended = false;
  tasks.spawn("waits", wait_within(clock, ended));
  loop.poll();
  asio::co_spawn(loop, tasks.close(), asio::detached);
  loop.restart();
  loop.run();
  EXPECT_TRUE(ended);
}

TEST(TaskGroup, CancelsOneTaskAndLeavesTheOthers) {
  asio::io_context loop;
  SystemClock clock;
  TaskGroup tasks(loop.get_executor());
  bool first = false;
  bool second = false;
  const auto id = tasks.spawn("first", sleep_for_a_year(clock, first));
  tasks.spawn("second", sleep_for_a_year(clock, second));
  loop.poll();
  tasks.cancel(id);
  loop.poll();
  EXPECT_TRUE(first);
  EXPECT_FALSE(second);
  tasks.cancel(id);  // ended: nothing happens
  asio::co_spawn(loop, tasks.close(), asio::detached);
  loop.run();
}

TEST(Deadline, ReturnsTheResultThatCameInTime) {
  asio::io_context loop;
  SystemClock clock;
  auto result = asio::co_spawn(loop, with_deadline(clock, clock.now() + 1h, answer_after(clock, 0ms, 7)),
                               asio::use_future);
  loop.run();
  EXPECT_EQ(result.get().value(), 7);
}

TEST(Deadline, CancelsWorkThatIsLate) {
  asio::io_context loop;
  SystemClock clock;
  auto result = asio::co_spawn(loop, with_deadline(clock, clock.now() + 1ms, answer_after(clock, 1h, 7)),
                               asio::use_future);
  loop.run();  // returns only because the sleep of an hour was cancelled
  EXPECT_EQ(result.get().error().code, ErrorCode::TimedOut);
}

TEST(Notification, WakesEverybodyWhoWaits) {
  asio::io_context loop;
  Notification changed(loop.get_executor());
  int woken = 0;
  const auto waiter = [](Notification& changed, int& woken) -> asio::awaitable<void> {
    co_await changed.wait();
    ++woken;
  };
  asio::co_spawn(loop, waiter(changed, woken), asio::detached);
  asio::co_spawn(loop, waiter(changed, woken), asio::detached);
  loop.poll();
  changed.notify_all();
  loop.restart();
  loop.run();
  EXPECT_EQ(woken, 2);
}

}  // namespace
}  // namespace hivemetal
