#include "sim/sim_network.h"

#include <algorithm>
#include <fmt/format.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>

#include "base/check.h"
#include "sim/sim_world.h"

namespace hivemetal::sim {

namespace {

// Tells the world that a caller has gone: cancelled, or destroyed with its loop.
struct Caller {
  std::weak_ptr<World> weak;
  std::shared_ptr<Request> request;
  bool answered = false;
  ~Caller() {
    const auto world = weak.lock();
    if (world && !answered) world->abandon(request);
  }
};

// Waits for the answer.
asio::awaitable<Result<Bytes>> answer_to(std::weak_ptr<World> world, std::shared_ptr<Request> request) {
  Caller caller{std::move(world), request};
  co_await request->done.async_receive(asio::use_awaitable);
  caller.answered = true;
  co_return std::move(*request->result);
}

p2p::Multiaddr address_of(const Node& node) {
  const std::uint32_t n = node.number;
  return p2p::Multiaddr::parse(fmt::format("/ip4/10.{}.{}.{}/tcp/4001/p2p/{}", n >> 16 & 255, n >> 8 & 255,
                                           n & 255, node.id.base58()))
      .value();
}

}  // namespace

p2p::PeerId sim_peer_id(std::uint32_t number) {
  Bytes bytes("\x00\x24\x08\x01\x12\x20", 6);
  Random random(number);
  return p2p::PeerId::from_bytes(bytes + random_bytes(random, 32)).value();
}

SimNet::SimNet(asio::io_context& loop, SimClock& clock, std::uint64_t seed)
    : world_(std::make_shared<World>(loop, clock, seed)) {
  world_->alive = world_;
}

SimNet::~SimNet() = default;

void SimNet::set_link(Link link) { world_->default_link = link; }

void SimNet::set_link(const p2p::PeerId& a, const p2p::PeerId& b, Link link) {
  world_->links[std::minmax(a, b)] = link;
}

void SimNet::partition(const std::vector<std::vector<p2p::PeerId>>& groups) {
  world_->rest_group = groups.size();
  for (auto& [id, node] : world_->nodes) node->group = world_->rest_group;
  for (std::size_t i = 0; i < groups.size(); ++i) {
    for (const p2p::PeerId& peer : groups[i]) {
      if (Node* node = world_->find(peer)) node->group = i;
    }
  }
}

void SimNet::heal() { partition({}); }

void SimNet::unplug(const p2p::PeerId& peer) {
  if (Node* node = world_->find(peer)) node->state = Node::State::Unplugged;
}

void SimNet::kill(const p2p::PeerId& peer) {
  if (Node* node = world_->find(peer)) world_->kill(*node);
}

void SimNet::revive(const p2p::PeerId& peer) {
  if (Node* node = world_->find(peer)) node->state = Node::State::Up;
}

Traffic SimNet::traffic() const { return world_->total; }

Traffic SimNet::traffic_of(const p2p::PeerId& peer) const {
  const Node* node = world_->find(peer);
  return node == nullptr ? Traffic() : node->sent;
}

SimNetwork::SimNetwork(SimNet& net, p2p::PeerId self) : world_(net.world_), node_(std::make_shared<Node>()) {
  node_->id = std::move(self);
  node_->number = ++world_->nodes_ever;
  node_->group = world_->rest_group;
  HIVEMETAL_CHECK(world_->nodes.emplace(node_->id, node_).second);
}

SimNetwork::~SimNetwork() {
  world_->kill(*node_);
  node_->services.clear();
  world_->nodes.erase(node_->id);
}

asio::awaitable<void> SimNetwork::stop() {
  while (!node_->services.empty()) co_await stop_serving(node_->services.begin()->first);
}

const p2p::PeerId& SimNetwork::self() const { return node_->id; }

std::vector<p2p::Multiaddr> SimNetwork::addresses() const { return {address_of(*node_)}; }

asio::awaitable<Result<void>> SimNetwork::connect(p2p::Multiaddr address, Clock::TimePoint deadline) {
  const auto peer = address.peer();
  if (!peer) co_return Error{ErrorCode::Invalid, fmt::format("{} has no /p2p component", address.text())};
  const auto request = world_->start(Request::Kind::Connect, *node_, *peer, "", "", deadline);
  const auto answer = co_await answer_to(world_, request);
  if (!answer) co_return answer.error().within(fmt::format("connect to {}", address.text()));
  co_return Result<void>();
}

asio::awaitable<Result<std::vector<p2p::PeerInfo>>> SimNetwork::peers(Clock::TimePoint) {
  if (node_->state == Node::State::Dead) co_return Error{ErrorCode::Unavailable, "this node is down"};
  std::vector<p2p::PeerInfo> found;
  for (const p2p::PeerId& peer : node_->connected) {
    if (const Node* node = world_->find(peer)) found.push_back({peer, {address_of(*node)}});
  }
  co_return found;
}

asio::awaitable<Result<Bytes>> SimNetwork::call(p2p::PeerId peer, std::string handle, Bytes request,
                                                Clock::TimePoint deadline) {
  if (p2p::unary_request_bytes(peer, handle, request.size()) > p2p::kUnaryMessageBytesMax) {
    co_return Error{ErrorCode::Invalid, fmt::format("a request of {} bytes is above the limit of {}",
                                                    request.size(), p2p::kUnaryMessageBytesMax)};
  }
  auto started = world_->start(Request::Kind::Unary, *node_, std::move(peer), std::move(handle),
                               std::move(request), deadline);
  co_return co_await answer_to(world_, std::move(started));
}

asio::awaitable<Result<std::unique_ptr<p2p::Stream>>> SimNetwork::open_stream(p2p::PeerId peer,
                                                                              std::string protocol,
                                                                              Clock::TimePoint deadline) {
  const auto world = world_;
  const auto request =
      world->start(Request::Kind::Open, *node_, std::move(peer), std::move(protocol), "", deadline);
  const auto answer = co_await answer_to(world, request);
  if (!answer) co_return answer.error();
  co_return std::make_unique<SimStream>(world, request->conversation, 0);
}

asio::awaitable<Result<void>> SimNetwork::serve(std::string handle, p2p::UnaryHandler handler) {
  if (node_->services.contains(handle)) co_return Error{ErrorCode::Refused, handle + " is already served"};
  auto service = std::make_shared<Service>(world_->executor);
  service->unary = std::move(handler);
  node_->services.emplace(std::move(handle), std::move(service));
  co_return Result<void>();
}

asio::awaitable<Result<void>> SimNetwork::serve_stream(std::string protocol, p2p::StreamHandler handler) {
  if (node_->services.contains(protocol))
    co_return Error{ErrorCode::Refused, protocol + " is already served"};
  auto service = std::make_shared<Service>(world_->executor);
  service->stream = std::move(handler);
  node_->services.emplace(std::move(protocol), std::move(service));
  co_return Result<void>();
}

asio::awaitable<void> SimNetwork::stop_serving(std::string handle) {
  const auto found = node_->services.find(handle);
  if (found == node_->services.end()) co_return;
  const auto service = found->second;
  node_->services.erase(found);
  co_await service->tasks.close();
}

}  // namespace hivemetal::sim
