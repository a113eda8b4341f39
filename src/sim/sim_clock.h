// Simulated time. It stands still while anything is runnable and then jumps to the next sleeper, so a day
// passes in milliseconds and every run with the same seed takes the same path.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <utility>

#include <boost/asio/io_context.hpp>

#include "base/asio.h"
#include "base/clock.h"

namespace hivemetal::sim {

class SimClock final : public Clock {
 public:
  // `start_unix` is what unix_time() says at the beginning.
  explicit SimClock(asio::io_context& loop, double start_unix = 1'700'000'000)
      : loop_(loop), start_unix_(start_unix) {}

  TimePoint now() const override { return now_; }
  double unix_time() const override;
  asio::awaitable<void> sleep_until(TimePoint time) override;

  // Calls `action` at `time`, outside every coroutine: cheaper than one that sleeps. `action` may wake others
  // and must not run the clock.
  using Timer = std::pair<TimePoint, std::uint64_t>;
  Timer call_at(TimePoint time, std::function<void()> action);

  // Does nothing if the action has run.
  void cancel(const Timer& timer) { timers_.erase(timer); }

  // Runs the loop until nothing is left to run and nobody sleeps, or `until` is reached.
  void run_until(TimePoint until);
  void run_for(Duration duration) { run_until(now_ + duration); }

  // Runs `work` on the loop to its end and returns its result; simulated time passes as needed.
  template <class T>
  T run(asio::awaitable<T> work);

 private:
  // Lets time jump to the first timer, not past `until`, and runs it; false if there is none.
  bool wake_next(TimePoint until);

  asio::io_context& loop_;
  double start_unix_;
  TimePoint now_{};
  std::uint64_t sequence_ = 0;
  std::map<Timer, std::function<void()>> timers_;  // those of one instant run in the order they were set
};

}  // namespace hivemetal::sim

#include "sim/sim_clock_run.h"
