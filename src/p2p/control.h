// Requests to p2pd's control socket, one connection for each.
//
//      IDENTIFY, CONNECT, LIST_PEERS, DISCONNECT, (REMOVE_)STREAM_HANDLER    request, response, end
//      STREAM_OPEN                                                           the socket becomes the stream
//      PERSISTENT_CONN_UPGRADE                                               the socket goes to
//      p2p/persistent.h
//
// Nothing is sent behind a request before its response: p2pd reads ahead, and would lose it.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "p2p/network.h"
#include "p2p/network_stats.h"
#include "p2p/socket.h"
#include "wire/p2pd.pb.h"

namespace hivemetal::p2p {

// What an error text of p2pd means: NotFound if the peer does not serve the protocol, else Unavailable.
Error error_from_daemon(std::string_view text);

// Parses a response. An ERROR becomes an Error with p2pd's text; Invalid if the bytes are no response, or one
// that misses what it must have.
Result<wire::p2pd::Response> parse_control_response(std::string_view bytes);

// Reads p2pd's list of peers: one entry per peer; ids and addresses that cannot be read are left out.
std::vector<PeerInfo> peers_of(const wire::p2pd::Response& response);

// Who opened an inbound stream, and for which protocol.
struct StreamInfo {
  PeerId peer;
  std::string protocol;
};

inline constexpr std::size_t kStreamInfoBytesMax = 4096;

Result<StreamInfo> parse_stream_info(std::string_view bytes);

class Control {
 public:
  Control(Clock& clock, std::string socket_path, std::shared_ptr<NetworkStats> stats)
      : clock_(clock), socket_path_(std::move(socket_path)), stats_(std::move(stats)) {}

  // Our own id and addresses, these without /p2p.
  asio::awaitable<Result<PeerInfo>> identify(Clock::TimePoint deadline);

  asio::awaitable<Result<void>> connect(PeerInfo peer, Clock::TimePoint deadline);
  asio::awaitable<Result<void>> disconnect(PeerId peer, Clock::TimePoint deadline);
  asio::awaitable<Result<std::vector<PeerInfo>>> list_peers(Clock::TimePoint deadline);
  asio::awaitable<Result<std::unique_ptr<Stream>>> open_stream(PeerId peer, std::string protocol,
                                                               Clock::TimePoint deadline);

  // From now on p2pd dials the socket at `listener` for each inbound stream of `protocol`.
  asio::awaitable<Result<void>> add_stream_handler(Multiaddr listener, std::string protocol,
                                                   Clock::TimePoint deadline);
  asio::awaitable<Result<void>> remove_stream_handler(Multiaddr listener, std::string protocol,
                                                      Clock::TimePoint deadline);

  // A socket that carries the messages of p2p/persistent.h from now on.
  asio::awaitable<Result<std::unique_ptr<Socket>>> upgrade(Clock::TimePoint deadline);

 private:
  struct Exchange {
    std::unique_ptr<Socket> socket;
    wire::p2pd::Response response;
  };

  asio::awaitable<Result<Exchange>> exchange(wire::p2pd::Request request, Clock::TimePoint deadline);
  static asio::awaitable<Result<Exchange>> exchange_on(std::string path, wire::p2pd::Request request,
                                                       std::shared_ptr<NetworkStats> stats);
  asio::awaitable<Result<void>> acknowledge(wire::p2pd::Request request, Clock::TimePoint deadline);

  Clock& clock_;
  std::string socket_path_;
  std::shared_ptr<NetworkStats> stats_;
};

}  // namespace hivemetal::p2p
