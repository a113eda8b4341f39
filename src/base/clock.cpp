#include "base/clock.h"

#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>

namespace hivemetal {

Clock::TimePoint SystemClock::now() const {
  return TimePoint(std::chrono::steady_clock::now().time_since_epoch());
}

double SystemClock::unix_time() const {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

asio::awaitable<void> SystemClock::sleep_until(TimePoint time) {
  asio::steady_timer timer(co_await asio::this_coro::executor);
  timer.expires_at(std::chrono::steady_clock::time_point(
      std::chrono::duration_cast<std::chrono::steady_clock::duration>(time.time_since_epoch())));
  co_await timer.async_wait(asio::use_awaitable);
}

}  // namespace hivemetal
