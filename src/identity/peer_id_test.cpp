#include "identity/peer_id.h"

#include <gtest/gtest.h>

#include "base/random.h"
#include "identity/base58.h"
#include "identity/base64.h"

namespace hivemetal::identity {
namespace {

constexpr std::string_view kEd25519Hex =
    "00240801 12201ed1e8fae2c4a144b8be8fd4b47bf3d3b34b871c3cacf6010f0e42d474fce27e";
constexpr std::string_view kRsaHex = "1220b6c8a8c0a3105fc27afca4fb1173791f038e4343fd56b7c67b616dbc30a04ccd";

TEST(PeerId, HasTheBase58OfTheLibp2pSpecification) {
  EXPECT_EQ(PeerId::from_bytes(from_hex(kEd25519Hex).value()).value().base58(),
            "12D3KooWBtg3aaRMjxwedh83aGiUkwSxDwUZkzuJcfaqUmo7R3pq");
  EXPECT_EQ(PeerId::from_bytes(from_hex(kRsaHex).value()).value().base58(),
            "QmaeANgBs1DTSxWSrPPtobgQuxW8XTfsS4ydbK4rCHzqxG");
}

TEST(PeerId, ReadsBackItsBase58) {
  const auto peer = PeerId::from_base58("12D3KooWBtg3aaRMjxwedh83aGiUkwSxDwUZkzuJcfaqUmo7R3pq").value();
  EXPECT_EQ(to_hex(peer.bytes()), to_hex(from_hex(kEd25519Hex).value()));
  EXPECT_EQ(peer.short_name(), "Umo7R3pq");
}

TEST(PeerId, RefusesWhatIsNoMultihashOfAKey) {
  for (const std::string_view hex : {"", "00", "0024", "1220aabb", "0003080112", "00240801121f", "1120"}) {
    EXPECT_EQ(PeerId::from_bytes(from_hex(hex).value()).error().code, ErrorCode::Invalid) << hex;
  }
  const Bytes sha = from_hex(kRsaHex).value();
  EXPECT_FALSE(PeerId::from_bytes(sha + "x").has_value());
}

TEST(PeerId, SaysWhatIsWrongWithItsText) {
  EXPECT_EQ(PeerId::from_base58("12D3KooW0").error().message,
            "peer id '12D3KooW0': character 9 (code 0x30) is not of base58");
  EXPECT_EQ(PeerId::from_base58("heaven").error().message,
            "'heaven' is no peer id; one looks like 12D3KooW… or Qm…");
  EXPECT_EQ(PeerId::from_base58(std::string(1000, '1')).error().code, ErrorCode::Invalid);
}

TEST(Base58, KeepsLeadingZeros) {
  EXPECT_EQ(base58_encode(""), "");
  EXPECT_EQ(base58_encode(Bytes("\0\0\0a", 4)), "1112g");
  EXPECT_EQ(base58_decode("1112g").value(), Bytes("\0\0\0a", 4));
  EXPECT_EQ(base58_encode("Hello World!"), "2NEpo7TZRRrLZSi2U");
}

TEST(Base58, ReadsBackRandomBytes) {
  Random random(1);
  for (std::size_t size = 0; size < 200; ++size) {
    const Bytes bytes = random_bytes(random, size);
    EXPECT_EQ(base58_decode(base58_encode(bytes)).value(), bytes) << to_hex(bytes);
  }
}

TEST(Base64, ReadsBackWhatItWroteAndNothingElse) {
  EXPECT_EQ(base64_encode("ab"), "YWI=");
  EXPECT_EQ(base64_decode("YWI=").value(), "ab");
  EXPECT_EQ(base64_decode("").value(), "");
  for (const std::string_view text : {"YWI", "YWJ=", "YW=I", "YWI=\n", " YWI", "YW-_", "====", "Y==="}) {
    EXPECT_EQ(base64_decode(text).error().code, ErrorCode::Invalid) << text;
  }
}

}  // namespace
}  // namespace hivemetal::identity
