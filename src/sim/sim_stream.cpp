#include <algorithm>
#include <cstring>

#include "sim/sim_world.h"

namespace hivemetal::sim {

SimStream::~SimStream() {
  if (conversation_->closed[side_]) return;
  conversation_->closed[side_] = true;
  const auto world = world_.lock();
  if (!world) return;
  world->clock.call_at(world->clock.now() + world->default_link.latency_max,
                       [conversation = conversation_] { World::reset(*conversation); });
}

asio::awaitable<Result<std::size_t>> SimStream::read_some(std::span<char> buffer) {
  const auto conversation = conversation_;
  Pipe& pipe = conversation->pipes[1 - side_];
  while (pipe.arrived.empty()) {
    if (conversation->closed[side_] || pipe.ended) co_return 0;
    if (conversation->reset) co_return Error{ErrorCode::Unavailable, "the stream was reset"};
    co_await pipe.changed.wait();
  }
  if (conversation->closed[side_]) co_return 0;
  const Bytes& first = pipe.arrived.front();
  const std::size_t count = std::min(buffer.size(), first.size() - pipe.read_of_first);
  std::memcpy(buffer.data(), first.data() + pipe.read_of_first, count);
  pipe.read_of_first += count;
  pipe.unread -= count;
  if (pipe.read_of_first == first.size()) {
    pipe.arrived.pop_front();
    pipe.read_of_first = 0;
  }
  pipe.changed.notify_all();  // there is room to write
  co_return count;
}

asio::awaitable<Result<void>> SimStream::write(std::string_view bytes) {
  const auto conversation = conversation_;
  Pipe& pipe = conversation->pipes[side_];
  while (!bytes.empty()) {
    if (conversation->closed[side_]) co_return Error{ErrorCode::Invalid, "the stream is closed"};
    if (conversation->reset) co_return Error{ErrorCode::Unavailable, "the stream was reset"};
    if (conversation->pipes[1 - side_].ended)
      co_return Error{ErrorCode::Unavailable, "the peer closed the stream"};
    if (pipe.unread == Pipe::kWindow) {
      co_await pipe.changed.wait();
      continue;
    }
    const auto world = world_.lock();
    if (!world) co_return Error{ErrorCode::Unavailable, "the network is gone"};
    const std::size_t count = std::min({bytes.size(), Pipe::kPiece, Pipe::kWindow - pipe.unread});
    pipe.unread += count;
    world->transmit(conversation, side_, Bytes(bytes.substr(0, count)));
    bytes.remove_prefix(count);
  }
  co_return Result<void>();
}

void SimStream::close() {
  if (conversation_->closed[side_]) return;
  conversation_->closed[side_] = true;
  for (Pipe& pipe : conversation_->pipes) pipe.changed.notify_all();
  const auto world = world_.lock();
  if (world && !conversation_->reset) world->transmit(conversation_, side_, Bytes());
}

}  // namespace hivemetal::sim
