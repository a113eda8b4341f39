#include "scheduler/capacity_board.h"

#include <gtest/gtest.h>
#include <map>

#include "sim/sim_clock.h"

namespace hivemetal::scheduler {
namespace {

using namespace std::chrono_literals;

// A directory in memory, as a DHT behaves: the entry that expires later wins, and what has expired is gone.
class MemoryDirectory final : public Directory {
 public:
  explicit MemoryDirectory(Clock& clock) : clock_(clock) {}

  asio::awaitable<Result<void>> store(std::string key, Bytes subkey, Bytes value, double expires,
                                      Clock::TimePoint) override {
    co_await clock_.sleep_for(10ms);
    if (down) co_return Error{ErrorCode::Unavailable, "down"};
    ++stores;
    auto& entry = entries_[{key, subkey}];
    if (expires > entry.second) entry = {std::move(value), expires};
    co_return Result<void>();
  }

  asio::awaitable<Result<std::vector<Entry>>> get(std::string key, Clock::TimePoint) override {
    co_await clock_.sleep_for(10ms);
    if (down) co_return Error{ErrorCode::Unavailable, "down"};
    std::vector<Entry> found;
    for (const auto& [name, entry] : entries_) {
      if (name.first == key && entry.second > clock_.unix_time()) found.push_back({name.second, entry.first});
    }
    co_return found;
  }

  bool down = false;
  int stores = 0;

 private:
  Clock& clock_;
  std::map<std::pair<std::string, Bytes>, std::pair<Bytes, double>> entries_;
};

struct CapacityBoardTest : testing::Test {
  asio::io_context loop;
  sim::SimClock clock{loop};
  MemoryDirectory directory{clock};
  std::vector<identity::PrivateKey> keys{identity::PrivateKey::from_seed(std::string(32, '\x01')).value(),
                                         identity::PrivateKey::from_seed(std::string(32, '\x02')).value()};
  double free = 4;
  CapacityBoard a{loop.get_executor(), clock, directory, keys[0], [this] { return record("a", free); },
                  {.swarm = "home"}};
  CapacityBoard b{loop.get_executor(), clock, directory, keys[1], [this] { return record("b", 2); },
                  {.swarm = "home"}};

  CapacityRecord record(std::string name, double cpus_free) const {
    return {.name = std::move(name),
            .version = "1",
            .cpus_total = 4,
            .cpus_free = cpus_free,
            .memory_total = 1 << 30};
  }

  // The record of the other node, as `board` knows it.
  static std::optional<CapacityRecord> other(const CapacityBoard& board) {
    const auto known = board.known();
    return known.size() < 2 ? std::nullopt : std::optional(known.at(1));
  }

  void start() {
    a.start();
    b.start();
    clock.run_for(6s);
  }
  void stop() {
    clock.run(a.stop());
    clock.run(b.stop());
  }
};

TEST_F(CapacityBoardTest, ShowsEverybodyToEverybody) {
  start();
  EXPECT_EQ(a.known().at(0).name, "a");
  EXPECT_EQ(other(a)->name, "b");
  EXPECT_EQ(other(b)->name, "a");
  EXPECT_EQ(other(b)->node, keys[0].peer_id());
  stop();
}

TEST_F(CapacityBoardTest, PublishesAChangeWithoutWaitingForTheNextRefresh) {
  start();
  const int stores = directory.stores;
  free = 1;
  for (int i = 0; i < 10; ++i) a.changed();
  clock.run_for(300ms);
  EXPECT_EQ(directory.stores, stores + 1) << "what changes together is published once";
  EXPECT_TRUE(clock.run(b.read(clock.now() + 1s)));
  EXPECT_EQ(other(b)->cpus_free, 1);
  stop();
}

TEST_F(CapacityBoardTest, ForgetsANodeThatIsNotHeardOfAnyMore) {
  start();
  clock.run(b.stop());
  clock.run_for(6s);
  EXPECT_FALSE(other(a)) << "it has said goodbye";
  stop();
}

TEST_F(CapacityBoardTest, KeepsWhatItKnowsForAWhileWhenTheDirectoryIsDown) {
  start();
  directory.down = true;
  EXPECT_EQ(clock.run(a.read(clock.now() + 1s)).error().code, ErrorCode::Unavailable);
  EXPECT_TRUE(other(a));
  clock.run_for(25s);
  EXPECT_FALSE(other(a));
  directory.down = false;
  clock.run_for(12s);
  EXPECT_TRUE(other(a));
  stop();
}

TEST_F(CapacityBoardTest, IgnoresAndCountsWhatIsNoRecordOfItsNode) {
  start();
  const auto stranger = identity::PrivateKey::from_seed(std::string(32, '\x03')).value().peer_id();
  const std::string key = capacity_key("home", capacity_shard(stranger));
  auto lie = record("liar", 4);
  lie.node = keys[1].peer_id();
  lie.time = clock.unix_time();
  lie.expires = lie.time + 30;
  (void)clock.run(
      directory.store(key, stranger.bytes(), encode_capacity(lie, "home", keys[1]), lie.expires, {}));
  (void)clock.run(directory.store(key, "no peer id", "no record", lie.expires, {}));
  EXPECT_TRUE(clock.run(a.read(clock.now() + 1s)));
  EXPECT_EQ(a.known().size(), 2U);
  EXPECT_EQ(a.rejected(), 2U);
  stop();
}

TEST_F(CapacityBoardTest, SeesThatItsClockIsBehind) {
  start();
  EXPECT_EQ(a.clock_ahead_s(), 0) << "the age of a record is no error of the clock";
  auto slow = record("slow", 4);
  slow.node = keys[1].peer_id();
  slow.time = clock.unix_time() + 3600;
  slow.expires = slow.time + 15;
  (void)clock.run(directory.store(capacity_key("home", capacity_shard(slow.node)), slow.node.bytes(),
                                  encode_capacity(slow, "home", keys[1]), slow.expires, {}));
  EXPECT_TRUE(clock.run(a.read(clock.now() + 1s)));
  EXPECT_NEAR(a.clock_ahead_s(), -3600, 6);
  stop();
}

}  // namespace
}  // namespace hivemetal::scheduler
