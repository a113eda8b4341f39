#include "dht/routing_table.h"

#include <algorithm>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <map>

#include "base/random.h"
#include "dht/blacklist.h"
#include "sim/seed.h"
#include "sim/sim_network.h"

namespace hivemetal::dht {
namespace {

using namespace std::chrono_literals;
using sim::sim_peer_id;

// The id that begins with `bits` and is 0 behind.
DhtId id_with(std::string_view bits) {
  DhtId id;
  for (unsigned i = 0; i < bits.size(); ++i) {
    if (bits[i] == '1') id = id.with_bit(i);
  }
  return id;
}

// The id whose first byte is `first` and whose last one is `last`.
DhtId id_of(unsigned char first, unsigned char last) {
  Bytes bytes(DhtId::kBytes, '\0');
  bytes.front() = static_cast<char>(first);
  bytes.back() = static_cast<char>(last);
  return *DhtId::from_bytes(bytes);
}

Node node(unsigned number, unsigned char first) {
  return {id_of(first, static_cast<unsigned char>(number)), sim_peer_id(number)};
}

TEST(DhtId, ReadsShortNumbersWithLeadingZerosAndRefusesLargeOnes) {
  EXPECT_EQ(DhtId::from_bytes("")->hex(), std::string(40, '0'));
  EXPECT_EQ(DhtId::from_bytes("\x12\x34")->hex(), std::string(36, '0') + "1234");
  EXPECT_EQ(DhtId::from_bytes(Bytes(5, '\0') + Bytes(20, '\xff'))->hex(), std::string(40, 'f'));
  EXPECT_EQ(DhtId::from_bytes(Bytes(21, '\x01')).error().code, ErrorCode::Invalid);
}

TEST(DhtId, MeasuresDistanceByXor) {
  EXPECT_EQ(id_of(0xf0, 1).distance_to(id_of(0x0f, 3)), id_of(0xff, 2));
  EXPECT_EQ(id_of(0xff, 7).prefix(3), id_with("111"));
  EXPECT_TRUE(id_with("101").bit(2));
  EXPECT_FALSE(id_with("101").bit(1));
}

TEST(RoutingTable, NeverHoldsItsOwnNode) {
  RoutingTable table(id_of(1, 1), 2, 5);
  table.add_or_update({id_of(1, 1), sim_peer_id(1)});
  EXPECT_EQ(table.size(), 0U);
}

TEST(RoutingTable, SplitsTheBucketThatHoldsItsOwnId) {
  RoutingTable table(id_with("0"), 2, 1);
  for (unsigned i = 0; i < 2; ++i) table.add_or_update(node(i, 0x80));
  EXPECT_EQ(table.bucket_count(), 1U);
  table.add_or_update(node(2, 0x40));
  EXPECT_EQ(table.bucket_count(), 2U);
  EXPECT_EQ(table.size(), 3U);
}

TEST(RoutingTable, SplitsFarBucketsOnlyToTheNextMultipleOfDepthModulo) {
  RoutingTable far_once(id_with("0"), 1, 1);
  far_once.add_or_update(node(1, 0xff));
  EXPECT_EQ(far_once.add_or_update(node(2, 0x80)), node(1, 0xff)) << "a far bucket at depth 1 must not split";
  EXPECT_EQ(far_once.size(), 1U);

  RoutingTable far_twice(id_with("0"), 1, 2);
  far_twice.add_or_update(node(1, 0xff));
  EXPECT_EQ(far_twice.add_or_update(node(2, 0x80)), std::nullopt) << "at depth 1 it may, to depth 2";
  EXPECT_EQ(far_twice.size(), 2U);
}

TEST(RoutingTable, AsksToPingTheNodeSilentForLongestAndEachOnlyOnce) {
  RoutingTable table(id_with("0"), 2, 1);
  table.add_or_update(node(1, 0x81));
  table.add_or_update(node(2, 0x82));
  table.add_or_update(node(1, 0x81));  // heard of again: 2 is the oldest now
  EXPECT_EQ(table.add_or_update(node(3, 0x83)), node(2, 0x82));
  EXPECT_EQ(table.add_or_update(node(4, 0x84)), node(1, 0x81));
  EXPECT_EQ(table.add_or_update(node(5, 0x85)), std::nullopt) << "both are being pinged";
  table.add_or_update(node(2, 0x82));
  EXPECT_EQ(table.add_or_update(node(5, 0x85)), node(2, 0x82)) << "2 has answered, and may be pinged again";
}

TEST(RoutingTable, PromotesTheNewestReplacement) {
  RoutingTable table(id_with("0"), 2, 1);
  for (unsigned i = 1; i <= 4; ++i) table.add_or_update(node(i, 0x80));
  table.remove(node(1, 0x80).id);
  EXPECT_THAT(table.nearest(id_with("1"), 5), testing::ElementsAre(node(2, 0x80), node(4, 0x80)));
  table.remove(node(4, 0x80).peer);
  EXPECT_THAT(table.nearest(id_with("1"), 5), testing::ElementsAre(node(2, 0x80), node(3, 0x80)));
}

TEST(RoutingTable, KeepsOneIdPerPeer) {
  RoutingTable table(id_with("0"), 20, 5);
  table.add_or_update({id_of(0x80, 1), sim_peer_id(7)});
  table.add_or_update({id_of(0x20, 1), sim_peer_id(7)});
  EXPECT_EQ(table.size(), 1U);
  EXPECT_EQ(table.id_of(sim_peer_id(7)), id_of(0x20, 1));
}

TEST(RoutingTable, LeavesOutWhomItIsToldTo) {
  RoutingTable table(id_with("0"), 20, 5);
  for (unsigned i = 1; i < 6; ++i) table.add_or_update(node(i, 0x80));
  EXPECT_THAT(table.nearest(id_of(0x80, 0), 2, id_of(0x80, 1)),
              testing::ElementsAre(node(2, 0x80), node(3, 0x80)));
}

TEST(RoutingTable, FindsTheNearestOfAllItHolds) {
  const std::uint64_t seed = sim::test_seed();
  SCOPED_TRACE(sim::repeat_with(seed));
  Random random(seed);
  for (int round = 0; round < 20; ++round) {
    const DhtId self = DhtId::random(random);
    RoutingTable table(self, 4, 3);
    std::map<DhtId, Node> held;
    for (unsigned i = 0; i < 300; ++i) {
      const Node candidate{DhtId::random(random), sim_peer_id(i)};
      table.add_or_update(candidate);
    }
    const auto all = table.nearest(self, 10'000);
    ASSERT_EQ(all.size(), table.size());
    for (int query = 0; query < 20; ++query) {
      const DhtId target = DhtId::random(random);
      auto expected = all;
      std::ranges::sort(expected, {}, [&](const Node& n) { return n.id.distance_to(target); });
      expected.resize(std::min<std::size_t>(expected.size(), 7));
      ASSERT_EQ(table.nearest(target, 7), expected);
    }
    for (const Node& n : all) table.remove(n.id);
    while (table.size() > 0) table.remove(table.nearest(self, 1).front().id);  // replacements that moved up
    EXPECT_EQ(table.nearest(self, 1).size(), 0U);
  }
}

TEST(Blacklist, WaitsTwiceAsLongAfterEachFurtherFailure) {
  Blacklist blacklist(5s, 2);
  const auto peer = sim_peer_id(1);
  Clock::TimePoint now{};
  for (const auto pause : {5s, 10s, 20s, 40s}) {
    blacklist.failed(peer, now);
    blacklist.failed(peer, now + 1s);  // while it is listed nobody asks; a late failure changes nothing
    EXPECT_TRUE(blacklist.contains(peer, now + pause - 1ms));
    EXPECT_FALSE(blacklist.contains(peer, now + pause));
    now += pause;
  }
  blacklist.answered(peer);
  blacklist.failed(peer, now);
  EXPECT_TRUE(blacklist.contains(peer, now + 4s));
  EXPECT_FALSE(blacklist.contains(peer, now + 5s)) << "an answer forgives the past";
}

TEST(Blacklist, CanBeSwitchedOff) {
  Blacklist blacklist(0s, 2);
  blacklist.failed(sim_peer_id(1), {});
  EXPECT_FALSE(blacklist.contains(sim_peer_id(1), {}));
}

}  // namespace
}  // namespace hivemetal::dht
