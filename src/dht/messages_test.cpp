#include "dht/messages.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <limits>

#include "dht/calls.h"
#include "dht/responder.h"
#include "sim/sim_network.h"
#include "wire/dht.pb.h"
#include "wire/msgpack.h"

namespace hivemetal::dht {
namespace {

using sim::sim_peer_id;
using wire::Value;

DhtId id(std::string_view hex) { return *DhtId::from_bytes(*from_hex(hex)); }

// Recorded from two Hivemind 1.1.12 nodes.
const DhtId kNodeA = id("d8633034b25bf122e2d74f059ed176b2cbf166b1");
const DhtId kNodeB = id("7b6474f3c6c96e4f5a8770f60fb1ff6f1b40bf81");
const Bytes kSerialized = *from_hex("c70d4093a169a46c6f7665a462656573");  // ("i", "love", "bees")

double time_of(std::string_view hex) {  // little-endian
  const Bytes bytes = *from_hex(hex);
  double time = 0;
  std::memcpy(&time, bytes.data(), sizeof time);
  return time;
}

TEST(DhtId, HashesKeysAsHivemindDoes) {
  const std::pair<Value, std::string_view> cases[] = {
      {"my_key", "3b53b5250948ad7311fce42cf8d549f930743ec4"},
      {"party", "e07cbefaa9b17d097422e8bde5dd88d1930f048f"},
      {"my_exp_progress", "d05aa0b3f6dcaadca941b4772b49feb15569ee17"},
      {"mygroup.0b", "7b77d23c786feac4fdb5b484baa72eea42eefbd7"},
      {"mygroup.all_averagers", "c57f0ae30f1ba3991f99dc91d8b8617ea94dd1b0"},
      {"my_exp_grad_averager.0b", "e92617eb8e680c09c9f379d05a1b0bf1133c54cc"},
      {"my_exp_grad_averager.all_averagers", "0c203a08c45ace85437620ee76c1a4b4fcd0696a"},
      {"my_exp_state_averager.0b", "d0fca683fbc460ade6addd22f54333de06661f04"},
      {"my_exp_state_averager.all_averagers", "bcaa2987dc2b5d37c20c4da945d5d2084e418b7a"},
      {"ffn.5", "a57182ca5eeb7b79f07841e0545b9c44e07a9ded"},
      {"ffn.0.", "27cf4cc27b4b08b2a17d5774b27090037b70b3ab"},
      {"ffn.0.1", "d59e96b85ec44edc97bcc7f03a3cdd360c1fa7c7"},
      {Value::bin("raw"), "ce15802a8c5e8e9db0ffaf10130ef265296e9ea4"},
      {Value::tuple({"a", 1}), "edd01de4b5be93353047fae489cc36b2e8f20fb1"},
      {123, "60ba4b2daa4ed4d070fec06687e249e0e6f9ee45"},
      {1.5, "266e2ea95d18d8e64dca032f9d63d162ce9ba9e4"},
  };
  for (const auto& [key, hex] : cases) EXPECT_EQ(DhtId::of_key(key).hex(), hex);
}

TEST(Messages, AreTheBytesThatHivemindSends) {
  const double stored_until = time_of("2dba2127afc0da41");
  const Bytes store = encode(StoreRequest{
      kNodeA, {{DhtId::of_key("my_key"), Bytes(kRegularTag), kSerialized, stored_until, false}}});
  EXPECT_EQ(
      store,
      *from_hex("12143b53b5250948ad7311fce42cf8d549f930743ec4 1a01c0 2210c70d4093a169a46c6f7665a462656573"
                "2a082dba2127afc0da41 320100 3a160a14d8633034b25bf122e2d74f059ed176b2cbf166b1"));
  EXPECT_EQ(encode(StoreReply{kNodeB, {true}}),
            *from_hex("120101 1a160a147b6474f3c6c96e4f5a8770f60fb1ff6f1b40bf81"));
  EXPECT_EQ(
      encode(FindRequest{kNodeB, {DhtId::of_key("my_key")}}),
      *from_hex(
          "12143b53b5250948ad7311fce42cf8d549f930743ec4 1a160a147b6474f3c6c96e4f5a8770f60fb1ff6f1b40bf81"));
  EXPECT_EQ(encode(FindReply{kNodeA, {FindResult()}}),
            *from_hex("1200 1a160a14d8633034b25bf122e2d74f059ed176b2cbf166b1"));
  EXPECT_EQ(encode(FindReply{kNodeA, {{TimedBytes{kSerialized, stored_until}, stored_until, {}}}}),
            *from_hex("121d 0801 1210c70d4093a169a46c6f7665a462656573 192dba2127afc0da41"
                      "1a160a14d8633034b25bf122e2d74f059ed176b2cbf166b1"));
  const double bob_until = time_of("43702227afc0da41");
  const SentDictionary party{{{wire::encode("bob"), {wire::encode("yes"), bob_until}}}, bob_until};
  EXPECT_EQ(
      encode(FindReply{kNodeB, {{party, bob_until, {}}}}),
      *from_hex("1238 0802 "
                "122bc7285093cb7ff0000000000000cb41dac0af272270439193a3626f62c404a3796573cb41dac0af27227043"
                "19 43702227afc0da41 1a160a147b6474f3c6c96e4f5a8770f60fb1ff6f1b40bf81"));
}

TEST(Messages, ReadWhatHivemindSends) {
  const auto ping = decode_ping_request(*from_hex("12160a147b6474f3c6c96e4f5a8770f60fb1ff6f1b40bf811801"));
  EXPECT_EQ(ping->sender, kNodeB);
  EXPECT_TRUE(ping->validate);
  const auto pong =
      decode_ping_reply(*from_hex("12160a14d8633034b25bf122e2d74f059ed176b2cbf166b12192232191aec0da412801"));
  EXPECT_EQ(pong->sender, kNodeA);
  EXPECT_TRUE(pong->available);
  EXPECT_EQ(pong->time, time_of("92232191aec0da41"));
  const auto two =
      decode_dictionary(*from_hex("c7435093cb7ff0000000000000cb41dac0af2722afba9293a3626f62c404a3796573cb41da"
                                  "c0af2722704393a5616c696365c409cb3ff80000"
                                  "00000000cb41dac0af2722afba"));
  ASSERT_TRUE(two);
  ASSERT_EQ(two->entries.size(), 2U);
  EXPECT_EQ(two->entries[0].first, wire::encode("bob"));
  EXPECT_EQ(two->entries[1].second.value, wire::encode(1.5));
  EXPECT_EQ(encode_dictionary(two->entries, two->latest).size(), 70U);
  const auto empty = decode_dictionary(*from_hex("c7145093cb7ff0000000000000cb41dac0ae9dbba28c90"));
  ASSERT_TRUE(empty);
  EXPECT_TRUE(empty->entries.empty());
  EXPECT_EQ(to_hex(encode_dictionary({}, empty->latest)), "c7145093cb7ff0000000000000cb41dac0ae9dbba28c90");
}

TEST(Messages, OfAClientCarryNoNodeId) {
  EXPECT_EQ(decode_find_request(encode(FindRequest{{}, {kNodeA}}))->sender, std::nullopt);
  EXPECT_EQ(decode_ping_request("")->sender, std::nullopt);
}

TEST(Messages, WithListsOfDifferentLengthsAreRefused) {
  const auto request = [](int keys, int subkeys, int values, int expirations, int flags) {
    wire::dht::StoreRequest message;
    for (int i = 0; i < keys; ++i) message.add_keys(kNodeA.bytes());
    for (int i = 0; i < subkeys; ++i) message.add_subkeys("\xc0");
    for (int i = 0; i < values; ++i) message.add_values("\xc0");
    for (int i = 0; i < expirations; ++i) message.add_expiration_time(1);
    for (int i = 0; i < flags; ++i) message.add_in_cache(false);
    return decode_store_request(message.SerializeAsString());
  };
  EXPECT_TRUE(request(2, 2, 2, 2, 2));
  EXPECT_FALSE(request(1, 2, 2, 2, 2));
  EXPECT_FALSE(request(2, 1, 2, 2, 2));
  EXPECT_FALSE(request(2, 2, 3, 2, 2));
  EXPECT_FALSE(request(2, 2, 2, 0, 2));
  EXPECT_FALSE(request(2, 2, 2, 2, 1));
}

TEST(Messages, WithIdsBeyondTheRangeOrTooManyKeysAreRefused) {
  wire::dht::FindRequest message;
  message.add_keys(Bytes(21, '\x01'));
  EXPECT_FALSE(decode_find_request(message.SerializeAsString()));
  message.mutable_peer()->set_node_id(Bytes(21, '\x01'));
  message.clear_keys();
  EXPECT_FALSE(decode_find_request(message.SerializeAsString()));
  EXPECT_FALSE(decode_find_request(encode(FindRequest{{}, std::vector<DhtId>(kFindKeysMax + 1)})));
  EXPECT_FALSE(decode_find_request("\xff\xff"));
}

TEST(Dictionary, IsRefusedIfItIsNone) {
  for (const Value& value :
       {Value(1), Value(wire::Ext{0x51, ""}), Value(wire::Ext{0x50, wire::encode(wire::Array{1, 2})}),
        Value(wire::Ext{0x50, wire::encode(wire::Array{1, 2, wire::Array{1}})}),
        Value(wire::Ext{0x50, wire::encode(wire::Array{1, 2, wire::Array{wire::Array{1, "text", 3}}})}),
        Value(wire::Ext{0x50, "\xc1"})}) {
    EXPECT_FALSE(decode_dictionary(wire::encode(value)));
  }
  EXPECT_TRUE(
      decode_dictionary(wire::encode(wire::Ext{0x50, wire::encode(wire::Array{10, 2, wire::Array{}})})));
}

TEST(Subkey, IsBroughtIntoItsShortestForm) {
  EXPECT_EQ(*canonical_subkey(*from_hex("ce00000001")), *from_hex("01"));
  EXPECT_EQ(*canonical_subkey(wire::encode(Value::tuple({1, "a"}))), wire::encode(Value::tuple({1, "a"})));
  EXPECT_FALSE(canonical_subkey(wire::encode(wire::Array{1})));
  EXPECT_FALSE(canonical_subkey(wire::encode(wire::Map{})));
  EXPECT_FALSE(canonical_subkey(wire::encode(Value::tuple({Value(wire::Array{})}))));
  EXPECT_FALSE(canonical_subkey("\xc1"));
  EXPECT_FALSE(canonical_subkey(""));
}

struct Responding : testing::Test {
  DhtOptions options{.bucket_size = 20};
  NodeState state{kNodeA, sim_peer_id(0), options};
  Responder responder{state};
  static constexpr double kNow = 1000;

  FindResult find(const DhtId& key, std::optional<DhtId> sender = kNodeB) {
    return responder.find({sender, {key}}, kNow).results.front();
  }
};

TEST_F(Responding, StoresByTag) {
  const DhtId key = DhtId::of_key("k");
  EXPECT_TRUE(*responder.store({key, Bytes(kRegularTag), "v", kNow + 1, false}, kNow));
  EXPECT_EQ(std::get<TimedBytes>(find(key).found).value, "v");
  EXPECT_TRUE(*responder.store({key, wire::encode("a"), "w", kNow + 2, false}, kNow));
  const SentDictionary sent{{{wire::encode("b"), {"x", kNow + 3}}}, kNow + 3};
  EXPECT_TRUE(
      *responder.store({key, "", encode_dictionary(sent.entries, sent.latest), kNow + 3, false}, kNow));
  EXPECT_EQ(std::get<SentDictionary>(find(key).found).entries.size(), 2U);
  EXPECT_EQ(find(key).expiration, kNow + 3);
}

TEST_F(Responding, FailsWhereItsPythonCounterpartRaises) {
  const DhtId key = DhtId::of_key("k");
  EXPECT_FALSE(responder.store({key, "", wire::encode(1), kNow + 1, false}, kNow));
  EXPECT_FALSE(responder.store({key, "", "\xc1", kNow + 1, false}, kNow));
  EXPECT_FALSE(responder.store({key, "\xc1", "v", kNow + 1, false}, kNow));
}

TEST_F(Responding, TakesSubkeysThatPythonCannotOrder) {
  const DhtId key = DhtId::of_key("k");
  EXPECT_TRUE(*responder.store({key, wire::encode("a"), "v", kNow + 1, false}, kNow));
  EXPECT_TRUE(*responder.store({key, wire::encode(Value::bin("a")), "w", kNow + 1, false}, kNow));
  EXPECT_EQ(std::get<SentDictionary>(find(key).found).entries.size(), 2U);
}

TEST_F(Responding, AnswersWithTheLaterOfStorageAndCache) {
  const DhtId key = DhtId::of_key("k");
  (void)responder.store({key, Bytes(kRegularTag), "stored", kNow + 1, false}, kNow);
  (void)responder.store({key, Bytes(kRegularTag), "cached", kNow + 2, true}, kNow);
  EXPECT_EQ(std::get<TimedBytes>(find(key).found).value, "cached");
  (void)responder.store({key, Bytes(kRegularTag), "stored", kNow + 3, false}, kNow);
  EXPECT_EQ(std::get<TimedBytes>(find(key).found).value, "stored");
}

TEST_F(Responding, NamesTheNearestNodesButNotTheOneThatAsks) {
  for (std::uint32_t i = 1; i <= 30; ++i)
    state.table.add_or_update({DhtId::sha1_of(std::to_string(i)), sim_peer_id(i)});
  const Node asking = state.table.nearest(kNodeB, 1).front();
  EXPECT_EQ(find(kNodeB, asking.id).neighbours.size(), 20U);
  EXPECT_NE(find(kNodeB, asking.id).neighbours.front(), asking);
  EXPECT_EQ(find(kNodeB, {}).neighbours.front(), asking);
}

TEST_F(Responding, CutsARepliesThatWouldBeTooLarge) {
  const DhtId big = DhtId::of_key("big");
  const DhtId bigger = DhtId::of_key("bigger");
  for (int i = 0; i < 30; ++i) {
    (void)responder.store({big, wire::encode(i), Bytes(100'000, 'x'), kNow + 1 + i, false}, kNow);
    (void)responder.store({bigger, wire::encode(i), Bytes(100'000, 'y'), kNow + 1 + i, false}, kNow);
  }
  (void)responder.store({DhtId::of_key("value"), Bytes(kRegularTag), Bytes(2'000'000, 'z'), kNow + 1, false},
                        kNow);
  const Bytes bytes = encode(responder.find({{}, {big, bigger, DhtId::of_key("value")}}, kNow));
  EXPECT_LE(bytes.size(), kReplyBytesMax);
  const auto reply = decode_find_reply(bytes);
  ASSERT_EQ(reply->results.size(), 3U);
  EXPECT_EQ(std::get<SentDictionary>(reply->results[0].found).entries.size(), 30U);
  const auto& cut = std::get<SentDictionary>(reply->results[1].found).entries;
  EXPECT_GT(cut.size(), 5U);
  EXPECT_LT(cut.size(), 30U);
  for (const auto& [subkey, entry] : cut)
    EXPECT_GT(entry.expiration, kNow + 10) << "the soonest to expire go first";
  EXPECT_TRUE(std::holds_alternative<std::monostate>(reply->results[2].found));
}

TEST(Promise, IsKeptEvenIfItIsDropped) {
  std::vector<ErrorCode> told;
  const auto note = [&told](Result<bool> result) {
    told.push_back(result ? ErrorCode::Invalid : result.error().code);
  };
  {
    const Promise<bool> dropped(note);
    Promise<bool> kept(note);
    kept(true);
    Promise<bool> moved(std::move(kept));
  }
  EXPECT_THAT(told, testing::ElementsAre(ErrorCode::Invalid, ErrorCode::Cancelled));
}

}  // namespace
}  // namespace hivemetal::dht
