#include "scheduler/placement.h"

#include <algorithm>
#include <gtest/gtest.h>

#include "sim/sim_network.h"

namespace hivemetal::scheduler {
namespace {

constexpr std::uint64_t kGiB = std::uint64_t{1} << 30;
const Grant kGrant{1000, kGiB};

Candidate node(std::uint32_t number, std::uint32_t slots = 2) {
  return {.node = sim::sim_peer_id(number),
          .name = "n" + std::to_string(number),
          .offer = number,
          .slots = slots,
          .cpus_total = 4,
          .cpus_free = 4,
          .memory_total = 8 * kGiB,
          .memory_free = 8 * kGiB,
          .rtt_ms = 1};
}

std::vector<WorkerToPlace> workers(std::uint32_t count) {
  std::vector<WorkerToPlace> list;
  for (std::uint32_t i = 0; i < count; ++i) list.push_back({.worker = i});
  return list;
}

TEST(Placement, SpreadsOverNodesBeforeItUsesANodeTwice) {
  auto strong = node(1, 4);
  strong.cpus_total = strong.cpus_free = 64;
  auto weak = node(2, 4);
  weak.cpus_total = weak.cpus_free = 1;
  weak.rtt_ms = 200;
  const auto placements = place("run", kGrant, {strong, weak}, workers(3));
  ASSERT_EQ(placements.size(), 3U);
  EXPECT_EQ(placements[0].candidate, 0U);
  EXPECT_EQ(placements[1].candidate, 1U);
  EXPECT_EQ(placements[2].candidate, 0U);
}

TEST(Placement, CountsTheWorkersThatANodeHasAlready) {
  auto busy = node(1);
  busy.workers = 1;
  const auto placements = place("run", kGrant, {busy, node(2)}, workers(1));
  ASSERT_EQ(placements.size(), 1U);
  EXPECT_EQ(placements[0].candidate, 1U);
}

TEST(Placement, PrefersTheNearerTheIdlerAndTheRoomierNode) {
  auto far = node(2), loaded = node(3), small = node(4);
  far.rtt_ms = 80;
  loaded.load = 3.5;
  small.memory_free = kGiB;
  for (const Candidate& worse : {far, loaded, small}) {
    EXPECT_EQ(place("run", kGrant, {worse, node(1)}, workers(1)).at(0).candidate, 1U) << worse.name;
  }
}

TEST(Placement, ReturnsAWorkerToTheNodeThatHasItsCheckpoints) {
  EXPECT_EQ(
      place("run", kGrant, {node(1), node(2)}, {{.worker = 0, .home = sim::sim_peer_id(2)}}).at(0).candidate,
      1U);
  EXPECT_EQ(
      place("run", kGrant, {node(1), node(2)}, {{.worker = 0, .home = sim::sim_peer_id(1)}}).at(0).candidate,
      0U);
}

TEST(Placement, UsesANodeToAvoidOnlyIfThereIsNoOther) {
  const WorkerToPlace worker{.worker = 0, .home = sim::sim_peer_id(1), .avoid = sim::sim_peer_id(1)};
  EXPECT_EQ(place("run", kGrant, {node(1), node(2)}, {worker}).at(0).candidate, 1U);
  EXPECT_EQ(place("run", kGrant, {node(1)}, {worker}).size(), 1U);
}

TEST(Placement, TurnsAwayFromANodeThatFailed) {
  auto failing = node(1);
  failing.failures = 1;
  EXPECT_EQ(place("run", kGrant, {failing, node(2)}, workers(1)).at(0).candidate, 1U);
}

TEST(Placement, NeverTakesMoreSlotsThanOffered) {
  const auto placements = place("run", kGrant, {node(1, 1), node(2, 2)}, workers(5));
  EXPECT_EQ(placements.size(), 3U);
  EXPECT_EQ(
      std::count_if(placements.begin(), placements.end(), [](const auto& p) { return p.candidate == 0; }), 1);
}

TEST(Placement, DoesNotDependOnTheOrderOfOffers) {
  std::vector<Candidate> candidates{node(1), node(2), node(3), node(4)};
  const auto first = place("run", kGrant, candidates, workers(2));
  std::reverse(candidates.begin(), candidates.end());
  const auto second = place("run", kGrant, candidates, workers(2));
  ASSERT_EQ(first.size(), second.size());
  for (std::size_t i = 0; i < first.size(); ++i) EXPECT_EQ(first[i].candidate, 3 - second[i].candidate);
}

TEST(Placement, SaysWhyInWordsAndPredictsTheLoad) {
  auto candidate = node(1);
  candidate.cpus_free = 3;
  candidate.failures = 2;
  candidate.workers = 1;
  const auto placement = place("run", kGrant, {candidate}, {{.worker = 0, .home = candidate.node}}).at(0);
  EXPECT_EQ(placement.why,
            "3.0 of 4.0 cores free, load 0.0, 8.0 GiB free, rtt 1.0 ms, ran here before, failed here 2×, has "
            "1 of this run");
  EXPECT_DOUBLE_EQ(placement.predicted_load, 0.5);
}

}  // namespace
}  // namespace hivemetal::scheduler
