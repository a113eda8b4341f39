#include "wire/msgpack.h"

#include <gtest/gtest.h>
#include <limits>

#include "base/check.h"

namespace hivemetal::wire {
namespace {

std::string hex_of(const Value& value) { return to_hex(encode(value)); }
Bytes bytes_of(std::string_view hex) { return from_hex(hex).value(); }

// Wire specification, A.1 (hashed bytes), A.2 and 5.1; recorded with Python's msgpack.
TEST(MsgPack, WritesTheBytesOfHivemind) {
  const struct {
    Value value;
    std::string hex;
  } cases[] = {
      {nullptr, "c0"},
      {true, "c3"},
      {false, "c2"},
      {0, "00"},
      {123, "7b"},
      {127, "7f"},
      {128, "cc80"},
      {-1, "ff"},
      {-33, "d0df"},
      {65536, "ce00010000"},
      {std::int64_t{1} << 40, "cf0000010000000000"},
      {UINT64_MAX, "cfffffffffffffffff"},
      {INT64_MIN, "d38000000000000000"},
      {1.5, "cb3ff8000000000000"},
      {1.0, "cb3ff0000000000000"},
      {std::numeric_limits<double>::infinity(), "cb7ff0000000000000"},
      {"abc", "a3616263"},
      {Value::bin("abc"), "c403616263"},
      {Value::bin(Bytes(40, 'x')), "c428" + to_hex(Bytes(40, 'x'))},
      {Array{1, 2}, "920102"},
      {Value::tuple({1, 2}), "c70340920102"},
      {Value::tuple({}), "d44090"},
      {Map{{"a", 1}}, "81a16101"},
      {Map{{"a", Value::tuple({1, Array{2}})}}, "81a161d64092019102"},
      {Array{Value::tuple({1}), Map{{"k", Value::bin(Bytes(1, '\0'))}}}, "92d540910181a16bc40100"},
      {Value::tuple({"i", "love", "bees"}), "c70d4093a169a46c6f7665a462656573"},
      {Value::tuple({"a", 1}), "d64092a16101"},
      {"my_key", "a66d795f6b6579"},
      {"my_exp_progress", "af6d795f6578705f70726f6772657373"},
      {"mygroup.all_averagers", "b56d7967726f75702e616c6c5f617665726167657273"},
      {"my_exp_state_averager.all_averagers", "d923" + to_hex("my_exp_state_averager.all_averagers")},
  };
  for (const auto& [value, hex] : cases) {
    EXPECT_EQ(hex_of(value), hex);
    EXPECT_EQ(decode(bytes_of(hex)).value(), value) << hex;
  }
}

TEST(MsgPack, ReadsAProgressRecord) {  // wire specification, A.8
  const Value value = decode(bytes_of("86a7706565725f6964c4260024080112202cf45acaab95c979935be76e0175b82fbc65"
                                      "a6aabebfe56ce15f3f4c4e3e803ba565"
                                      "706f636803b373616d706c65735f616363756d756c61746564cc80b273616d706c6573"
                                      "5f7065725f7365636f6e64cb402900000"
                                      "0000000a474696d65cb41d954fc40100000ab636c69656e745f6d6f6465c2"))
                          .value();
  EXPECT_EQ(value.find("epoch")->as_int64(), 3);
  EXPECT_EQ(value.find("samples_accumulated")->as_uint64(), 128u);
  EXPECT_EQ(value.find("samples_per_second")->as_double(), 12.5);
  EXPECT_EQ(value.find("time")->as_double(), 1700000000.25);
  EXPECT_EQ(value.find("client_mode")->as_bool(), false);
  EXPECT_EQ(value.find("peer_id")->as_bin()->size(), 38u);
  EXPECT_EQ(value.find("other"), nullptr);
}

TEST(MsgPack, KeepsADictionaryValueAsARawExtension) {  // wire specification, 5.6
  const Bytes bytes = bytes_of(
      "c7435093cb7ff0000000000000cb41dac0af2722afba9293a3626f62c404a3796573cb41dac0af2722704393a5616c696365c4"
      "09cb3ff80000000000"
      "00cb41dac0af2722afba");
  const Value value = decode(bytes).value();
  EXPECT_EQ(value.as_ext()->code, 0x50);
  EXPECT_EQ(encode(value), bytes);
  const Value payload = decode(value.as_ext()->data).value();
  EXPECT_EQ((*payload.as_array())[2].as_array()->size(), 2u);
}

TEST(MsgPack, TellsKindsApart) {
  EXPECT_NE(Value("a"), Value::bin("a"));
  EXPECT_NE(Value(Array{1}), Value::tuple({1}));
  EXPECT_NE(Value(1), Value(1.0));
  EXPECT_NE(Value(true), Value(1));
  EXPECT_EQ(Value(1).as_double(), std::nullopt);
  EXPECT_EQ(Value(1).as_number(), 1.0);
  EXPECT_EQ(Value(-1).as_uint64(), std::nullopt);
  EXPECT_EQ(Value(UINT64_MAX).as_int64(), std::nullopt);
  EXPECT_EQ(Value(true).as_int64(), std::nullopt);
  EXPECT_EQ(decode(bytes_of("ca3fc00000")).value(), Value(1.5)) << "float32 is read, never written";
}

TEST(MsgPack, RefusesWhatIsNotExactlyOneValue) {
  const std::pair<std::string, std::string> cases[] = {
      {"", "no MessagePack: truncated"},
      {"0000", "1 bytes behind a MessagePack value"},
      {"c1", "no MessagePack: a byte that starts no value"},
      {"a2ff", "no MessagePack: truncated"},
      {"a1ff", "no MessagePack: text that is not UTF-8"},
      {"9201", "no MessagePack: truncated"},
      {"8101", "no MessagePack: truncated"},
      {"c6ffffffff00", "no MessagePack: truncated"},
      {"ddffffffff", "no MessagePack: truncated"},
      {"dfffffffff00", "no MessagePack: truncated"},
      {"d44001", "no MessagePack: a tuple whose payload is no array"},
      {"d54090c0", "no MessagePack: in a tuple: 1 bytes behind a MessagePack value"},
      {"c70040", "no MessagePack: in a tuple: no MessagePack: truncated"},
  };
  for (const auto& [hex, message] : cases) {
    const auto value = decode(bytes_of(hex));
    ASSERT_FALSE(value.has_value()) << hex;
    EXPECT_EQ(value.error().message, message) << hex;
  }
}

TEST(MsgPack, LimitsDepthThroughTuplesToo) {
  Bytes arrays = Bytes(64, '\x91') + '\0';
  EXPECT_TRUE(decode(arrays).has_value());
  EXPECT_EQ(decode('\x91' + arrays).error().message, "no MessagePack: nested too deep");
  Value nested = Value::tuple({});
  for (int i = 0; i < 40; ++i) nested = Value::tuple({std::move(nested)});
  EXPECT_TRUE(decode(encode(nested)).has_value());
  for (int i = 0; i < 40; ++i) nested = Value::tuple({std::move(nested)});
  EXPECT_EQ(decode(encode(nested)).error().code, ErrorCode::Invalid);
}

TEST(MsgPack, LimitsTheNumberOfValues) {
  const Bytes bytes = encode(Array(100, 0));
  EXPECT_TRUE(decode(bytes, {.values_max = 101}).has_value());
  EXPECT_EQ(decode(bytes, {.values_max = 100}).error().message, "no MessagePack: too many values");
  EXPECT_EQ(decode(encode(Value::tuple(Array(100, 0))), {.values_max = 50}).error().code, ErrorCode::Invalid);
}

}  // namespace
}  // namespace hivemetal::wire
