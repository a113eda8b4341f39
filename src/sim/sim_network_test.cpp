#include "sim/sim_network.h"

#include <chrono>
#include <gtest/gtest.h>
#include <memory>
#include <string>
#include <vector>

#include "base/deadline.h"
#include "base/random.h"
#include "base/task_group.h"
#include "sim/seed.h"
#include "sim/sim_clock.h"

namespace hivemetal::sim {
namespace {

using namespace std::chrono_literals;
using p2p::PeerId;

asio::awaitable<Result<Bytes>> echo(PeerId, Bytes request) { co_return request; }

asio::awaitable<void> echo_stream(std::unique_ptr<p2p::Stream> stream) {
  std::array<char, 4096> buffer;
  for (;;) {
    const auto count = co_await stream->read_some(buffer);
    if (!count || *count == 0) co_return;
    if (!co_await stream->write(std::string_view(buffer.data(), *count))) co_return;
  }
}

// A loop, a clock and nodes that all echo.
struct Swarm {
  explicit Swarm(std::size_t size, std::uint64_t seed = test_seed()) : net(loop, clock, seed) {
    for (std::uint32_t i = 0; i < size; ++i) {
      nodes.push_back(std::make_unique<SimNetwork>(net, sim_peer_id(i)));
      EXPECT_TRUE(clock.run(nodes.back()->serve("echo", echo)));
      EXPECT_TRUE(clock.run(nodes.back()->serve_stream("echo_stream", echo_stream)));
    }
  }
  ~Swarm() {
    for (auto& node : nodes) clock.run(node->stop());
  }

  Result<Bytes> call(std::size_t from, std::size_t to, Clock::Duration limit = 10s) {
    return clock.run(nodes[from]->call(nodes[to]->self(), "echo", "hello", clock.now() + limit));
  }

  asio::io_context loop;
  SimClock clock{loop};
  SimNet net;
  std::vector<std::unique_ptr<SimNetwork>> nodes;
};

TEST(SimNetwork, TakesTheLinksLatencyEachWay) {
  Swarm swarm(2);
  swarm.net.set_link({.latency_min = 40ms, .latency_max = 40ms});
  const auto before = swarm.clock.now();
  EXPECT_TRUE(swarm.call(0, 1));
  EXPECT_EQ(swarm.clock.now() - before, 80ms);
  swarm.net.set_link(swarm.nodes[1]->self(), swarm.nodes[0]->self(), {.latency_min = 1s, .latency_max = 1s});
  EXPECT_TRUE(swarm.call(0, 1));
  EXPECT_EQ(swarm.clock.now() - before, 2080ms);
}

TEST(SimNetwork, TimesOutWhenEveryMessageIsLost) {
  Swarm swarm(2);
  swarm.net.set_link({.loss = 1});
  const auto before = swarm.clock.now();
  const auto reply = swarm.call(0, 1, 3s);
  ASSERT_FALSE(reply);
  EXPECT_EQ(reply.error().code, ErrorCode::TimedOut);
  EXPECT_EQ(swarm.clock.now() - before, 3s);
  EXPECT_GE(swarm.net.traffic().lost, 1U);
}

TEST(SimNetwork, LosesAboutAsManyMessagesAsTheLinkSays) {
  Swarm swarm(2);
  SCOPED_TRACE(repeat_with(test_seed()));
  swarm.net.set_link({.loss = 0.1});
  int lost = 0;
  for (int i = 0; i < 1000; ++i) lost += swarm.call(0, 1, 1s) ? 0 : 1;
  EXPECT_NEAR(lost, 190, 60);  // either direction: 1 - 0.9²
}

TEST(SimNetwork, CutsLinksBetweenGroupsUntilTheyHeal) {
  Swarm swarm(3);
  swarm.net.partition({{swarm.nodes[0]->self(), swarm.nodes[2]->self()}});
  EXPECT_EQ(swarm.call(0, 1, 1s).error().code, ErrorCode::TimedOut);
  EXPECT_TRUE(swarm.call(0, 2, 1s));
  swarm.net.heal();
  EXPECT_TRUE(swarm.call(0, 1, 1s));
}

TEST(SimNetwork, RefusesForAKilledNodeAndKeepsSilentForAnUnpluggedOne) {
  Swarm swarm(2);
  swarm.net.kill(swarm.nodes[1]->self());
  EXPECT_EQ(swarm.call(0, 1).error().code, ErrorCode::Unavailable);
  EXPECT_EQ(swarm.call(1, 0).error().code, ErrorCode::Unavailable);
  swarm.net.revive(swarm.nodes[1]->self());
  EXPECT_TRUE(swarm.call(0, 1));
  swarm.net.unplug(swarm.nodes[1]->self());
  EXPECT_EQ(swarm.call(0, 1).error().code, ErrorCode::TimedOut);
}

asio::awaitable<Result<Bytes>> sleep_and_note_the_end(Clock& clock, int& ended) {
  struct Note {
    int& ended;
    ~Note() { ++ended; }
  } const note{ended};
  co_await clock.sleep_for(1h);
  co_return Bytes();
}

asio::awaitable<void> keep_result(SimNetwork& network, PeerId peer, Clock::TimePoint deadline,
                                  std::optional<ErrorCode>& code) {
  const auto reply = co_await network.call(peer, "sleep", "", deadline);
  if (!reply) code = reply.error().code;
}

TEST(SimNetwork, CancelsHandlersAndFailsCallersWhenANodeDies) {
  Swarm swarm(2);
  int ended = 0;
  ASSERT_TRUE(swarm.clock.run(swarm.nodes[1]->serve(
      "sleep", [&](PeerId, Bytes) { return sleep_and_note_the_end(swarm.clock, ended); })));
  std::optional<ErrorCode> code;
  TaskGroup tasks(swarm.loop.get_executor());
  tasks.spawn("caller", keep_result(*swarm.nodes[0], swarm.nodes[1]->self(), swarm.clock.now() + 1h, code));
  swarm.clock.run_for(1s);
  EXPECT_EQ(ended, 0);
  swarm.net.kill(swarm.nodes[1]->self());
  swarm.clock.run_for(1s);
  EXPECT_EQ(ended, 1);
  EXPECT_EQ(code, ErrorCode::Unavailable);
}

TEST(SimNetwork, ForgetsANodeWhoseNetworkIsDestroyedAndTakesItsIdAgain) {
  Swarm swarm(2);
  const PeerId peer = swarm.nodes[1]->self();
  swarm.nodes[1].reset();
  EXPECT_EQ(swarm.clock.run(swarm.nodes[0]->call(peer, "echo", "", swarm.clock.now() + 1s)).error().code,
            ErrorCode::Unavailable);
  swarm.nodes[1] = std::make_unique<SimNetwork>(swarm.net, peer);
  EXPECT_EQ(swarm.call(0, 1).error().code, ErrorCode::NotFound);
}

asio::awaitable<Result<Bytes>> round_trip(p2p::Stream& stream, std::string_view bytes) {
  const auto written = co_await stream.write(bytes);
  if (!written) co_return written.error();
  co_return co_await p2p::read_exactly(stream, bytes.size());
}

TEST(SimNetwork, DelaysAStreamsBytesOverALossyLinkAndLosesNone) {
  Swarm swarm(2);
  SCOPED_TRACE(repeat_with(test_seed()));
  const auto stream = swarm.clock.run(
      swarm.nodes[0]->open_stream(swarm.nodes[1]->self(), "echo_stream", swarm.clock.now() + 1s));
  ASSERT_TRUE(stream);
  swarm.net.set_link({.loss = 0.5});
  Random random(1);
  const Bytes sent = random_bytes(random, 200'000);
  const auto received = swarm.clock.run(round_trip(**stream, sent));
  ASSERT_TRUE(received) << received.error().message;
  EXPECT_TRUE(*received == sent);
}

TEST(SimNetwork, StallsAStreamWhileItsLinkIsCutAndBreaksItAfterAWhile) {
  Swarm swarm(2);
  const auto stream = swarm.clock.run(
      swarm.nodes[0]->open_stream(swarm.nodes[1]->self(), "echo_stream", swarm.clock.now() + 1s));
  ASSERT_TRUE(stream);
  swarm.net.unplug(swarm.nodes[1]->self());
  const auto late =
      swarm.clock.run(with_deadline(swarm.clock, swarm.clock.now() + 2s, round_trip(**stream, "hello")));
  EXPECT_EQ(late.error().code, ErrorCode::TimedOut);
  swarm.net.revive(swarm.nodes[1]->self());
  EXPECT_EQ(swarm.clock.run(p2p::read_exactly(**stream, 5)).value(), "hello");
  swarm.net.unplug(swarm.nodes[1]->self());
  EXPECT_EQ(swarm.clock.run(round_trip(**stream, "hello")).error().code, ErrorCode::Unavailable);
}

asio::awaitable<void> call_at_random(Swarm& swarm, std::size_t from, int calls, std::uint64_t seed,
                                     int& answered) {
  Random random(seed);
  for (int i = 0; i < calls; ++i) {
    const std::size_t to = random() % swarm.nodes.size();
    const auto deadline = swarm.clock.now() + 3s;
    const auto reply =
        co_await swarm.nodes[from]->call(swarm.nodes[to]->self(), "echo", Bytes(100, 'x'), deadline);
    if (reply) ++answered;
  }
}

struct Outcome {
  int answered = 0;
  std::uint64_t messages = 0;
  Clock::TimePoint ended;
  friend bool operator==(const Outcome&, const Outcome&) = default;
};

Outcome run_swarm(std::size_t size, int calls, std::uint64_t seed) {
  Swarm swarm(size, seed);
  swarm.net.set_link({.latency_min = 5ms, .latency_max = 80ms, .loss = 0.02});
  Outcome outcome;
  TaskGroup tasks(swarm.loop.get_executor());
  for (std::size_t i = 0; i < size; ++i) {
    tasks.spawn("caller", call_at_random(swarm, i, calls, seed + i, outcome.answered));
  }
  while (tasks.size() > 0) swarm.clock.run_for(1s);
  outcome.messages = swarm.net.traffic().messages;
  outcome.ended = swarm.clock.now();
  return outcome;
}

TEST(SimNetwork, TakesTheSamePathWithTheSameSeedAndAnotherWithAnother) {
  EXPECT_EQ(run_swarm(20, 20, 7), run_swarm(20, 20, 7));
  EXPECT_NE(run_swarm(20, 20, 7), run_swarm(20, 20, 8));
}

TEST(SimNetwork, CarriesFortyThousandCallsAmongTwoHundredNodesInSeconds) {
  const auto begin = std::chrono::steady_clock::now();
  const Outcome outcome = run_swarm(200, 200, test_seed());
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;
  EXPECT_GT(outcome.answered, 37'000);
  EXPECT_LT(took.count(), 60);
  RecordProperty("seconds", std::to_string(took.count()));
}

}  // namespace
}  // namespace hivemetal::sim
