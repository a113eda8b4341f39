#include "p2p/control.h"

#include <algorithm>
#include <fmt/format.h>
#include <utility>

#include "base/deadline.h"
#include "wire/protobuf.h"

namespace hivemetal::p2p {

namespace {

using wire::p2pd::Request;
using wire::p2pd::Response;

constexpr std::size_t kResponseBytesMax = 1024 * 1024;  // the longest is a list of peers, some 100 bytes each

Request request_of(Request::Type type) {
  Request request;
  request.set_type(type);
  return request;
}

// p2pd's own limit on a request, in whole seconds; ours is exact and comes first.
std::int64_t seconds_until(Clock& clock, Clock::TimePoint deadline) {
  return std::max<std::int64_t>(1, std::chrono::ceil<std::chrono::seconds>(deadline - clock.now()).count());
}

bool contains(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

}  // namespace

Error error_from_daemon(std::string_view text) {
  constexpr std::size_t kTextMax = 1000;
  const std::string message(text.substr(0, kTextMax));
  if (contains(text, "protocols not supported") || contains(text, "protocol not supported")) {
    return {ErrorCode::NotFound, message};
  }
  if (contains(text, "short buffer"))
    return {ErrorCode::Refused, "the reply is larger than the limit: " + message};
  return {ErrorCode::Unavailable, message};
}

Result<Response> parse_control_response(std::string_view bytes) {
  auto response = wire::parse_message<Response>(bytes);
  if (response && response->type() == Response::ERROR) return error_from_daemon(response->error().msg());
  return response;
}

std::vector<PeerInfo> peers_of(const Response& response) {
  std::vector<PeerInfo> peers;
  for (const auto& entry : response.peers()) {
    const auto id = PeerId::from_bytes(entry.id());
    if (!id) continue;
    auto found =
        std::find_if(peers.begin(), peers.end(), [&id](const PeerInfo& peer) { return peer.peer == *id; });
    if (found == peers.end()) found = peers.insert(peers.end(), PeerInfo{*id, {}});
    for (const auto& bytes : entry.addrs()) {
      auto address = Multiaddr::from_bytes(bytes);
      if (address) found->addresses.push_back(std::move(*address));
    }
  }
  return peers;
}

Result<StreamInfo> parse_stream_info(std::string_view bytes) {
  auto info = wire::parse_message<wire::p2pd::StreamInfo>(bytes);
  if (!info) return info.error();
  auto peer = PeerId::from_bytes(info->peer());
  if (!peer) return peer.error().within("peer of a stream");
  return StreamInfo{std::move(*peer), info->proto()};
}

asio::awaitable<Result<Control::Exchange>> Control::exchange_on(std::string path, Request request,
                                                                std::shared_ptr<NetworkStats> stats) {
  auto socket = co_await connect_socket(std::move(path));
  if (!socket) co_return socket.error();
  const auto written = co_await write_message(**socket, request.SerializeAsString());
  if (!written) co_return written.error();
  const auto bytes = co_await read_message(**socket, kResponseBytesMax);
  if (!bytes) {
    if (bytes.error().code == ErrorCode::Invalid) ++stats->dropped_frames;
    co_return bytes.error();
  }
  auto response = parse_control_response(*bytes);
  if (!response) {
    if (response.error().code == ErrorCode::Invalid) ++stats->dropped_frames;
    co_return response.error();
  }
  co_return Exchange{std::move(*socket), std::move(*response)};
}

asio::awaitable<Result<Control::Exchange>> Control::exchange(Request request, Clock::TimePoint deadline) {
  return with_deadline(clock_, deadline, exchange_on(socket_path_, std::move(request), stats_));
}

asio::awaitable<Result<void>> Control::acknowledge(Request request, Clock::TimePoint deadline) {
  const auto done = co_await exchange(std::move(request), deadline);
  if (!done) co_return done.error();
  co_return Result<void>();
}

asio::awaitable<Result<PeerInfo>> Control::identify(Clock::TimePoint deadline) {
  const auto done = co_await exchange(request_of(Request::IDENTIFY), deadline);
  if (!done) co_return done.error().within("ask p2pd who it is");
  const auto& answer = done->response.identify();
  auto id = PeerId::from_bytes(answer.id());
  if (!id) co_return id.error().within("p2pd's own id");
  PeerInfo self{std::move(*id), {}};
  for (const auto& bytes : answer.addrs()) {
    auto address = Multiaddr::from_bytes(bytes);
    if (address) self.addresses.push_back(std::move(*address));
  }
  co_return self;
}

asio::awaitable<Result<void>> Control::connect(PeerInfo peer, Clock::TimePoint deadline) {
  Request request = request_of(Request::CONNECT);
  request.mutable_connect()->set_peer(peer.peer.bytes());
  for (const Multiaddr& address : peer.addresses)
    request.mutable_connect()->add_addrs(address.without_peer().bytes());
  request.mutable_connect()->set_timeout(seconds_until(clock_, deadline));
  co_return co_await acknowledge(std::move(request), deadline);
}

asio::awaitable<Result<void>> Control::disconnect(PeerId peer, Clock::TimePoint deadline) {
  Request request = request_of(Request::DISCONNECT);
  request.mutable_disconnect()->set_peer(peer.bytes());
  co_return co_await acknowledge(std::move(request), deadline);
}

asio::awaitable<Result<std::vector<PeerInfo>>> Control::list_peers(Clock::TimePoint deadline) {
  const auto done = co_await exchange(request_of(Request::LIST_PEERS), deadline);
  if (!done) co_return done.error().within("ask p2pd for its peers");
  co_return peers_of(done->response);
}

asio::awaitable<Result<std::unique_ptr<Stream>>> Control::open_stream(PeerId peer, std::string protocol,
                                                                      Clock::TimePoint deadline) {
  Request request = request_of(Request::STREAM_OPEN);
  request.mutable_stream_open()->set_peer(peer.bytes());
  request.mutable_stream_open()->add_proto(protocol);
  request.mutable_stream_open()->set_timeout(seconds_until(clock_, deadline));
  const auto stats = stats_;
  auto done = co_await exchange(std::move(request), deadline);
  if (!done) co_return done.error().within(fmt::format("open {} to {}", protocol, peer.short_name()));
  co_return std::make_unique<SocketStream>(std::move(done->socket), std::move(peer), stats,
                                           /*incoming=*/false);
}

asio::awaitable<Result<void>> Control::add_stream_handler(Multiaddr listener, std::string protocol,
                                                          Clock::TimePoint deadline) {
  Request request = request_of(Request::STREAM_HANDLER);
  request.mutable_stream_handler()->set_addr(listener.bytes());
  request.mutable_stream_handler()->add_proto(std::move(protocol));
  request.mutable_stream_handler()->set_balanced(false);
  co_return co_await acknowledge(std::move(request), deadline);
}

asio::awaitable<Result<void>> Control::remove_stream_handler(Multiaddr listener, std::string protocol,
                                                             Clock::TimePoint deadline) {
  Request request = request_of(Request::REMOVE_STREAM_HANDLER);
  request.mutable_remove_stream_handler()->set_addr(listener.bytes());
  request.mutable_remove_stream_handler()->add_proto(std::move(protocol));
  co_return co_await acknowledge(std::move(request), deadline);
}

asio::awaitable<Result<std::unique_ptr<Socket>>> Control::upgrade(Clock::TimePoint deadline) {
  auto done = co_await exchange(request_of(Request::PERSISTENT_CONN_UPGRADE), deadline);
  if (!done) co_return done.error().within("open the persistent connection to p2pd");
  co_return std::move(done->socket);
}

}  // namespace hivemetal::p2p
