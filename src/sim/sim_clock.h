// Simulated time. It stands still while anything is runnable and then jumps to the next sleeper, so a day passes
// in milliseconds and every run with the same seed takes the same path.
#pragma once

#include <cstdint>
#include <map>

#include <boost/asio/experimental/channel.hpp>
#include <boost/asio/io_context.hpp>

#include "base/asio.h"
#include "base/clock.h"

namespace hivemetal::sim {

class SimClock final : public Clock {
 public:
  // `start_unix` is what unix_time() says at the beginning.
  explicit SimClock(asio::io_context& loop, double start_unix = 1'700'000'000) : loop_(loop), start_unix_(start_unix) {}

  TimePoint now() const override { return now_; }
  double unix_time() const override;
  asio::awaitable<void> sleep_until(TimePoint time) override;

  // Runs the loop until nothing is left to run and nobody sleeps, or `until` is reached.
  void run_until(TimePoint until);
  void run_for(Duration duration) { run_until(now_ + duration); }

  // Runs `work` on the loop to its end and returns its result; simulated time passes as needed.
  template <class T>
  T run(asio::awaitable<T> work);

 private:
  using Channel = asio::experimental::channel<void(boost::system::error_code)>;
  using Key = std::pair<TimePoint, std::uint64_t>;  // sleepers of one instant wake in the order they fell asleep

  // Lets time jump to the first sleeper, not past `until`; false if there is none.
  bool wake_next(TimePoint until);

  asio::io_context& loop_;
  double start_unix_;
  TimePoint now_{};
  std::uint64_t sequence_ = 0;
  std::map<Key, Channel*> sleepers_;
};

}  // namespace hivemetal::sim

#include "sim/sim_clock_run.h"
