#include "base/notification.h"

namespace hivemetal {

namespace {

// Keeps a waiter in the list for as long as its coroutine waits, cancelled or not.
template <class Channel>
class Enrolment {
 public:
  Enrolment(std::list<Channel*>& list, Channel* channel)
      : list_(list), place_(list.insert(list.end(), channel)) {}
  ~Enrolment() { list_.erase(place_); }
  Enrolment(const Enrolment&) = delete;
  Enrolment& operator=(const Enrolment&) = delete;

 private:
  std::list<Channel*>& list_;
  typename std::list<Channel*>::iterator place_;
};

}  // namespace

asio::awaitable<void> Notification::wait() {
  Channel channel(executor_, 1);
  const Enrolment<Channel> enrolment(waiters_, &channel);
  co_await channel.async_receive(asio::use_awaitable);
}

void Notification::notify_all() {
  for (Channel* channel : waiters_) channel->try_send(boost::system::error_code{});
}

}  // namespace hivemetal
