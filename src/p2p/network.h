// The network as the rest of the program sees it: peers are named by their ids, and there are unary calls and
// streams. One implementation drives libp2p's daemon (p2p/daemon_network.h), one is a simulation
// (sim/sim_network.h). Only this folder knows that libp2p exists.
//
// Contract of both:
//   - Everything runs on one executor, the loop's; no member is thread-safe.
//   - Every wait ends at its deadline, or when the awaiting coroutine is cancelled.
//   - A peer may send anything. Sizes are checked before memory is allocated for them.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/asio.h"
#include "base/bytes.h"
#include "base/clock.h"
#include "base/result.h"
#include "identity/multiaddr.h"
#include "identity/peer_id.h"

namespace hivemetal::p2p {

using identity::Multiaddr;
using identity::PeerId;

// The cap on one serialized unary message, in bytes, that stock Hivemind daemons run with.
inline constexpr std::size_t kUnaryMessageBytesMax = 4 * 1024 * 1024;

// The size on the wire of a request with `payload` bytes, and of a reply: what kUnaryMessageBytesMax bounds.
std::size_t unary_request_bytes(const PeerId& peer, std::string_view handle, std::size_t payload);
std::size_t unary_reply_bytes(std::size_t payload);

// A stream of bytes between two peers. Owned by whoever opened or was handed it; destroying it resets it.
class Stream {
 public:
  virtual ~Stream() = default;

  // Who is at the other end; authenticated by the transport.
  virtual const PeerId& peer() const = 0;

  // Reads at least 1 and at most buffer.size() bytes; 0 at the end of the stream.
  virtual asio::awaitable<Result<std::size_t>> read_some(std::span<char> buffer) = 0;

  // Returns when all of `bytes` has been handed to the transport. `bytes` must stay valid until then.
  virtual asio::awaitable<Result<void>> write(std::string_view bytes) = 0;

  // Says that no more bytes will come and nothing more is read: with a daemon in between, a half-closed
  // stream does not exist (the end of one direction ends both).
  virtual void close() = 0;
};

// Exactly `size` bytes; check `size` before, it is allocated. Fails with Invalid at an early end of the
// stream.
asio::awaitable<Result<Bytes>> read_exactly(Stream& stream, std::size_t size);

// A request of `peer` for the handle it was registered under. An error is sent as text; the caller sees
// Refused.
using UnaryHandler = std::function<asio::awaitable<Result<Bytes>>(PeerId peer, Bytes request)>;
using StreamHandler = std::function<asio::awaitable<void>(std::unique_ptr<Stream> stream)>;

struct PeerInfo {
  PeerId peer;
  std::vector<Multiaddr> addresses;
};

class Network {
 public:
  virtual ~Network() = default;

  virtual const PeerId& self() const = 0;

  // Our own addresses, each with its /p2p component: what others put into `initial_peers`.
  virtual std::vector<Multiaddr> addresses() const = 0;

  // Connects to a peer at an address that ends in /p2p. Unavailable if nobody answers there.
  virtual asio::awaitable<Result<void>> connect(Multiaddr address, Clock::TimePoint deadline) = 0;

  // The peers we have a connection to.
  virtual asio::awaitable<Result<std::vector<PeerInfo>>> peers(Clock::TimePoint deadline) = 0;

  // Sends `request` to the handler that `peer` registered as `handle` and returns its reply.
  //   Invalid      the request is larger than kUnaryMessageBytesMax allows
  //   NotFound     the peer serves no such handle
  //   Refused      the handler failed; the message is what it said
  //   Unavailable  no connection to the peer, or it was lost
  virtual asio::awaitable<Result<Bytes>> call(PeerId peer, std::string handle, Bytes request,
                                              Clock::TimePoint deadline) = 0;

  // Opens a stream to the handler that `peer` registered as `protocol`.
  virtual asio::awaitable<Result<std::unique_ptr<Stream>>> open_stream(PeerId peer, std::string protocol,
                                                                       Clock::TimePoint deadline) = 0;

  // Registers a handler. It stays registered across restarts of the daemon. Refused if the name is taken.
  virtual asio::awaitable<Result<void>> serve(std::string handle, UnaryHandler handler) = 0;
  virtual asio::awaitable<Result<void>> serve_stream(std::string protocol, StreamHandler handler) = 0;

  // Removes a handler of either kind; calls in progress are cancelled and have ended when this returns. So it
  // must not be awaited by the handler itself.
  virtual asio::awaitable<void> stop_serving(std::string handle) = 0;
};

}  // namespace hivemetal::p2p
