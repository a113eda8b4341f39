#include "scheduler/capacity.h"

#include <gtest/gtest.h>

namespace hivemetal::scheduler {
namespace {

constexpr double kNow = 1'700'000'000;

const identity::PrivateKey& key() {
  static const auto kKey = identity::PrivateKey::from_seed(std::string(32, '\x01')).value();
  return kKey;
}

CapacityRecord record() {
  return {.node = key().peer_id(),
          .name = "attic",
          .version = "0.1.0",
          .cpus_total = 4,
          .cpus_free = 2.5,
          .load = 0.75,
          .memory_total = 8ULL << 30,
          .memory_free = 6ULL << 30,
          .workers = 1,
          .environments = {"torch"},
          .confinement = "C1",
          .addresses = {"/ip4/192.0.2.1/tcp/31337"},
          .time = kNow,
          .expires = kNow + 15};
}

TEST(Capacity, ComesBackAsItWasWritten) {
  const Bytes bytes = encode_capacity(record(), "home", key());
  EXPECT_EQ(decode_capacity(bytes, "home", key().peer_id(), kNow).value(), record());
}

// The example of docs/formats/node-records.md.
TEST(Capacity, IsWrittenByteForByteAsDocumented) {
  const Bytes bytes = encode_capacity(record(), "home", key());
  EXPECT_EQ(to_hex(bytes),
            "92c4e98da46e616d65a56174746963a776657273696f6ea5302e312e30aa637075735f746f74616ccb40100000000000"
            "00a9637075735f66726565cb4004000000000000a46c6f6164cb3fe8000000000000ac6d656d6f72795f746f74616ccf"
            "0000000200000000ab6d656d6f72795f66726565cf0000000180000000a7776f726b65727301ac656e7669726f6e6d65"
            "6e747391a5746f726368ab636f6e66696e656d656e74a24331a961646472657373657391b82f6970342f3139322e302e"
            "322e312f7463702f3331333337a474696d65cb41d954fc40000000a765787069726573cb41d954fc43c00000c440af6d"
            "6e54f13c8ace96b215baa05414c3e05491011f7a89fab60751ceb0d82091e1815e978474023ea6f832e15bdb01438827"
            "b8a287060fb61f31ec06ed41400f");
}

TEST(Capacity, IsRefusedForAnotherNodeSwarmOrContent) {
  const Bytes bytes = encode_capacity(record(), "home", key());
  const auto other = identity::PrivateKey::from_seed(std::string(32, '\x02')).value();
  EXPECT_EQ(decode_capacity(bytes, "home", other.peer_id(), kNow).error().code, ErrorCode::Refused);
  EXPECT_EQ(decode_capacity(bytes, "away", key().peer_id(), kNow).error().code, ErrorCode::Refused);
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    Bytes changed = bytes;
    changed[i] = static_cast<char>(changed[i] ^ 0x10);
    EXPECT_FALSE(decode_capacity(changed, "home", key().peer_id(), kNow)) << i;
    EXPECT_FALSE(decode_capacity(bytes.substr(0, i), "home", key().peer_id(), kNow)) << i;
  }
  EXPECT_FALSE(decode_capacity(bytes + "x", "home", key().peer_id(), kNow));
}

TEST(Capacity, ExpiresAndCannotLastForEver) {
  const Bytes bytes = encode_capacity(record(), "home", key());
  EXPECT_EQ(decode_capacity(bytes, "home", key().peer_id(), kNow + 15).error().code, ErrorCode::TimedOut);
  auto eternal = record();
  eternal.expires = kNow + 1e9;
  EXPECT_FALSE(decode_capacity(encode_capacity(eternal, "home", key()), "home", key().peer_id(), kNow));
}

TEST(Capacity, RefusesASignedLie) {
  const auto rejected = [](auto change) {
    auto lie = record();
    change(lie);
    return !decode_capacity(encode_capacity(lie, "home", key()), "home", key().peer_id(), kNow);
  };
  EXPECT_TRUE(rejected([](auto& r) { r.cpus_free = 5; }));
  EXPECT_TRUE(rejected([](auto& r) { r.cpus_total = -1; }));
  EXPECT_TRUE(rejected([](auto& r) { r.load = std::numeric_limits<double>::quiet_NaN(); }));
  EXPECT_TRUE(rejected([](auto& r) { r.memory_free = r.memory_total + 1; }));
  EXPECT_TRUE(rejected([](auto& r) { r.name = "a\x1b[2J"; }));
  EXPECT_TRUE(rejected([](auto& r) { r.name = std::string(65, 'a'); }));
  EXPECT_TRUE(rejected([](auto& r) { r.environments.assign(33, "e"); }));
}

TEST(Capacity, SpreadsNodesOverShards) {
  std::set<unsigned> shards;
  for (char seed = 0; seed < 40; ++seed) {
    shards.insert(capacity_shard(identity::PrivateKey::from_seed(std::string(32, seed)).value().peer_id()));
  }
  EXPECT_EQ(shards.size(), kCapacityShards);
  EXPECT_EQ(capacity_key("home", 3), "hm:nodes:home:3");
}

}  // namespace
}  // namespace hivemetal::scheduler
