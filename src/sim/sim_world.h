// The inside of the simulated network: nodes, messages in flight, conversations. Included by sim/ only.
#pragma once

#include <array>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <boost/asio/experimental/channel.hpp>

#include "base/notification.h"
#include "base/random.h"
#include "base/task_group.h"
#include "sim/sim_network.h"

namespace hivemetal::sim {

using p2p::PeerId;

// A registered handler of one kind, and what runs for its callers.
struct Service {
  explicit Service(asio::any_io_executor executor) : tasks(std::move(executor)) {}

  p2p::UnaryHandler unary;
  p2p::StreamHandler stream;
  TaskGroup tasks;
};

struct Node {
  enum class State { Up, Unplugged, Dead };

  PeerId id;
  std::uint32_t number = 0;
  State state = State::Up;
  std::size_t group = 0;  // of the partition
  std::map<std::string, std::shared_ptr<Service>, std::less<>> services;
  std::set<PeerId> connected;
  Traffic sent;
};

// One direction of a stream. Pieces leave in the order written and arrive in it, each after its own delay.
struct Pipe {
  explicit Pipe(asio::any_io_executor executor) : changed(std::move(executor)) {}

  static constexpr std::size_t kWindow = 256 * 1024;
  static constexpr std::size_t kPiece = 64 * 1024;

  std::deque<Bytes> flying;  // an empty piece is the end
  std::deque<Bytes> arrived;
  std::size_t read_of_first = 0;  // bytes of arrived.front() already read
  std::size_t unread = 0;         // written and not yet read, bounded by the window
  bool ended = false;             // the end has arrived
  Clock::TimePoint last_arrival{};
  std::optional<Clock::TimePoint> stalled_since;
  Notification changed;
};

// A stream between two nodes; side 0 opened it.
struct Conversation {
  Conversation(PeerId opener, PeerId server, const asio::any_io_executor& executor)
      : peers{std::move(opener), std::move(server)}, pipes{Pipe(executor), Pipe(executor)} {}

  std::array<PeerId, 2> peers;
  std::array<Pipe, 2> pipes;                 // pipes[side] carries what `side` writes
  std::array<bool, 2> closed{false, false};  // by its own side
  bool reset = false;
};

// A connect, a unary call or the opening of a stream, from its start until the caller has its answer.
struct Request {
  enum class Kind { Connect, Unary, Open };

  Request(Kind kind, PeerId from, PeerId to, std::string handle, const asio::any_io_executor& executor)
      : kind(kind), from(std::move(from)), to(std::move(to)), handle(std::move(handle)), done(executor, 1) {}

  const Kind kind;
  const PeerId from;
  const PeerId to;
  const std::string handle;
  std::uint64_t number = 0;

  // The caller's side.
  std::optional<Result<Bytes>> result;
  std::shared_ptr<Conversation> conversation;
  asio::experimental::channel<void(boost::system::error_code)> done;
  std::optional<SimClock::Timer> deadline;

  // The callee's side.
  std::weak_ptr<Service> service;
  TaskGroup::TaskId task = 0;
};

struct World {
  World(asio::io_context& loop, SimClock& clock, std::uint64_t seed)
      : executor(loop.get_executor()), clock(clock), random(seed) {}

  Node* find(const PeerId& peer);
  bool reachable(const Node& from, const Node& to) const;
  Clock::Duration latency(const Node& from, const Node& to);
  const Link& link(const PeerId& a, const PeerId& b) const;

  // Calls `deliver` at the other end after the link's latency; or never.
  void send(const PeerId& from, const PeerId& to, std::size_t bytes, std::function<void()> deliver);

  // Requests.
  std::shared_ptr<Request> start(Request::Kind kind, Node& from, PeerId to, std::string handle, Bytes payload,
                                 Clock::TimePoint deadline);
  void arrive(const std::shared_ptr<Request>& request, Bytes payload);
  void answer(const std::shared_ptr<Request>& request, Result<Bytes> result);  // at the callee
  void finish(const std::shared_ptr<Request>& request, Result<Bytes> result);  // at the caller
  void abandon(const std::shared_ptr<Request>& request);                       // the caller has gone
  asio::awaitable<void> run_unary(std::shared_ptr<Service> service, std::shared_ptr<Request> request,
                                  Bytes payload);

  // Streams.
  void open(const std::shared_ptr<Request>& request, const std::shared_ptr<Service>& service);
  void transmit(const std::shared_ptr<Conversation>& conversation, int side, Bytes piece);
  void land(const std::shared_ptr<Conversation>& conversation, int side);
  static void reset(Conversation& conversation);

  // Faults.
  void kill(Node& node);
  void cancel_handlers(Node& node);

  asio::any_io_executor executor;
  SimClock& clock;
  Random random;
  std::weak_ptr<World> alive;  // of this object
  std::size_t rest_group = 0;  // of peers that no partition names
  Link default_link;
  std::map<std::pair<PeerId, PeerId>, Link> links;
  std::map<PeerId, std::shared_ptr<Node>> nodes;
  std::uint32_t nodes_ever = 0;
  std::uint64_t requests_ever = 0;
  std::map<std::uint64_t, std::shared_ptr<Request>> requests;  // without an answer so far
  std::vector<std::weak_ptr<Conversation>> conversations;
  Traffic total;
};

// One end of a conversation. Destroying it without close() resets the conversation.
class SimStream final : public p2p::Stream {
 public:
  SimStream(std::weak_ptr<World> world, std::shared_ptr<Conversation> conversation, int side)
      : world_(std::move(world)), conversation_(std::move(conversation)), side_(side) {}
  ~SimStream() override;

  const PeerId& peer() const override { return conversation_->peers[1 - side_]; }
  asio::awaitable<Result<std::size_t>> read_some(std::span<char> buffer) override;
  asio::awaitable<Result<void>> write(std::string_view bytes) override;
  void close() override;

 private:
  std::weak_ptr<World> world_;
  std::shared_ptr<Conversation> conversation_;
  int side_;
};

}  // namespace hivemetal::sim
