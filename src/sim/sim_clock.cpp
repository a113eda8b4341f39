#include "sim/sim_clock.h"

#include <algorithm>
#include <utility>

namespace hivemetal::sim {

double SimClock::unix_time() const {
  return start_unix_ + std::chrono::duration<double>(now_.time_since_epoch()).count();
}

asio::awaitable<void> SimClock::sleep_until(TimePoint time) {
  // Even a sleep that is over already lets the others run first, as a real timer does.
  Channel channel(loop_.get_executor(), 1);
  const Key key{std::max(time, now_), sequence_++};
  struct Sleeper {  // leaves the list however the sleep ends
    std::map<Key, Channel*>& list;
    Key key;
    ~Sleeper() { list.erase(key); }
  } const sleeper{sleepers_, key};
  sleepers_.emplace(key, &channel);
  co_await channel.async_receive(asio::use_awaitable);
}

bool SimClock::wake_next(TimePoint until) {
  for (auto& [key, sleeper] : sleepers_) {
    if (sleeper == nullptr) continue;  // woken already, about to run
    if (key.first > until) return false;
    now_ = std::max(now_, key.first);
    std::exchange(sleeper, nullptr)->try_send(boost::system::error_code{});
    return true;
  }
  return false;
}

void SimClock::run_until(TimePoint until) {
  do {
    loop_.restart();
    loop_.poll();
  } while (wake_next(until));
  now_ = std::max(now_, until);
}

}  // namespace hivemetal::sim
