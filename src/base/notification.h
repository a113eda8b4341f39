// "Something changed, look again": a condition variable for coroutines of one loop.
#pragma once

#include <list>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/experimental/channel.hpp>

#include "base/asio.h"

namespace hivemetal {

// All waiters and the notifier run on one executor; there is no lock. A waiter re-checks its condition:
//
//     while (!ready_) co_await changed_.wait();
class Notification {
 public:
  explicit Notification(asio::any_io_executor executor) : executor_(std::move(executor)) {}

  // Returns after the next notify_all(). Ends by an operation_aborted exception on cancellation.
  asio::awaitable<void> wait();

  // Wakes all who wait now. Never blocks and never runs a waiter inside this call.
  void notify_all();

 private:
  using Channel = asio::experimental::channel<void(boost::system::error_code)>;

  asio::any_io_executor executor_;
  std::list<Channel*> waiters_;
};

}  // namespace hivemetal
