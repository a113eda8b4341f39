#include "sim/sim_clock.h"

#include <algorithm>
#include <utility>

#include <boost/asio/experimental/channel.hpp>

namespace hivemetal::sim {

double SimClock::unix_time() const {
  return start_unix_ + std::chrono::duration<double>(now_.time_since_epoch()).count();
}

asio::awaitable<void> SimClock::sleep_until(TimePoint time) {
  // Even a sleep that is over already lets the others run first, as a real timer does.
  asio::experimental::channel<void(boost::system::error_code)> channel(loop_.get_executor(), 1);
  struct Sleeper {  // leaves the list however the sleep ends
    SimClock& clock;
    Timer timer;
    ~Sleeper() { clock.cancel(timer); }
  } const sleeper{*this, call_at(time, [&channel] { channel.try_send(boost::system::error_code{}); })};
  co_await channel.async_receive(asio::use_awaitable);
}

SimClock::Timer SimClock::call_at(TimePoint time, std::function<void()> action) {
  const Timer timer{std::max(time, now_), sequence_++};
  timers_.emplace_hint(timers_.end(), timer, std::move(action));
  return timer;
}

bool SimClock::wake_next(TimePoint until) {
  if (timers_.empty() || timers_.begin()->first.first > until) return false;
  const auto node = timers_.extract(timers_.begin());
  now_ = std::max(now_, node.key().first);
  node.mapped()();
  return true;
}

void SimClock::run_until(TimePoint until) {
  do {
    loop_.restart();
    loop_.poll();
  } while (wake_next(until));
  now_ = std::max(now_, until);
}

}  // namespace hivemetal::sim
