#include "dht/signed_record.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <openssl/evp.h>

#include "dht/messages.h"
#include "dht/progress_schema.h"
#include "wire/msgpack.h"

namespace hivemetal::dht {
namespace {

// Recorded from Hivemind 1.1.12: a progress record of run `my_exp`; only the public half of the key was kept.
const Bytes kMarker =
    "[owner:ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQC1S1K5YTqjQ1X/efD4Spydp47My4AUYRYf22hSPQ1I9rng7Ez+9"
    "hDtA7St9sKZc/KUl6Wtyhc077rvJTjzn9Q78fiFTWEsmjbsey066z8Pai+tE4hFZ+iM9FlRQJtpwm3eG7bCZ88yRChirqgXL"
    "HOsuc76VLVJM4o+nenI3oWv246K62UcJSZVulr4Ps3qmklwPxlgb8UIDq3/wszW2scfW0+muHkflZ88cgCLt1fb1xgG5m6lg"
    "TaSGmRtyh+ICkSwEVvVJZBMWaHcO+Ki4apNs7DkdO6i2NuHpq673tQMTQVgB2NoTBa0VQoNq93jlqR5w7BoJ+ta18kF8Tyve"
    "hP3]";
const Bytes kValue = *from_hex(
    "86a7706565725f6964c4260024080112202cf45acaab95c979935be76e0175b82fbc65a6aabebfe56ce15f3f4c4e3e80"
    "3ba565706f636803b373616d706c65735f616363756d756c61746564cc80b273616d706c65735f7065725f7365636f6e"
    "64cb4029000000000000a474696d65cb41d954fc40100000ab636c69656e745f6d6f6465c2");
const Bytes kSuffix =
    "[signature:oM75+gwZaI7B+GV6B8Z4/XVZmcbscbhWUKFNiW72Rvb3tgHNsqtMJ/rQj0z7vSYvwHA+MlFJA6m4AoZXeMJsz"
    "sU3VBx6cAo6/e8bo06FRMFgpztLcFF+QESZlnRQYkbdJLtqLkLlpJ9NRixf1cjPZVV3jG4PEOBUyaJHGHPuqkv88/SOKgYun"
    "YxEx8ouzTthel7i1kCZbJGHCRWkhJjJacUc33S316BumuPgHKOikQeoNanTF1WSctr1gl8t1N2tDWN4OAQLNogcWcgodCtMc"
    "y/KmpTPINErP1uJ3LE4zkUGHleBKbKcL70ipW41+XxdH3gU+mcOaytfhiCMlPnHyA==]";
constexpr double kExpiration = 1700000060.25;

Record recorded() {
  const Bytes key = *from_hex("d05aa0b3f6dcaadca941b4772b49feb15569ee17");
  return {key, *from_hex("c50184") + kMarker, kValue + kSuffix, kExpiration};
}

RsaSignatureValidator& validator() {
  static RsaSignatureValidator validator(identity::RsaKey::generate());
  return validator;
}

Progress some_progress() {
  return {.peer_id = "peer",
          .epoch = 3,
          .samples_accumulated = 128,
          .samples_per_second = 12.5,
          .time = 1700000000.25};
}

// A record of ours, signed.
Record ours() {
  Record record{DhtId::of_key("my_exp_progress").bytes(),
                wire::encode(wire::Value::bin(validator().owner_marker())),
                wire::encode(encode(some_progress())), kExpiration};
  record.value = validator().sign(record);
  return record;
}

TEST(SignedRecord, SignsExactlyTheBytesThatHivemindSigns) {
  Record record = recorded();
  record.value = kValue;
  const Bytes bytes = signed_bytes(record);
  EXPECT_EQ(bytes.size(), 565U);
  Bytes hash(32, '\0');
  EVP_Digest(bytes.data(), bytes.size(), reinterpret_cast<unsigned char*>(hash.data()), nullptr, EVP_sha256(),
             nullptr);
  EXPECT_EQ(to_hex(hash), "9063087a6877f3f6809d05d1e3d4d74a1522ba28c77c1fcd57ede152ee6200a0");
}

TEST(SignedRecord, AcceptsARecordSignedByHivemindAndNoOtherExpiration) {
  EXPECT_TRUE(validator().validate(recorded()));
  EXPECT_EQ(validator().strip(recorded()), kValue);
  Record longer = recorded();
  longer.expiration = 1700000060.5;
  EXPECT_FALSE(validator().validate(longer));
}

TEST(SignedRecord, AcceptsItsOwnSignatureAndNothingChanged) {
  EXPECT_TRUE(validator().validate(ours()));
  for (const auto& change : std::vector<std::function<void(Record&)>>{
           [](Record& r) { r.key[0] ^= 1; }, [](Record& r) { r.value[0] ^= 1; },
           [](Record& r) { r.expiration += 1; },
           [](Record& r) { r.value = r.value.substr(0, r.value.size() - 1); },
           [](Record& r) { r.value += r.value; }, [](Record& r) { r.value = validator().strip(r); },
           [](Record& r) { r.subkey = recorded().subkey; },
           [](Record& r) { r.subkey += recorded().subkey; }}) {
    Record record = ours();
    change(record);
    EXPECT_FALSE(validator().validate(record));
  }
}

TEST(SignedRecord, LeavesRecordsWithoutOwnerAlone) {
  const Record record{"key", Bytes(kRegularTag), "value", 1};
  EXPECT_TRUE(validator().validate(record));
  EXPECT_EQ(validator().sign(record), "value");
  const Record of_another{"key", recorded().subkey, "value", 1};
  EXPECT_EQ(validator().sign(of_another), "value") << "we cannot sign for somebody else";
}

TEST(SignedRecord, RefusesAnOwnerThatIsNoKey) {
  for (const Bytes& owner : {Bytes("[owner:x]"), Bytes("[owner:ssh-rsa AAAA]"), Bytes("[owner:]]")}) {
    EXPECT_FALSE(validator().validate({"key", owner, "value[signature:AAAA]", 1})) << owner;
  }
}

TEST(SignedRecord, FindsMarksAsPythonsRegularExpressionDoes) {
  using testing::ElementsAre;
  EXPECT_THAT(marks_in("a[s:x]b[s:yy]", "[s:"), ElementsAre("x", "yy"));
  EXPECT_THAT(marks_in("[s:]]", "[s:"), ElementsAre("]"));
  EXPECT_THAT(marks_in("[s:]", "[s:"), ElementsAre());
  EXPECT_THAT(marks_in("[s:a\nb][s:c]", "[s:"), ElementsAre("c"));
  EXPECT_THAT(marks_in("[s:[s:x]", "[s:"), ElementsAre("[s:x"));
  EXPECT_THAT(marks_in("[s:x", "[s:"), ElementsAre());
  EXPECT_THAT(marks_in("[s:", "[s:"), ElementsAre());
}

TEST(ProgressSchema, AcceptsRecordedAndOwnProgress) {
  const ProgressSchema schema("my_exp");
  Record record = recorded();
  record.value = kValue;
  EXPECT_TRUE(schema.validate(record));
  EXPECT_EQ(decode_progress(*wire::decode(kValue))->samples_accumulated, 128U);
  EXPECT_EQ(decode_progress(encode(some_progress())), some_progress());
  record.value = wire::encode(nullptr);
  EXPECT_TRUE(schema.validate(record)) << "a trainer that leaves";
}

TEST(ProgressSchema, ConvertsNoTypes) {
  const wire::Value good = encode(some_progress());
  const auto with = [&good](std::size_t field, wire::Value value) {
    wire::Map map = *good.as_map();
    map[field].value = std::move(value);
    return wire::Value(std::move(map));
  };
  EXPECT_FALSE(decode_progress(with(0, "text")));
  EXPECT_FALSE(decode_progress(with(1, -1)));
  EXPECT_FALSE(decode_progress(with(1, true)));
  EXPECT_FALSE(decode_progress(with(2, 1.0)));
  EXPECT_FALSE(decode_progress(with(3, 1)));
  EXPECT_FALSE(decode_progress(with(3, -0.5)));
  EXPECT_FALSE(decode_progress(with(4, 1)));
  EXPECT_FALSE(decode_progress(with(5, 0)));
  wire::Map less = *good.as_map();
  less.pop_back();
  EXPECT_FALSE(decode_progress(less));
  wire::Map more = *good.as_map();
  more.push_back({"extra", 1});
  EXPECT_FALSE(decode_progress(more));
  wire::Map twice = *good.as_map();
  twice.back() = twice.front();
  EXPECT_FALSE(decode_progress(twice));
}

TEST(ProgressSchema, WantsAnOwnerAsSubkeyOfItsOwnKeyOnly) {
  const ProgressSchema schema("my_exp");
  const Bytes key = DhtId::of_key("my_exp_progress").bytes();
  EXPECT_FALSE(schema.validate({key, Bytes(kRegularTag), kValue, 1}));
  EXPECT_FALSE(schema.validate({key, wire::encode("[owner:text is not bytes]"), kValue, 1}));
  EXPECT_FALSE(schema.validate({key, wire::encode(wire::Value::bin("nobody")), kValue, 1}));
  EXPECT_FALSE(schema.validate({key, wire::encode(wire::Value::bin("\n[owner:x]")), kValue, 1}));
  EXPECT_TRUE(schema.validate({key, wire::encode(wire::Value::bin("a[owner:x]b")), kValue, 1}));
  EXPECT_TRUE(schema.validate({DhtId::of_key("other").bytes(), Bytes(kRegularTag), "anything", 1}));
}

TEST(ValidatorChain, ChecksTheSignatureFirstAndCutsItOffForTheSchema) {
  ValidatorChain chain;
  chain.add(std::make_unique<RsaSignatureValidator>(identity::RsaKey::generate()));
  chain.add(std::make_unique<ProgressSchema>("my_exp"));
  EXPECT_TRUE(chain.validate(recorded()));
  EXPECT_EQ(chain.strip(recorded()), kValue);
  Record record = ours();
  record.value = validator().strip(record);
  EXPECT_EQ(chain.sign(record), record.value) << "another key's marker";
  Record signed_nonsense = ours();
  signed_nonsense.value = wire::encode(1);
  signed_nonsense.value = validator().sign(signed_nonsense);
  EXPECT_FALSE(chain.validate(signed_nonsense)) << "signed, but not progress";
}

}  // namespace
}  // namespace hivemetal::dht
