// Many nodes in one process: joining, storing, finding, losing messages, dying, being cut off.
#include <deque>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/random.h"
#include "dht/dht.h"
#include "dht/progress_schema.h"
#include "dht/signed_record.h"
#include "sim/seed.h"
#include "sim/sim_clock.h"
#include "sim/sim_network.h"

namespace hivemetal::dht {
namespace {

using namespace std::chrono_literals;
using sim::sim_peer_id;
using wire::Value;

// One clock may be wrong: a clock that shows another time than the world's.
class ShiftedClock final : public Clock {
 public:
  ShiftedClock(Clock& clock, double shift_s) : clock_(clock), shift_s_(shift_s) {}
  TimePoint now() const override { return clock_.now(); }
  double unix_time() const override { return clock_.unix_time() + shift_s_; }
  asio::awaitable<void> sleep_until(TimePoint time) override { return clock_.sleep_until(time); }

 private:
  Clock& clock_;
  double shift_s_;
};

struct SimPeer {
  SimPeer(sim::SimNet& net, std::uint32_t number, asio::any_io_executor executor, Clock& clock,
          DhtOptions options, std::uint64_t seed)
      : network(net, sim_peer_id(number)), dht(executor, clock, network, std::move(options), Random(seed)) {}

  sim::SimNetwork network;
  Dht dht;
};

struct Swarm : testing::Test {
  asio::io_context loop;
  sim::SimClock clock{loop};
  const std::uint64_t seed = sim::test_seed();
  testing::ScopedTrace trace{__FILE__, __LINE__, sim::repeat_with(seed)};
  sim::SimNet net{loop, clock, seed};
  Random random{seed};
  std::uint32_t next_number = 1;
  std::map<std::uint32_t, std::unique_ptr<SimPeer>> peers;

  ~Swarm() override {
    while (!peers.empty()) leave(peers.begin()->first);
  }

  std::uint32_t add(DhtOptions options = {}, Clock* other_clock = nullptr) {
    const std::uint32_t number = next_number++;
    peers[number] = std::make_unique<SimPeer>(
        net, number, loop.get_executor(), other_clock ? *other_clock : clock, std::move(options), random());
    return number;
  }

  Dht& dht(std::uint32_t number) { return peers.at(number)->dht; }
  p2p::Multiaddr address(std::uint32_t number) { return peers.at(number)->network.addresses().front(); }

  Result<void> start(std::uint32_t number, std::vector<std::uint32_t> through) {
    std::vector<p2p::Multiaddr> addresses;
    for (const auto peer : through) addresses.push_back(address(peer));
    return clock.run(dht(number).start(std::move(addresses)));
  }

  std::uint32_t join(std::vector<std::uint32_t> through, DhtOptions options = {}) {
    const auto number = add(std::move(options));
    const auto started = start(number, std::move(through));
    EXPECT_TRUE(started) << started.error().message;
    return number;
  }

  // A good-bye: handlers and requests end first.
  void leave(std::uint32_t number) {
    clock.run(peers.at(number)->dht.stop());
    clock.run(peers.at(number)->network.stop());
    peers.erase(number);
  }

  std::uint32_t anyone() {
    auto it = peers.begin();
    std::advance(it, static_cast<std::ptrdiff_t>(random() % peers.size()));
    return it->first;
  }

  Result<bool> store(std::uint32_t by, Value key, Value value, double ttl = 3600,
                     std::optional<Value> subkey = {}) {
    return clock.run(
        dht(by).store(std::move(key), std::move(subkey), std::move(value), clock.unix_time() + ttl));
  }

  std::optional<Found> get(std::uint32_t by, Value key, bool latest = true) {
    auto found = clock.run(dht(by).get(std::move(key), latest));
    return found ? std::move(*found) : std::nullopt;
  }

  std::vector<std::uint32_t> join_many(std::size_t count, const DhtOptions& options = {}) {
    std::vector<std::uint32_t> numbers;
    for (std::size_t i = 0; i < count; ++i)
      numbers.push_back(join(peers.empty() ? std::vector<std::uint32_t>{} : std::vector{anyone()}, options));
    return numbers;
  }
};

TEST_F(Swarm, FindsFromAnyNodeWhatAnyNodeStored) {
  const auto nodes = join_many(8);
  ASSERT_TRUE(*store(nodes[1], "my_key", Value::tuple({"i", "love", "bees"})));
  for (const auto node : nodes) {
    const auto found = get(node, "my_key");
    ASSERT_TRUE(found && found->regular);
    EXPECT_EQ(found->regular->value, Value::tuple({"i", "love", "bees"}));
  }
  EXPECT_FALSE(get(nodes[0], "another key"));
}

TEST_F(Swarm, MergesTheSubkeysOfAllWriters) {
  const auto nodes = join_many(6);
  for (const auto node : nodes)
    ASSERT_TRUE(*store(node, "party", static_cast<int>(node), 600, Value(static_cast<int>(node))));
  for (const auto node : nodes) EXPECT_EQ(get(node, "party")->entries.size(), 6U);
}

TEST_F(Swarm, PrefersTheLaterRecordAndForgetsTheExpired) {
  const auto nodes = join_many(5);
  EXPECT_TRUE(*store(nodes[0], "k", "first", 100));
  EXPECT_FALSE(*store(nodes[1], "k", "earlier", 50));
  EXPECT_EQ(get(nodes[2], "k")->regular->value, "first");
  EXPECT_TRUE(*store(nodes[1], "k", "later", 200));
  EXPECT_EQ(get(nodes[2], "k")->regular->value, "later");
  clock.run_for(201s);
  for (const auto node : nodes) EXPECT_FALSE(get(node, "k", false));
}

TEST_F(Swarm, LivesWithOneNodeAndRefusesWhatCannotBeStored) {
  const auto node = join({});
  EXPECT_TRUE(*store(node, "k", 1));
  EXPECT_EQ(get(node, "k")->regular->value, 1);
  EXPECT_EQ(store(node, nullptr, 1).error().code, ErrorCode::Invalid);
  EXPECT_EQ(store(node, "k", 1, 10, Value(wire::Array{})).error().code, ErrorCode::Invalid);
  EXPECT_EQ(store(node, "k", 1, -10).error().code, ErrorCode::Invalid);
  EXPECT_EQ(store(node, "k", Value::bin(Bytes(4'000'000, 'x'))).error().code, ErrorCode::Invalid);
}

TEST_F(Swarm, ServesClientsWithoutAskingThemForAnything) {
  const auto nodes = join_many(4);
  const auto client = join({nodes[0]}, {.client_mode = true});
  EXPECT_TRUE(*store(client, "from the client", 1));
  EXPECT_EQ(get(nodes[3], "from the client")->regular->value, 1);
  EXPECT_TRUE(*store(nodes[2], "for the client", 2));
  EXPECT_EQ(get(client, "for the client")->regular->value, 2);
  EXPECT_EQ(dht(client).stats().stored_entries, 0U);
  EXPECT_EQ(dht(client).stats().requests_served, 0U);
  for (const auto node : nodes) EXPECT_EQ(dht(node).stats().known_nodes, 3U);
  leave(client);
}

TEST_F(Swarm, RefusesToJoinWithAWrongClockAndSaysByHowMuch) {
  const auto nodes = join_many(3);
  ShiftedClock wrong(clock, -3601);
  const auto late = add({}, &wrong);
  const auto started = start(late, {nodes[0], nodes[1]});
  ASSERT_FALSE(started);
  EXPECT_EQ(started.error().code, ErrorCode::Refused);
  EXPECT_THAT(started.error().message, testing::HasSubstr("3601 s behind"));
  EXPECT_NEAR(*dht(late).stats().clock_offset_s, -3601, 0.1);
  const auto offset =
      clock.run(clock_offset_to(peers.at(late)->network, wrong, address(nodes[0]), clock.now() + 3s));
  EXPECT_NEAR(*offset, -3601, 0.1);
  leave(late);
}

TEST_F(Swarm, SaysWhenNobodyIsThere) {
  const auto gone = join({});
  const auto there = add();
  const auto address_of_gone = address(gone);
  net.kill(sim_peer_id(gone));
  const auto started = clock.run(dht(there).start({address_of_gone}));
  ASSERT_FALSE(started);
  EXPECT_EQ(started.error().code, ErrorCode::Unavailable);
  EXPECT_THAT(started.error().message, testing::HasSubstr("none of the initial peers"));
}

TEST_F(Swarm, HandsRecordsOverToANearerNewcomer) {
  const auto nodes = join_many(3);
  for (int i = 0; i < 50; ++i) ASSERT_TRUE(*store(nodes[0], i, i));
  const auto newcomer = join({nodes[1]});
  clock.run_for(5s);
  EXPECT_EQ(dht(newcomer).stats().stored_entries, 50U)
      << "fewer nodes than replicas: everybody holds everything";
  for (const auto node : nodes) leave(node);
  for (int i = 0; i < 50; ++i) EXPECT_EQ(get(newcomer, i)->regular->value, i);
}

TEST_F(Swarm, StoresWithoutSearchingInASwarmItHasJustSeen) {
  const auto nodes = join_many(8);
  ASSERT_TRUE(get(nodes[0], "nothing") == std::nullopt);
  const auto before = dht(nodes[0]).stats().requests_sent;
  ASSERT_TRUE(*store(nodes[0], "k", 1));
  EXPECT_LE(dht(nodes[0]).stats().requests_sent - before, 5U);
}

TEST_F(Swarm, CallsItsOwnKindOverALineAndGoesOnWithoutIt) {
  const auto nodes = join_many(3);
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(*store(nodes[0], i, i));
  clock.run_for(1s);
  EXPECT_EQ(dht(nodes[0]).stats().lines, 2U);
  const auto calls = net.traffic_of(sim_peer_id(nodes[0])).calls;
  ASSERT_TRUE(*store(nodes[0], "over the lines", 1));
  EXPECT_EQ(net.traffic_of(sim_peer_id(nodes[0])).calls, calls);

  net.kill(sim_peer_id(nodes[1]));
  clock.run_for(100ms);
  EXPECT_EQ(dht(nodes[0]).stats().lines, 1U);
  ASSERT_TRUE(*store(nodes[0], "to the other one", 1));
  net.revive(sim_peer_id(nodes[1]));
  EXPECT_TRUE(get(nodes[2], "to the other one"));
}

TEST_F(Swarm, SpeaksOnlyTheStockProtocolToWhoHasNoOther) {
  const auto stock = join({});
  clock.run(peers.at(stock)->network.stop_serving(std::string(kLineProtocol)));
  const auto ours = join({stock});
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(*store(ours, i, i));
  EXPECT_EQ(dht(ours).stats().lines, 0U);
  EXPECT_EQ(dht(stock).stats().stored_entries, 5U);
  EXPECT_EQ(net.traffic_of(sim_peer_id(ours)).streams, 1U) << "asked once, not for each call";
}

TEST_F(Swarm, AsksFartherNodesOnlyIfTheNearestDiffer) {
  const auto nodes = join_many(10);
  ASSERT_TRUE(*store(nodes[0], "k", 1));
  const auto asked = [&](std::uint32_t reader) {
    const auto before = dht(reader).stats().requests_sent;
    EXPECT_EQ(get(reader, "k")->regular->value, 1);
    return dht(reader).stats().requests_sent - before;
  };
  for (const auto node : nodes) EXPECT_LE(asked(node), 4U);
}

TEST_F(Swarm, SendsManyKeysInFewRequests) {
  const auto nodes = join_many(8);
  std::vector<Put> puts;
  std::vector<Value> keys;
  for (int i = 0; i < 64; ++i) {
    puts.push_back({i, {}, i * i, clock.unix_time() + 600});
    keys.push_back(i);
  }
  const auto before = dht(nodes[2]).stats().requests_sent + dht(nodes[5]).stats().requests_sent;
  for (const auto& stored : clock.run(dht(nodes[2]).store_many(puts))) ASSERT_TRUE(*stored);
  const auto found = clock.run(dht(nodes[5]).get_many(keys, true));
  for (int i = 0; i < 64; ++i) EXPECT_EQ((*found[i])->regular->value, i * i);
  EXPECT_LE(dht(nodes[2]).stats().requests_sent + dht(nodes[5]).stats().requests_sent - before, 130U)
      << "64 stores and 64 gets, one by one, are over 400";
}

TEST_F(Swarm, KeepsSignedRecordsFromTamperingAndWrongShapes) {
  const auto with_rules = [](Dht& dht) {
    dht.add_validator(std::make_unique<ProgressSchema>("run"));
    auto signature = std::make_unique<RsaSignatureValidator>(identity::RsaKey::generate());
    const Bytes marker = signature->owner_marker();
    dht.add_validator(std::move(signature));
    return marker;
  };
  const auto a = add();
  const Bytes marker = with_rules(dht(a));
  const auto b = add();
  with_rules(dht(b));
  ASSERT_TRUE(start(a, {}));
  ASSERT_TRUE(start(b, {a}));
  const Progress progress{
      .peer_id = "p", .epoch = 1, .samples_accumulated = 2, .samples_per_second = 3.0, .time = 4.0};
  EXPECT_TRUE(*store(a, "run_progress", encode(progress), 60, Value::bin(marker)));
  const auto found = get(b, "run_progress");
  ASSERT_TRUE(found);
  EXPECT_EQ(decode_progress(found->entries.front().value), progress);
  EXPECT_EQ(store(b, "run_progress", encode(progress), 90, Value::bin(marker)).error().code,
            ErrorCode::Refused)
      << "b cannot sign for a";
  EXPECT_EQ(store(a, "run_progress", 1, 90, Value::bin(marker)).error().code, ErrorCode::Refused);
}

TEST_F(Swarm, RefreshesACachedRecordInUseBeforeItExpires) {
  const auto nodes = join_many(8);
  ASSERT_TRUE(*store(nodes[0], "k", "old", 100));
  std::uint32_t reader = 0;
  for (const auto node : nodes) {
    if (dht(node).stats().stored_entries == 0 && node != nodes[0]) reader = node;
  }
  ASSERT_NE(reader, 0U);
  ASSERT_TRUE(get(reader, "k"));
  ASSERT_TRUE(get(reader, "k", false)) << "from its cache; that schedules the refresh";
  ASSERT_TRUE(*store(nodes[0], "k", "new", 500));
  clock.run_for(99s);
  EXPECT_EQ(get(reader, "k", false)->regular->value, "new");
}

TEST_F(Swarm, EndsCallsInProgressWhenItStops) {
  const auto nodes = join_many(3);
  net.unplug(sim_peer_id(nodes[1]));
  std::optional<Result<std::optional<Found>>> result;
  asio::co_spawn(loop, dht(nodes[0]).get("k", true),
                 [&](std::exception_ptr, Result<std::optional<Found>> found) { result = std::move(found); });
  clock.run_for(100ms);
  EXPECT_FALSE(result);
  clock.run(dht(nodes[0]).stop());
  clock.run_for(100ms);
  ASSERT_TRUE(result);
  EXPECT_EQ(result->error().code, ErrorCode::Cancelled);
}

TEST_F(Swarm, HealsAfterAPartition) {
  const auto nodes = join_many(20);
  std::vector<p2p::PeerId> left;
  for (std::size_t i = 0; i < 10; ++i) left.push_back(sim_peer_id(nodes[i]));
  ASSERT_TRUE(*store(nodes[0], "before", 1));
  net.partition({left});
  EXPECT_TRUE(store(nodes[1], "left", 1));
  EXPECT_TRUE(store(nodes[15], "right", 2));
  EXPECT_TRUE(get(nodes[2], "left"));
  EXPECT_TRUE(get(nodes[16], "right"));
  EXPECT_FALSE(get(nodes[17], "left"));
  clock.run_for(60s);
  net.heal();
  // Both halves dropped each other. One node that meets the other half again is enough to bring them
  // together.
  const auto bridge = join({nodes[3], nodes[14]});
  clock.run_for(30s);
  for (const auto node : nodes) {
    EXPECT_TRUE(get(node, "left")) << node;
    EXPECT_TRUE(get(node, "right")) << node;
  }
  EXPECT_TRUE(get(bridge, "before"));
}

// Two hundred nodes, a tenth of all messages lost, a fifth of the nodes replaced while others store and read.
TEST_F(Swarm, FindsNearlyEverythingDespiteLossAndChurn) {
  constexpr int kNodes = 200;
  constexpr int kKeys = 200;
  DhtOptions options;
  options.rpc_timeout = 1s;
  options.blacklist_time = 2s;
  net.set_link({.latency_min = 5ms, .latency_max = 50ms, .loss = 0});
  join_many(kNodes, options);
  net.set_link({.latency_min = 5ms, .latency_max = 50ms, .loss = 0.1});

  int stored = 0;
  int found = 0;
  int wanted = 0;
  std::deque<int> keys;
  for (int i = 0; i < kKeys; ++i) {
    const auto took = store(anyone(), "key " + std::to_string(i), i, 3600);
    if (took && *took) {
      ++stored;
      keys.push_back(i);
    }
    if (i % (kKeys / (kNodes / 5)) == 0) {  // a node dies without a word, another comes
      const auto victim = anyone();
      net.kill(sim_peer_id(victim));
      leave(victim);
      join({anyone(), anyone(), anyone()}, options);
    }
    if (keys.empty()) continue;
    const int wanted_key = keys[random() % keys.size()];
    ++wanted;
    const auto value = get(anyone(), "key " + std::to_string(wanted_key), i % 2 == 0);
    found += value && value->regular && value->regular->value == wanted_key;
  }
  RecordProperty("gets_found", found);
  EXPECT_GE(stored, kKeys * 99 / 100);
  EXPECT_GE(found * 100, wanted * 99) << found << " of " << wanted;
}

}  // namespace
}  // namespace hivemetal::dht
