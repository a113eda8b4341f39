// Time as an argument. No class knows what time it is: code that waits takes a `Clock&`, so that a test
// (sim/sim_clock.h) can let hours pass in a millisecond and always in the same order.
#pragma once

#include <chrono>

#include "base/asio.h"
#include "base/result.h"

namespace hivemetal {

class Clock {
 public:
  using Duration = std::chrono::nanoseconds;
  using TimePoint = std::chrono::time_point<Clock, Duration>;  // monotonic; only differences have a meaning

  virtual ~Clock() = default;

  virtual TimePoint now() const = 0;

  // Seconds since 1970 by the local system clock: Hivemind's "DHT time" and the unit of record expirations.
  virtual double unix_time() const = 0;

  // Returns at `time`, at once if it has passed. Ends early, by an operation_aborted exception, when the
  // awaiting coroutine is cancelled.
  virtual asio::awaitable<void> sleep_until(TimePoint time) = 0;

  asio::awaitable<void> sleep_for(Duration duration) { return sleep_until(now() + duration); }
};

class SystemClock final : public Clock {
 public:
  TimePoint now() const override;
  double unix_time() const override;
  asio::awaitable<void> sleep_until(TimePoint time) override;
};

}  // namespace hivemetal
