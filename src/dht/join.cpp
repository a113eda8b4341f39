// How a node finds its place: the first half of Dht::start().
#include <algorithm>
#include <cmath>
#include <fmt/format.h>
#include <utility>

#include "base/deadline.h"
#include "base/log.h"
#include "dht/dht.h"

namespace hivemetal::dht {

using namespace std::chrono_literals;

// What the initial peers said.
struct Welcome {
  explicit Welcome(asio::any_io_executor executor) : changed(std::move(executor)) {}

  std::size_t ended = 0;  // attempts, good or bad
  std::size_t answered = 0;
  std::size_t reached_us = 0;
  std::size_t clocks_off = 0;   // beyond the tolerance
  std::vector<double> offsets;  // our clock less theirs, of all that answered
  std::optional<Error> error;   // the last one
  Notification changed;
};

namespace {

constexpr Clock::Duration kFirstPause = 100ms;

asio::awaitable<Result<void>> wait_for(std::shared_ptr<Welcome> welcome, std::size_t ended,
                                       std::size_t reached) {
  while (welcome->ended < ended && welcome->reached_us < reached) co_await welcome->changed.wait();
  co_return Result<void>();
}

double offset_of(const PingOutcome& answer) {
  return (answer.asked + answer.answered) / 2 - *answer.peer_time;
}

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::ranges::nth_element(values, middle);
  return *middle;
}

}  // namespace

asio::awaitable<Result<void>> Dht::join(std::vector<p2p::Multiaddr> initial_peers) {
  const auto welcome = std::make_shared<Welcome>(executor_);
  for (const p2p::Multiaddr& address : initial_peers) {
    if (!address.peer()) {
      co_return Error{ErrorCode::Invalid,
                      "initial peer " + address.text() + " has no /p2p part; add the peer's id"};
    }
    tasks_.spawn("dht join", greet(address, welcome));
  }
  const std::size_t all = initial_peers.size();
  (void)co_await with_deadline(clock_, clock_.now() + options_.join_timeout, wait_for(welcome, all, 1));
  (void)co_await with_deadline(clock_, clock_.now() + options_.rpc_timeout, wait_for(welcome, all, all));
  if (const auto judged = judge(*welcome); !judged) co_return judged;

  const auto lookup = start_lookup(state_.id, Lookup::nodes_only());
  co_await finish_lookup(lookup);
  co_return Result<void>();
}

// Connects to an initial peer and pings it until it answers and can reach us.
asio::awaitable<void> Dht::greet(p2p::Multiaddr address, std::shared_ptr<Welcome> welcome) {
  const auto deadline = clock_.now() + options_.join_timeout;
  std::optional<PingOutcome> last;
  bool reached = false;
  for (Clock::Duration pause = kFirstPause;; pause *= 2) {
    const auto soon = std::min(deadline, clock_.now() + options_.rpc_timeout);
    const auto ready = co_await network_.connect(address, soon);
    const auto answer = ready
                            ? co_await calls_.ping(*address.peer(), true, clock_.now() + options_.rpc_timeout)
                            : Result<PingOutcome>(ready.error());
    if (answer) {
      last = *answer;
      reached = answer->available;
    } else {
      welcome->error = answer.error().within(address.text());
    }
    if (answer && (reached || options_.client_mode)) break;
    if (clock_.now() + pause >= deadline) break;
    co_await clock_.sleep_for(pause);
  }
  if (last) {
    ++welcome->answered;
    welcome->reached_us += reached;
    if (last->peer_time) {
      welcome->offsets.push_back(offset_of(*last));
      welcome->clocks_off += *last->peer_time < last->asked - options_.clock_offset_s_max ||
                             *last->peer_time > last->answered + options_.clock_offset_s_max;
    }
  }
  ++welcome->ended;
  welcome->changed.notify_all();
}

// One peer with a wrong clock, or behind a bad link, is its own problem; most of them are ours.
Result<void> Dht::judge(const Welcome& welcome) {
  if (welcome.answered == 0) {
    const std::string why = welcome.error ? welcome.error->message : "none answered in time";
    return Error{ErrorCode::Unavailable, "none of the initial peers is there: " + why};
  }
  if (!welcome.offsets.empty()) clock_offset_s_ = median(welcome.offsets);
  if (welcome.clocks_off * 2 > welcome.answered) {
    return Error{
        ErrorCode::Refused,
        fmt::format("the clock of this machine is {:.0f} s {} that of the swarm ({} of {} peers asked); "
                    "set the clock, DHT expirations suffer",
                    std::abs(*clock_offset_s_), *clock_offset_s_ > 0 ? "ahead of" : "behind",
                    welcome.clocks_off, welcome.answered)};
  }
  if (welcome.clocks_off > 0) {
    log::warn("dht: {} of {} initial peers have a clock that differs from ours", welcome.clocks_off,
              welcome.answered);
  }
  if (welcome.reached_us == 0 && !options_.client_mode) {
    return Error{
        ErrorCode::Unavailable,
        "the initial peers answer, but cannot reach this node; open its port, or join in client mode"};
  }
  return {};
}

asio::awaitable<Result<double>> clock_offset_to(p2p::Network& network, Clock& clock, p2p::Multiaddr peer,
                                                Clock::TimePoint deadline) {
  const auto id = peer.peer();
  if (!id) co_return Error{ErrorCode::Invalid, peer.text() + " has no /p2p part"};
  if (const auto ready = co_await network.connect(peer, deadline); !ready) co_return ready.error();
  PingOutcome outcome{.asked = clock.unix_time()};
  const auto bytes = co_await network.call(*id, std::string(kPing), encode(PingRequest{}), deadline);
  if (!bytes) co_return bytes.error().within("ping " + peer.text());
  const auto reply = decode_ping_reply(*bytes);
  if (!reply) co_return reply.error().within("ping " + peer.text());
  if (reply->time == 0) co_return Error{ErrorCode::NotFound, peer.text() + " does not tell its time"};
  outcome.answered = clock.unix_time();
  outcome.peer_time = reply->time;
  co_return offset_of(outcome);
}

}  // namespace hivemetal::dht
