#include "scheduler/lease_table.h"

#include <gtest/gtest.h>

#include "base/random.h"
#include "sim/seed.h"
#include "sim/sim_network.h"

namespace hivemetal::scheduler {
namespace {

using namespace std::chrono_literals;

constexpr std::uint64_t kMiB = 1 << 20;
const PeerId kAnn = sim::sim_peer_id(1);
const PeerId kBob = sim::sim_peer_id(2);
const Grant kOne{1000, 512 * kMiB};
const LeaseKey kWorker{"run-a", 0};
constexpr auto kTtl = 10'000ms;

struct LeaseTableTest : testing::Test {
  Clock::TimePoint now{1h};
  LeaseTable table{Grant{4000, 4096 * kMiB}};

  // A lease that is in force, under `epoch`.
  void lease(const LeaseKey& key, std::uint64_t epoch) {
    const auto offer = table.offer(now, kAnn, key.run, kOne, 1).value();
    ASSERT_TRUE(table.take(now, kAnn, offer.id, key, epoch, kOne, kTtl).value().started);
  }
};

TEST_F(LeaseTableTest, OffersNoMoreThanFits) {
  EXPECT_EQ(table.offer(now, kAnn, "run-a", kOne, 9).value().slots, 4U);
  EXPECT_EQ(table.free().milli_cpus, 0U);
  const auto refused = table.offer(now, kBob, "run-b", kOne, 1);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::Refused);
  EXPECT_EQ(refused.error().message, "wanted 1000m cpus and 512 MiB, free are 0m cpus and 2048 MiB");
}

TEST_F(LeaseTableTest, GivesTheCapacityOfAnExpiredOfferToOthers) {
  ASSERT_TRUE(table.offer(now, kAnn, "run-a", kOne, 4));
  now += 4s;
  EXPECT_TRUE(table.offer(now, kBob, "run-b", kOne, 4));
}

TEST_F(LeaseTableTest, ReplacesAnOfferOfTheSamePeerForTheSameRun) {
  for (int i = 0; i < 50; ++i) ASSERT_EQ(table.offer(now, kAnn, "run-a", kOne, 4).value().slots, 4U);
}

TEST_F(LeaseTableTest, BoundsTheOpenOffersOfOnePeer) {
  LeaseTable wide(Grant{1'000'000, std::uint64_t{1} << 49});
  for (int i = 0; i < 16; ++i) ASSERT_TRUE(wide.offer(now, kAnn, "run-" + std::to_string(i), kOne, 1));
  EXPECT_FALSE(wide.offer(now, kAnn, "run-x", kOne, 1));
  EXPECT_TRUE(wide.offer(now, kBob, "run-x", kOne, 1));
}

TEST_F(LeaseTableTest, RefusesANonsensicalGrant) {
  EXPECT_EQ(table.offer(now, kAnn, "run-a", {0, kMiB}, 1).error().code, ErrorCode::Invalid);
  EXPECT_EQ(table.offer(now, kAnn, "run-a", {~std::uint64_t{0}, kMiB}, 2).error().code, ErrorCode::Invalid);
}

TEST_F(LeaseTableTest, LeasesOnlyWhatWasOffered) {
  const auto offer = table.offer(now, kAnn, "run-a", kOne, 1).value();
  EXPECT_FALSE(table.take(now, kBob, offer.id, kWorker, 1, kOne, kTtl)) << "another peer";
  EXPECT_FALSE(table.take(now, kAnn, offer.id, {"run-b", 0}, 1, kOne, kTtl)) << "another run";
  EXPECT_FALSE(table.take(now, kAnn, offer.id, kWorker, 1, {2000, kMiB}, kTtl)) << "another size";
  EXPECT_FALSE(table.take(now + 4s, kAnn, offer.id, kWorker, 1, kOne, kTtl)) << "expired";
  EXPECT_TRUE(table.take(now, kAnn, offer.id, kWorker, 1, kOne, kTtl));
  EXPECT_FALSE(table.take(now, kAnn, offer.id, {"run-a", 1}, 2, kOne, kTtl)) << "used up";
}

TEST_F(LeaseTableTest, StartsAWorkerOnceHoweverOftenItIsAsked) {
  const auto offer = table.offer(now, kAnn, "run-a", kOne, 2).value();
  EXPECT_TRUE(table.take(now, kAnn, offer.id, kWorker, 5, kOne, kTtl).value().started);
  EXPECT_FALSE(table.take(now, kAnn, offer.id, kWorker, 5, kOne, kTtl).value().started);
  table.ended(now, kWorker, 5);
  EXPECT_FALSE(table.take(now, kAnn, offer.id, kWorker, 5, kOne, kTtl).value().started);
  ASSERT_TRUE(table.release(now, kAnn, kWorker, 6));
  EXPECT_FALSE(table.take(now, kAnn, offer.id, kWorker, 5, kOne, kTtl))
      << "a late copy after the lease was forgotten";
  EXPECT_TRUE(table.take(now, kAnn, offer.id, kWorker, 7, kOne, kTtl).value().started);
}

TEST_F(LeaseTableTest, RefusesWhatComesWithAnOlderEpoch) {
  lease(kWorker, 5);
  EXPECT_TRUE(table.renew(now, kAnn, kWorker, 7));
  EXPECT_EQ(table.renew(now, kAnn, kWorker, 6).error().code, ErrorCode::Refused);
  EXPECT_EQ(table.release(now, kAnn, kWorker, 6).error().code, ErrorCode::Refused);
  const auto offer = table.offer(now, kAnn, "run-a", kOne, 1).value();
  EXPECT_EQ(table.take(now, kAnn, offer.id, kWorker, 5, kOne, kTtl).error().code, ErrorCode::Refused);
  EXPECT_EQ(table.find(kWorker)->epoch, 7U);
}

TEST_F(LeaseTableTest, RefusesAnotherCoordinator) {
  lease(kWorker, 1);
  EXPECT_EQ(table.renew(now, kBob, kWorker, 9).error().code, ErrorCode::Refused);
  EXPECT_EQ(table.release(now, kBob, kWorker, 9).error().code, ErrorCode::Refused);
  const auto offer = table.offer(now, kBob, "run-a", kOne, 1).value();
  EXPECT_EQ(table.take(now, kBob, offer.id, kWorker, 9, kOne, kTtl).error().code, ErrorCode::Refused);
}

TEST_F(LeaseTableTest, StopsTheOldWorkerBeforeItStartsANewOneInTheSameSlot) {
  lease(kWorker, 1);
  table.running(kWorker, 1);
  const auto offer = table.offer(now, kAnn, "run-a", kOne, 1).value();
  const auto taken = table.take(now, kAnn, offer.id, kWorker, 2, kOne, kTtl).value();
  EXPECT_FALSE(taken.started);
  ASSERT_TRUE(taken.superseded);
  EXPECT_EQ(taken.superseded->first_epoch, 1U);
  EXPECT_EQ(table.find(kWorker)->state, LeaseState::Stopping);
  table.ended(now, kWorker, 1);
  EXPECT_TRUE(table.take(now, kAnn, offer.id, kWorker, 2, kOne, kTtl).value().started);
}

TEST_F(LeaseTableTest, KeepsALeaseAsLongAsItIsRenewed) {
  lease(kWorker, 1);
  table.running(kWorker, 1);
  for (int i = 0; i < 10; ++i) {
    now += 9s;
    EXPECT_TRUE(table.expire(now).empty());
    ASSERT_TRUE(table.renew(now, kAnn, kWorker, 1));
  }
  now += 10s;
  const auto expired = table.expire(now);
  ASSERT_EQ(expired.size(), 1U);
  EXPECT_EQ(expired[0].key, kWorker);
  EXPECT_EQ(table.find(kWorker)->state, LeaseState::Stopping);
  EXPECT_EQ(table.free().milli_cpus, 3000U) << "until the worker has ended, its capacity is not free";
  table.ended(now, kWorker, 1);
  EXPECT_EQ(table.free().milli_cpus, 4000U);
  EXPECT_TRUE(table.find(kWorker)) << "the coordinator wants to know how it ended";
  table.expire(now + 11min);
  EXPECT_FALSE(table.find(kWorker));
}

TEST_F(LeaseTableTest, DoesNotRenewALeaseThatIsBeingStopped) {
  lease(kWorker, 1);
  ASSERT_TRUE(table.release(now, kAnn, kWorker, 2));
  EXPECT_EQ(table.renew(now, kAnn, kWorker, 2).value().state, LeaseState::Stopping);
  EXPECT_EQ(table.renew(now, kAnn, {"run-a", 7}, 2).error().code, ErrorCode::NotFound);
}

TEST_F(LeaseTableTest, FencesAWorkerWhoseStopOvertookItsStart) {
  const auto offer = table.offer(now, kAnn, "run-a", kOne, 1).value();
  EXPECT_EQ(table.release(now, kAnn, kWorker, 6).error().code, ErrorCode::NotFound);
  EXPECT_EQ(table.take(now, kAnn, offer.id, kWorker, 5, kOne, kTtl).error().code, ErrorCode::Refused);
}

TEST_F(LeaseTableTest, ClampsTheLifetimeThatACoordinatorAsksFor) {
  const auto offer = table.offer(now, kAnn, "run-a", kOne, 2).value();
  ASSERT_TRUE(table.take(now, kAnn, offer.id, kWorker, 1, kOne, 0ms));
  ASSERT_TRUE(table.take(now, kAnn, offer.id, {"run-a", 1}, 2, kOne, 24h));
  EXPECT_EQ(table.find(kWorker)->ttl, 2s);
  EXPECT_EQ(table.find({"run-a", 1})->ttl, 120s);
}

// Whatever is asked in whatever order: live leases never exceed the capacity, at most one per worker.
TEST(LeaseTableProperty, NeverPromisesMoreThanThereIs) {
  for (std::uint64_t seed = sim::test_seed(1); seed < sim::test_seed(1) + 200; ++seed) {
    SCOPED_TRACE(sim::repeat_with(seed));
    Random random(seed);
    const auto below = [&random](std::uint64_t n) { return random() % n; };
    const Grant capacity{1000 + below(8000), (1 + below(16)) << 30};
    LeaseTable table(capacity);
    Clock::TimePoint now{1h};
    std::map<LeaseKey, std::uint64_t> starts;  // highest epoch started per worker
    for (int step = 0; step < 400; ++step) {
      now += std::chrono::milliseconds(below(2000));
      const PeerId peer = sim::sim_peer_id(1 + below(3));
      const LeaseKey key{"run-" + std::to_string(below(3)), static_cast<std::uint32_t>(below(4))};
      const Grant grant{250 * (1 + below(4)), (1 + below(4)) << 28};
      const std::uint64_t epoch = 1 + below(40);
      switch (below(6)) {
        case 0:
          (void)table.offer(now, peer, key.run, grant, 1 + below(5));
          break;
        case 1: {
          const auto taken = table.take(now, peer, 1 + below(60), key, epoch, grant, kTtl);
          if (taken && taken->started) {
            ASSERT_GT(epoch, starts[key]) << "the same lease was started twice";
            starts[key] = epoch;
          }
          break;
        }
        case 2:
          (void)table.renew(now, peer, key, epoch);
          break;
        case 3:
          (void)table.release(now, peer, key, epoch);
          break;
        case 4:
          if (const auto lease = table.find(key)) table.ended(now, key, lease->first_epoch);
          break;
        case 5:
          table.expire(now);
          break;
      }
      Grant sum;
      for (const Lease& lease : table.leases()) {
        if (lease.state == LeaseState::Ended) continue;
        sum.milli_cpus += lease.grant.milli_cpus;
        sum.memory += lease.grant.memory;
      }
      ASSERT_LE(sum.milli_cpus + table.free().milli_cpus, capacity.milli_cpus);
      ASSERT_LE(sum.memory + table.free().memory, capacity.memory);
    }
  }
}

}  // namespace
}  // namespace hivemetal::scheduler
