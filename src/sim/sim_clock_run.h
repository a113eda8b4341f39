// SimClock::run, which is a template. Included by sim/sim_clock.h only.
#pragma once

#include <exception>
#include <optional>

#include <boost/asio/co_spawn.hpp>

#include "base/check.h"

namespace hivemetal::sim {

template <class T>
T SimClock::run(asio::awaitable<T> work) {
  std::exception_ptr failure;
  bool done = false;
  const auto finish = [&failure, &done](std::exception_ptr exception) {
    failure = std::move(exception);
    done = true;
  };
  const auto spin = [&, this] {
    while (!done) {
      loop_.restart();
      if (loop_.poll() > 0) continue;
      HIVEMETAL_CHECK(wake_next(TimePoint::max()));  // everybody waits for somebody: a deadlock
    }
  };
  if constexpr (std::is_void_v<T>) {
    asio::co_spawn(loop_, std::move(work),
                   [&finish](std::exception_ptr exception) { finish(std::move(exception)); });
    spin();
    if (failure) std::rethrow_exception(failure);
  } else {
    std::optional<T> result;
    asio::co_spawn(loop_, std::move(work), [&finish, &result](std::exception_ptr exception, T value) {
      if (!exception) result.emplace(std::move(value));
      finish(std::move(exception));
    });
    spin();
    if (failure) std::rethrow_exception(failure);
    return std::move(*result);
  }
}

}  // namespace hivemetal::sim
