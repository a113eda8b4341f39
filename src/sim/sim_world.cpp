#include "sim/sim_world.h"

#include <algorithm>
#include <fmt/format.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>

#include "base/check.h"

namespace hivemetal::sim {

namespace {

using namespace std::chrono_literals;

constexpr Clock::Duration kResendAfter = 200ms;  // what a lost piece of a stream costs
constexpr Clock::Duration kStallStep = 250ms;
constexpr Clock::Duration kStallMax = 15s;

asio::awaitable<void> close_service(std::shared_ptr<Service> service) { co_await service->tasks.close(); }

// Answers a request whose handler was cancelled before it could.
struct AnswerAnyway {
  std::weak_ptr<World> weak;
  const std::shared_ptr<Request>& request;
  bool answered = false;
  ~AnswerAnyway() {
    const auto world = weak.lock();
    if (world && !answered) world->answer(request, Error{ErrorCode::Refused, "the handler was stopped"});
  }
};

}  // namespace

Node* World::find(const PeerId& peer) {
  const auto found = nodes.find(peer);
  return found == nodes.end() ? nullptr : found->second.get();
}

bool World::reachable(const Node& from, const Node& to) const {
  return from.state != Node::State::Unplugged && to.state != Node::State::Unplugged && from.group == to.group;
}

const Link& World::link(const PeerId& a, const PeerId& b) const {
  if (links.empty()) return default_link;
  const auto found = links.find(std::minmax(a, b));
  return found == links.end() ? default_link : found->second;
}

Clock::Duration World::latency(const Node& from, const Node& to) {
  const Link& way = link(from.id, to.id);
  const auto spread = static_cast<std::uint64_t>((way.latency_max - way.latency_min).count());
  return way.latency_min + Clock::Duration(spread == 0 ? 0 : random() % (spread + 1));
}

void World::send(const PeerId& from, const PeerId& to, std::size_t bytes, std::function<void()> deliver) {
  Node* source = find(from);
  Node* target = find(to);
  if (source == nullptr || target == nullptr || source->state == Node::State::Dead) return;
  for (Traffic* traffic : {&total, &source->sent}) {
    ++traffic->messages;
    traffic->bytes += bytes;
  }
  const double loss = link(from, to).loss;
  const bool lost = loss > 0 && static_cast<double>(random() >> 11) * 0x1p-53 < loss;
  if (lost || !reachable(*source, *target)) {
    ++total.lost;
    ++source->sent.lost;
    return;
  }
  clock.call_at(clock.now() + latency(*source, *target), std::move(deliver));
}

std::shared_ptr<Request> World::start(Request::Kind kind, Node& from, PeerId to, std::string handle,
                                      Bytes payload, Clock::TimePoint deadline) {
  auto request = std::make_shared<Request>(kind, from.id, std::move(to), std::move(handle), executor);
  request->number = ++requests_ever;
  requests.emplace(request->number, request);
  if (kind == Request::Kind::Unary) ++total.calls, ++from.sent.calls;
  if (kind == Request::Kind::Open) ++total.streams, ++from.sent.streams;
  if (from.state == Node::State::Dead) {
    finish(request, Error{ErrorCode::Unavailable, "this node is down"});
    return request;
  }
  if (from.id == request->to) {
    finish(request, Error{ErrorCode::Unavailable, "a peer cannot dial itself"});
    return request;
  }
  request->deadline = clock.call_at(deadline, [this, request] {
    if (request->result) return;
    finish(request, Error{ErrorCode::TimedOut, "no answer within the deadline"});
    abandon(request);
  });
  const Node* target = find(request->to);
  if (target == nullptr || (target->state == Node::State::Dead && reachable(from, *target))) {
    const std::string text = fmt::format("nobody answers at {}", request->to.short_name());
    clock.call_at(clock.now() + default_link.latency_max,
                  [this, request, text] { finish(request, Error{ErrorCode::Unavailable, text}); });
    return request;
  }
  const std::size_t size = payload.size();
  send(request->from, request->to, size,
       [this, request, payload = std::move(payload)]() mutable { arrive(request, std::move(payload)); });
  return request;
}

void World::arrive(const std::shared_ptr<Request>& request, Bytes payload) {
  Node* node = find(request->to);
  Node* caller = find(request->from);
  if (node == nullptr || caller == nullptr || request->result || !reachable(*caller, *node)) return;
  if (node->state == Node::State::Dead) {
    return finish(request, Error{ErrorCode::Unavailable, "connection refused"});
  }
  node->connected.insert(caller->id);
  caller->connected.insert(node->id);
  if (request->kind == Request::Kind::Connect) return answer(request, Bytes());
  const auto found = node->services.find(request->handle);
  const bool unary = request->kind == Request::Kind::Unary;
  if (found == node->services.end() || (unary ? !found->second->unary : !found->second->stream)) {
    return answer(request,
                  Error{ErrorCode::NotFound,
                        fmt::format("{} does not serve {}", request->to.short_name(), request->handle)});
  }
  const std::shared_ptr<Service> service = found->second;
  if (!unary) return open(request, service);
  request->service = service;
  request->task = service->tasks.spawn("sim handler", run_unary(service, request, std::move(payload)));
}

asio::awaitable<void> World::run_unary(std::shared_ptr<Service> service, std::shared_ptr<Request> request,
                                       Bytes payload) {
  AnswerAnyway guard{alive, request};
  Result<Bytes> reply = co_await service->unary(request->from, std::move(payload));
  guard.answered = true;
  if (!reply) {
    reply = Error{ErrorCode::Refused, reply.error().message};
  } else if (p2p::unary_reply_bytes(reply->size()) > p2p::kUnaryMessageBytesMax) {
    reply = Error{ErrorCode::Refused, fmt::format("the reply of {} bytes is above the limit", reply->size())};
  }
  answer(request, std::move(reply));
}

void World::answer(const std::shared_ptr<Request>& request, Result<Bytes> result) {
  const std::size_t size = result ? result->size() : result.error().message.size();
  send(request->to, request->from, size,
       [this, request, result = std::move(result)]() mutable { finish(request, std::move(result)); });
}

void World::finish(const std::shared_ptr<Request>& request, Result<Bytes> result) {
  if (request->result) return;
  request->result = std::move(result);
  requests.erase(request->number);
  if (request->deadline) clock.cancel(*request->deadline);
  request->done.try_send(boost::system::error_code{});
}

void World::abandon(const std::shared_ptr<Request>& request) {
  if (!request->result) finish(request, Error{ErrorCode::Cancelled, "the caller has gone"});
  send(request->from, request->to, 0, [request] {
    if (const auto service = request->service.lock()) service->tasks.cancel(request->task);
    if (request->conversation) reset(*request->conversation);
  });
}

void World::kill(Node& node) {
  node.state = Node::State::Dead;
  for (const PeerId& peer : std::exchange(node.connected, {})) {
    if (Node* other = find(peer)) other->connected.erase(node.id);
  }
  for (const auto& weak : conversations) {
    const auto conversation = weak.lock();
    if (!conversation) continue;
    if (conversation->peers[0] == node.id || conversation->peers[1] == node.id) reset(*conversation);
  }
  const auto pending = requests;  // finish() takes them out
  for (const auto& [number, request] : pending) {
    if (request->from == node.id) {
      finish(request, Error{ErrorCode::Unavailable, "this node is down"});
      abandon(request);
    } else if (request->to == node.id) {
      const Node* caller = find(request->from);
      if (caller == nullptr || !reachable(*caller, node)) continue;
      clock.call_at(clock.now() + default_link.latency_max, [this, request] {
        finish(request, Error{ErrorCode::Unavailable, "the connection was lost"});
      });
    }
  }
  cancel_handlers(node);
}

void World::cancel_handlers(Node& node) {
  for (auto& [handle, service] : node.services) {
    auto fresh = std::make_shared<Service>(executor);
    fresh->unary = service->unary;
    fresh->stream = service->stream;
    asio::co_spawn(executor, close_service(std::exchange(service, fresh)), asio::detached);
  }
}

void World::open(const std::shared_ptr<Request>& request, const std::shared_ptr<Service>& service) {
  auto conversation = std::make_shared<Conversation>(request->from, request->to, executor);
  if (conversations.size() >= 64 && (conversations.size() & (conversations.size() - 1)) == 0) {
    std::erase_if(conversations, [](const auto& weak) { return weak.expired(); });
  }
  conversations.push_back(conversation);
  request->conversation = conversation;
  answer(request, Bytes());
  service->tasks.spawn("sim stream", service->stream(std::make_unique<SimStream>(alive, conversation, 1)));
}

void World::reset(Conversation& conversation) {
  conversation.reset = true;
  for (Pipe& pipe : conversation.pipes) pipe.changed.notify_all();
}

// Pieces that the link would lose come late instead; they never overtake each other.
void World::transmit(const std::shared_ptr<Conversation>& conversation, int side, Bytes piece) {
  Node* from = find(conversation->peers[side]);
  Node* to = find(conversation->peers[1 - side]);
  if (from == nullptr || to == nullptr) return reset(*conversation);
  for (Traffic* traffic : {&total, &from->sent}) {
    ++traffic->messages;
    traffic->bytes += piece.size();
  }
  Pipe& pipe = conversation->pipes[side];
  auto at = clock.now() + latency(*from, *to);
  const double loss = link(from->id, to->id).loss;
  if (loss > 0 && static_cast<double>(random() >> 11) * 0x1p-53 < loss) at += kResendAfter;
  pipe.last_arrival = std::max(pipe.last_arrival, at);
  pipe.flying.push_back(std::move(piece));
  clock.call_at(pipe.last_arrival, [this, conversation, side] { land(conversation, side); });
}

void World::land(const std::shared_ptr<Conversation>& conversation, int side) {
  if (conversation->reset) return;
  const Node* from = find(conversation->peers[side]);
  const Node* to = find(conversation->peers[1 - side]);
  if (from == nullptr || to == nullptr) return reset(*conversation);
  Pipe& pipe = conversation->pipes[side];
  if (!reachable(*from, *to)) {
    if (!pipe.stalled_since) pipe.stalled_since = clock.now();
    if (clock.now() - *pipe.stalled_since > kStallMax) return reset(*conversation);
    clock.call_at(clock.now() + kStallStep, [this, conversation, side] { land(conversation, side); });
    return;
  }
  pipe.stalled_since.reset();
  HIVEMETAL_CHECK(!pipe.flying.empty());
  Bytes piece = std::move(pipe.flying.front());
  pipe.flying.pop_front();
  if (piece.empty()) {
    pipe.ended = true;
    conversation->pipes[1 - side].changed.notify_all();  // whoever waits for room to write
  } else {
    pipe.arrived.push_back(std::move(piece));
  }
  pipe.changed.notify_all();
}

}  // namespace hivemetal::sim
