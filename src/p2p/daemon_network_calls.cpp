// DaemonNetwork while p2pd is up: calls, handlers, inbound streams, known peers. Starting and stopping it is
// in daemon_network.cpp.
#include <algorithm>
#include <fmt/format.h>
#include <utility>

#include "base/deadline.h"
#include "p2p/daemon_network.h"

namespace hivemetal::p2p {

namespace {

using namespace std::chrono_literals;

constexpr auto kRegisterWithin = 10s;
constexpr auto kGreetingWithin = 5s;  // of p2pd, on an inbound stream
constexpr std::size_t kKnownMax = 64;
constexpr std::uint64_t kStreamsInMax = 1024;  // open at once; each is a socket of ours

}  // namespace

Error DaemonNetwork::down() const {
  return {ErrorCode::Unavailable, stopping_       ? "the network is stopped"
                                  : self_.empty() ? "the network is not started"
                                                  : "p2pd is restarting; try again in a moment"};
}

std::vector<Multiaddr> DaemonNetwork::addresses() const {
  std::vector<Multiaddr> own;
  for (const Multiaddr& address : listening_) own.push_back(address.with_peer(self_));
  return own;
}

asio::awaitable<Result<void>> DaemonNetwork::connect(Multiaddr address, Clock::TimePoint deadline) {
  const auto peer = address.peer();
  if (!peer) {
    co_return Error{ErrorCode::Invalid,
                    fmt::format("{} does not end in /p2p/ and a peer id", address.text())};
  }
  if (!up_) co_return down();
  const PeerInfo info{*peer, {address}};
  const auto connected = co_await control_->connect(info, deadline);
  if (!connected) co_return connected.error().within(fmt::format("connect to {}", address.text()));
  remember(info);
  co_return Result<void>();
}

asio::awaitable<Result<void>> DaemonNetwork::disconnect(PeerId peer, Clock::TimePoint deadline) {
  if (!up_) co_return down();
  known_.erase(peer);
  co_return co_await control_->disconnect(std::move(peer), deadline);
}

asio::awaitable<Result<std::vector<PeerInfo>>> DaemonNetwork::peers(Clock::TimePoint deadline) {
  if (!up_) co_return down();
  co_return co_await control_->list_peers(deadline);
}

asio::awaitable<Result<Bytes>> DaemonNetwork::call(PeerId peer, std::string handle, Bytes request,
                                                   Clock::TimePoint deadline) {
  const auto connection = connection_;  // stays while the call lasts
  if (!up_ || !connection) co_return down();
  co_return co_await connection->call(std::move(peer), std::move(handle), std::move(request), deadline);
}

asio::awaitable<Result<std::unique_ptr<Stream>>> DaemonNetwork::open_stream(PeerId peer, std::string protocol,
                                                                            Clock::TimePoint deadline) {
  if (!up_) co_return down();
  co_return co_await control_->open_stream(std::move(peer), std::move(protocol), deadline);
}

asio::awaitable<Result<void>> DaemonNetwork::serve(std::string handle, UnaryHandler handler) {
  if (stopping_) co_return down();
  if (unary_services_.contains(handle) || stream_services_.contains(handle)) {
    co_return Error{ErrorCode::Refused, handle + " is served already"};
  }
  unary_services_.emplace(handle, std::make_shared<UnaryService>(executor_, std::move(handler)));
  const auto connection = connection_;
  if (!up_ || !connection) co_return Result<void>();  // registered when p2pd is there
  const auto added = co_await connection->add_handler(handle, clock_.now() + kRegisterWithin);
  if (added || !up_) co_return Result<void>();
  unary_services_.erase(handle);
  co_return added.error().within("serve " + handle);
}

asio::awaitable<Result<void>> DaemonNetwork::serve_stream(std::string protocol, StreamHandler handler) {
  if (stopping_) co_return down();
  if (unary_services_.contains(protocol) || stream_services_.contains(protocol)) {
    co_return Error{ErrorCode::Refused, protocol + " is served already"};
  }
  stream_services_.emplace(protocol, std::make_shared<StreamService>(executor_, std::move(handler)));
  if (!up_) co_return Result<void>();
  const auto added =
      co_await control_->add_stream_handler(listener_address(), protocol, clock_.now() + kRegisterWithin);
  if (added || !up_) co_return Result<void>();
  stream_services_.erase(protocol);
  co_return added.error().within("serve " + protocol);
}

asio::awaitable<void> DaemonNetwork::stop_serving(std::string handle) {
  if (const auto found = unary_services_.find(handle); found != unary_services_.end()) {
    const auto service = found->second;
    unary_services_.erase(found);
    const auto connection = connection_;
    if (up_ && connection) (void)co_await connection->remove_handler(handle, clock_.now() + kRegisterWithin);
    co_await service->tasks.close();
  } else if (const auto other = stream_services_.find(handle); other != stream_services_.end()) {
    const auto service = other->second;
    stream_services_.erase(other);
    if (up_) {
      (void)co_await control_->remove_stream_handler(listener_address(), handle,
                                                     clock_.now() + kRegisterWithin);
    }
    co_await service->tasks.close();
  }
}

void DaemonNetwork::drop_frame(const std::string& reason) {
  ++stats_->dropped_frames;
  if (limited_.first(reason)) log::warn("p2p: dropped an inbound stream: {}", reason);
}

asio::awaitable<void> DaemonNetwork::accept_streams() {
  for (;;) {
    auto [error, accepted] = co_await acceptor_.async_accept(use_result);
    if (error == asio::error::operation_aborted || !acceptor_.is_open()) co_return;
    if (error) {  // out of descriptors: others will close some
      drop_frame("accept: " + error.message());
      co_await clock_.sleep_for(100ms);
      continue;
    }
    close_on_exec(accepted.native_handle());
    if (stats_->streams_in_open >= kStreamsInMax) {
      drop_frame(fmt::format("more than {} are open", kStreamsInMax));
      continue;
    }
    tasks_.spawn("p2p inbound stream", receive_stream(std::make_unique<Socket>(std::move(accepted))));
  }
}

asio::awaitable<void> DaemonNetwork::receive_stream(std::unique_ptr<Socket> socket) {
  const auto bytes = co_await with_deadline(clock_, clock_.now() + kGreetingWithin,
                                            read_message(*socket, kStreamInfoBytesMax));
  if (!bytes) {
    drop_frame(bytes.error().message);
    co_return;
  }
  auto info = parse_stream_info(*bytes);
  if (!info) {
    drop_frame(info.error().message);
    co_return;
  }
  const auto found = stream_services_.find(info->protocol);
  if (found == stream_services_.end()) co_return;  // removed a moment ago
  const auto service = found->second;
  service->tasks.spawn(info->protocol,
                       service->handler(std::make_unique<SocketStream>(
                           std::move(socket), std::move(info->peer), stats_, /*incoming=*/true)));
}

void DaemonNetwork::remember(const PeerInfo& peer) {
  if (peer.addresses.empty() || (known_.size() >= kKnownMax && !known_.contains(peer.peer))) return;
  known_[peer.peer] = peer;
}

// A p2pd that does not answer is killed; supervise() starts it again.
asio::awaitable<void> DaemonNetwork::look_after() {
  for (;;) {
    co_await clock_.sleep_for(options_.health_every);
    if (!up_) continue;
    const auto self = co_await control_->identify(clock_.now() + options_.health_within);
    if (!up_) continue;
    if (!self) {
      if (self.error().code != ErrorCode::TimedOut) continue;
      log::warn("p2p: p2pd does not answer, killing it");
      process_->kill();
      continue;
    }
    listening_ = self->addresses;
    const auto peers = co_await control_->list_peers(clock_.now() + options_.health_within);
    if (!peers) continue;
    ++stats_->health_checks;
    if (peers->empty()) continue;
    known_.clear();  // who left is not dialled for ever
    for (const PeerInfo& peer : *peers) remember(peer);
  }
}

asio::awaitable<void> DaemonNetwork::reconnect() {
  auto peers = known_;
  for (const Multiaddr& address : options_.bootstrap_peers)
    peers[*address.peer()] = {*address.peer(), {address}};
  for (const auto& [id, peer] : peers) tasks_.spawn("p2p dial", dial_known(peer));
  co_return;
}

asio::awaitable<void> DaemonNetwork::dial_known(PeerInfo peer) {
  const auto connected = co_await control_->connect(peer, clock_.now() + 15s);
  if (!connected)
    log::debug("p2p: {} was not reached again: {}", peer.peer.base58(), connected.error().message);
}

}  // namespace hivemetal::p2p
