// A limit on how long a coroutine may take. Every wait for a peer, a process or a disk has one.
#pragma once

#include <utility>
#include <variant>

#include <boost/asio/experimental/awaitable_operators.hpp>

#include "base/asio.h"
#include "base/clock.h"
#include "base/result.h"

namespace hivemetal {

// The result of `work`, or TimedOut at `deadline`; `work` is cancelled then, and has ended when this returns.
// Whatever `work` awaits must therefore honour Asio's cancellation.
template <class T>
asio::awaitable<Result<T>> with_deadline(Clock& clock, Clock::TimePoint deadline,
                                         asio::awaitable<Result<T>> work) {
  using namespace asio::experimental::awaitable_operators;
  auto first = co_await (std::move(work) || clock.sleep_until(deadline));
  if (first.index() == 0) co_return std::get<0>(std::move(first));
  co_return Error{ErrorCode::TimedOut, "no answer within the deadline"};
}

}  // namespace hivemetal
