// Unix sockets to and from p2pd: a stream that is a socket, and messages with their length in front.
#pragma once

#include <memory>
#include <string>

#include <boost/asio/local/stream_protocol.hpp>

#include "p2p/network.h"
#include "p2p/network_stats.h"

namespace hivemetal::p2p {

using Socket = asio::local::stream_protocol::socket;

// Processes that we start must not inherit a socket: p2pd lives for as long as its last client's is open.
void close_on_exec(int descriptor);

// Connects to the socket at `path`. Unavailable if nobody listens there.
asio::awaitable<Result<std::unique_ptr<Socket>>> connect_socket(std::string path);

// Reads one message and not a byte more: what follows belongs to the stream. Fails with Invalid if the
// message is larger than `bytes_max` or its length is no number, with Unavailable at the end of the stream.
asio::awaitable<Result<Bytes>> read_message(Socket& socket, std::size_t bytes_max);

// Writes `message` with its length in front.
asio::awaitable<Result<void>> write_message(Socket& socket, Bytes message);

class SocketStream final : public Stream {
 public:
  // `incoming` says whether the peer opened it.
  SocketStream(std::unique_ptr<Socket> socket, PeerId peer, std::shared_ptr<NetworkStats> stats,
               bool incoming);
  ~SocketStream() override;

  const PeerId& peer() const override { return peer_; }
  asio::awaitable<Result<std::size_t>> read_some(std::span<char> buffer) override;
  asio::awaitable<Result<void>> write(std::string_view bytes) override;
  void close() override;

 private:
  std::unique_ptr<Socket> socket_;
  PeerId peer_;
  std::shared_ptr<NetworkStats> stats_;
  bool incoming_;
};

}  // namespace hivemetal::p2p
