#include "dht/storage.h"

#include <cmath>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <limits>

namespace hivemetal::dht {
namespace {

constexpr double kNow = 1000;
const DhtId kKey = DhtId::sha1_of("key");

// What a key holds before, what arrives, and whether it is taken. Times are seconds from kNow.
enum class Kind { Nothing, Regular, Subkey, OtherSubkey };
struct Case {
  Kind held;
  double held_until;
  Kind arriving;
  double until;
  bool taken;
};

// The table of Python's answers. "Strictly later wins" is all there is to it, once one sees that a dictionary
// as a whole expires with its latest entry.
const Case kCases[] = {
    {Kind::Nothing, 0, Kind::Regular, 10, true},      {Kind::Nothing, 0, Kind::Regular, 0, true},
    {Kind::Nothing, 0, Kind::Regular, -0.001, false}, {Kind::Nothing, 0, Kind::Subkey, 10, true},
    {Kind::Nothing, 0, Kind::Subkey, 0, true},        {Kind::Nothing, 0, Kind::Subkey, -0.001, false},
    {Kind::Regular, 10, Kind::Regular, 9, false},     {Kind::Regular, 10, Kind::Regular, 10, false},
    {Kind::Regular, 10, Kind::Regular, 10.001, true}, {Kind::Regular, 10, Kind::Regular, -1, false},
    {Kind::Regular, -1, Kind::Regular, 5, true},      {Kind::Regular, 10, Kind::Subkey, 9, false},
    {Kind::Regular, 10, Kind::Subkey, 10, false},     {Kind::Regular, 10, Kind::Subkey, 11, true},
    {Kind::Subkey, 10, Kind::Subkey, 9, false},       {Kind::Subkey, 10, Kind::Subkey, 10, false},
    {Kind::Subkey, 10, Kind::Subkey, 11, true},       {Kind::Subkey, 10, Kind::Subkey, -1, false},
    {Kind::Subkey, 10, Kind::OtherSubkey, 9, true},   {Kind::Subkey, 10, Kind::OtherSubkey, 10, true},
    {Kind::Subkey, 10, Kind::OtherSubkey, 11, true},  {Kind::Subkey, 10, Kind::OtherSubkey, -1, false},
    {Kind::Subkey, 10, Kind::Regular, 9, false},      {Kind::Subkey, 10, Kind::Regular, 10, false},
    {Kind::Subkey, 10, Kind::Regular, 11, true},
};

bool put(LocalStorage& storage, Kind kind, double until, double now, const Bytes& value) {
  switch (kind) {
    case Kind::Nothing:
      return true;
    case Kind::Regular:
      return storage.store(kKey, value, kNow + until, now);
    case Kind::Subkey:
      return storage.store_subkey(kKey, "a", value, kNow + until, now);
    case Kind::OtherSubkey:
      return storage.store_subkey(kKey, "b", value, kNow + until, now);
  }
  return false;
}

TEST(LocalStorage, TakesAndRefusesAsPythonDoes) {
  for (const Case& c : kCases) {
    SCOPED_TRACE(testing::Message() << "held " << static_cast<int>(c.held) << " until " << c.held_until
                                    << ", arriving " << static_cast<int>(c.arriving) << " until " << c.until);
    LocalStorage storage;
    ASSERT_TRUE(put(storage, c.held, c.held_until, kNow - 5, "old"));
    EXPECT_EQ(put(storage, c.arriving, c.until, kNow, "new"), c.taken);
    const Item* item = storage.find(kKey, kNow);
    if (c.taken) {
      ASSERT_NE(item, nullptr);
      if (c.arriving == Kind::Regular) {
        EXPECT_EQ(std::get<Bytes>(item->value), "new");
      } else {
        const auto& entries = item->dictionary()->entries;
        EXPECT_EQ(entries.at(c.arriving == Kind::Subkey ? "a" : "b").value, "new");
        EXPECT_EQ(entries.size(), c.held == Kind::Subkey && c.arriving == Kind::OtherSubkey ? 2U : 1U);
      }
    } else if (c.held != Kind::Nothing && c.held_until >= 0) {
      ASSERT_NE(item, nullptr) << "what was refused must not disturb what is held";
      EXPECT_EQ(item->expiration, kNow + c.held_until);
    } else {
      EXPECT_EQ(item, nullptr);
    }
  }
}

TEST(LocalStorage, KeepsTheNewerRecordAfterARefusedOlderOneHasExpired) {
  LocalStorage storage;
  storage.store(kKey, "newer", kNow + 100, kNow);
  EXPECT_FALSE(storage.store(kKey, "older", kNow + 1, kNow));
  EXPECT_NE(storage.find(kKey, kNow + 2), nullptr);

  const DhtId other = DhtId::sha1_of("other");
  storage.store_subkey(other, "a", "newer", kNow + 100, kNow);
  EXPECT_FALSE(storage.store_subkey(other, "a", "older", kNow + 1, kNow));
  EXPECT_EQ(storage.find(other, kNow + 2)->dictionary()->entries.size(), 1U);
}

TEST(LocalStorage, DropsEntriesOneByOneAsTheyExpire) {
  LocalStorage storage;
  storage.store_subkey(kKey, "a", "1", kNow + 1, kNow);
  storage.store_subkey(kKey, "b", "2", kNow + 2, kNow);
  EXPECT_EQ(storage.find(kKey, kNow)->expiration, kNow + 2);
  EXPECT_EQ(storage.find(kKey, kNow + 1)->dictionary()->entries.size(), 2U)
      << "at its expiration a record still holds";
  EXPECT_EQ(storage.find(kKey, kNow + 1.5)->dictionary()->entries.size(), 1U);
  EXPECT_EQ(storage.find(kKey, kNow + 2.5), nullptr);
  EXPECT_EQ(storage.entries(), 0U);
  EXPECT_EQ(storage.bytes(), 0U);
}

TEST(LocalStorage, StopsAtTheFirstRefusedEntryOfADictionary) {
  LocalStorage storage;
  storage.store_subkey(kKey, "b", "held", kNow + 10, kNow);
  const EntryList entries = {{"c", {"1", kNow + 5}}, {"b", {"2", kNow + 5}}, {"a", {"3", kNow + 5}}};
  EXPECT_FALSE(storage.store_dictionary(kKey, entries, kNow));
  const auto& held = storage.find(kKey, kNow)->dictionary()->entries;
  EXPECT_TRUE(held.contains("c"));
  EXPECT_EQ(held.at("b").value, "held");
  EXPECT_FALSE(held.contains("a"));
  EXPECT_TRUE(storage.store_dictionary(DhtId::sha1_of("empty"), {}, kNow)) << "nothing was refused";
  EXPECT_EQ(storage.find(DhtId::sha1_of("empty"), kNow), nullptr);
}

TEST(LocalStorage, MergesWhateverIsLater) {
  LocalStorage storage;
  storage.store_subkey(kKey, "a", "old", kNow + 5, kNow);
  storage.store_subkey(kKey, "b", "kept", kNow + 9, kNow);
  Dictionary later;
  later.put("a", {"new", kNow + 6});
  later.put("b", {"older", kNow + 8});
  later.put("c", {"more", kNow + 7});
  storage.merge(kKey, {later, later.latest}, kNow);
  const auto& held = storage.find(kKey, kNow)->dictionary()->entries;
  EXPECT_EQ(held.at("a").value, "new");
  EXPECT_EQ(held.at("b").value, "kept");
  EXPECT_EQ(held.at("c").value, "more");
}

TEST(LocalStorage, RefusesAnExpirationThatIsNoNumber) {
  LocalStorage storage;
  const double nan = std::numeric_limits<double>::quiet_NaN();
  EXPECT_FALSE(storage.store(kKey, "x", nan, kNow));
  EXPECT_FALSE(storage.store_subkey(kKey, "a", "x", nan, kNow));
  EXPECT_TRUE(storage.store(kKey, "x", std::numeric_limits<double>::infinity(), kNow));
  EXPECT_FALSE(storage.store(kKey, "y", nan, kNow));
}

TEST(LocalStorage, MakesRoomAtTheExpenseOfWhatExpiresFirst) {
  LocalStorage storage({.entries_max = 3});
  storage.store(DhtId::sha1_of("1"), "x", kNow + 1, kNow);
  storage.store(DhtId::sha1_of("2"), "x", kNow + 3, kNow);
  storage.store_subkey(DhtId::sha1_of("3"), "a", "x", kNow + 2, kNow);
  EXPECT_TRUE(storage.store(DhtId::sha1_of("4"), "x", kNow + 4, kNow));
  EXPECT_EQ(storage.find(DhtId::sha1_of("1"), kNow), nullptr);
  EXPECT_FALSE(storage.store(DhtId::sha1_of("5"), "x", kNow + 1, kNow)) << "itself the first to go";
  EXPECT_EQ(storage.entries(), 3U);
}

TEST(LocalStorage, NeverHoldsMoreBytesThanAllowed) {
  LocalStorage storage({.entries_max = 1000, .bytes_max = 10'000, .dictionary_bytes_max = 3'000});
  for (int i = 0; i < 500; ++i) {
    storage.store(DhtId::sha1_of(std::to_string(i)), Bytes(200, 'x'), kNow + i, kNow);
    storage.store_subkey(kKey, std::to_string(i), Bytes(100, 'y'), kNow + i, kNow);
    ASSERT_LE(storage.bytes(), 10'000U);
  }
  EXPECT_GT(storage.entries(), 20U);
  const auto& entries = storage.find(kKey, kNow)->dictionary()->entries;
  EXPECT_LE(entries.size(), 12U);
  EXPECT_TRUE(entries.contains("499"));
  EXPECT_FALSE(storage.store(kKey, Bytes(20'000, 'z'), kNow + 1e6, kNow)) << "larger than all room";
}

}  // namespace
}  // namespace hivemetal::dht
