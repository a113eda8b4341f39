// Lines: one stream between two of our nodes that carries their DHT requests, in place of a stream per
// request.
//
// A unary call costs p2pd a new libp2p stream and its negotiation, several times what the request itself
// costs. So the second call of a peer, or prepare(), also opens a stream to the protocol below; calls go over
// it from then on, many at a time. Stock nodes do not know the protocol, say so once, and are left alone with
// it for a while: to them nothing changes. If a line breaks or does not answer in time it is dropped, and the
// next call is unary again.
//
//      frame    = uvarint length, id (4 bytes, big-endian), kind (1 byte), content
//      request  = kind 1 rpc_store, 2 rpc_find; content as in the unary call
//      reply    = kind 0 with the reply, or 1 with the text of an error; same id
//
// Requests of one line are answered in their order.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string_view>
#include <unordered_map>

#include "base/asio.h"
#include "base/clock.h"
#include "base/notification.h"
#include "base/task_group.h"
#include "p2p/network.h"
#include "wire/framing.h"

namespace hivemetal::dht {

inline constexpr std::string_view kLineProtocol = "/hivemetal/dht/1";

class Lines {
 public:
  Lines(asio::any_io_executor executor, Clock& clock, p2p::Network& network);

  // As Network::call(), over a line if there is one. `handle` is kStore or kFind.
  asio::awaitable<Result<Bytes>> call(p2p::PeerId peer, std::string_view handle, Bytes request,
                                      Clock::TimePoint deadline);

  // Opens a line now, to a peer that will be called often.
  void prepare(const p2p::PeerId& peer);

  // Ends all lines; calls in progress fail with Cancelled.
  asio::awaitable<void> close();

  std::size_t open() const { return open_; }

 private:
  struct Waiting;
  struct Line;
  struct Known {
    std::shared_ptr<Line> line;
    bool opening = false;
    unsigned calls = 0;
    Clock::TimePoint none_until{};  // no use in trying before
  };

  Known& known(const p2p::PeerId& peer);
  asio::awaitable<void> open_line(p2p::PeerId peer);
  asio::awaitable<Result<Bytes>> ask(p2p::PeerId peer, std::shared_ptr<Line> line, std::string_view handle,
                                     Bytes request, Clock::TimePoint deadline);
  asio::awaitable<void> watch(p2p::PeerId peer, std::shared_ptr<Line> line);
  asio::awaitable<void> write_out(p2p::PeerId peer, std::shared_ptr<Line> line);
  asio::awaitable<void> read_in(p2p::PeerId peer, std::shared_ptr<Line> line);
  static bool take_replies(Line& line);
  void drop(const p2p::PeerId& peer, const std::shared_ptr<Line>& line, const Error& why);

  asio::any_io_executor executor_;
  Clock& clock_;
  p2p::Network& network_;
  std::unordered_map<p2p::PeerId, Known> known_;
  std::size_t open_ = 0;
  TaskGroup tasks_;
};

// The other end: answers the requests of a line until it ends, however long that is. `answer` gets the handle
// and the request. A peer that does not read its replies blocks its own line only.
using LineHandler =
    std::function<asio::awaitable<Result<Bytes>>(p2p::PeerId, std::string_view handle, Bytes)>;
asio::awaitable<void> serve_line(std::unique_ptr<p2p::Stream> stream, LineHandler answer);

}  // namespace hivemetal::dht
