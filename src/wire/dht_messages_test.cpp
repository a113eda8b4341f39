// The DHT's messages as Hivemind wrote them: wire specification, 5.4, 5.5 and A.3.
#include <gtest/gtest.h>

#include "base/bytes.h"
#include "wire/auth.pb.h"
#include "wire/dht.pb.h"
#include "wire/msgpack.h"

namespace hivemetal::wire {
namespace {

const Bytes kNodeA = from_hex("d8633034b25bf122e2d74f059ed176b2cbf166b1").value();
const Bytes kNodeB = from_hex("7b6474f3c6c96e4f5a8770f60fb1ff6f1b40bf81").value();
const Bytes kMyKey = from_hex("3b53b5250948ad7311fce42cf8d549f930743ec4").value();
const Bytes kParty = from_hex("e07cbefaa9b17d097422e8bde5dd88d1930f048f").value();
const Bytes kBees = encode(Value::tuple({"i", "love", "bees"}));

// The double whose little-endian bytes these are.
double time_of(std::string_view hex) {
  double value = 0;
  const Bytes bytes = from_hex(hex).value();
  std::memcpy(&value, bytes.data(), sizeof(value));
  return value;
}

// Parses `hex`, and expects that the message is written as it was read.
template <class Message>
Message parse(std::string_view hex) {
  Message message;
  const Bytes bytes = from_hex(hex).value();
  EXPECT_TRUE(message.ParseFromString(bytes));
  EXPECT_EQ(to_hex(message.SerializeAsString()), to_hex(bytes));
  return message;
}

TEST(DhtMessages, PingAsRecorded) {
  dht::PingRequest request;
  request.mutable_peer()->set_node_id(kNodeB);
  request.set_validate(true);
  EXPECT_EQ(to_hex(request.SerializeAsString()), "12160a147b6474f3c6c96e4f5a8770f60fb1ff6f1b40bf811801");

  const auto reply =
      parse<dht::PingResponse>("12160a14d8633034b25bf122e2d74f059ed176b2cbf166b12192232191aec0da412801");
  EXPECT_EQ(reply.peer().node_id(), kNodeA);
  EXPECT_TRUE(reply.available());
  EXPECT_NEAR(reply.dht_time(), 1795340868, 1);
}

TEST(DhtMessages, StoreAsRecorded) {
  dht::StoreRequest request;
  request.add_keys(kMyKey);
  request.add_subkeys(encode(nullptr));
  request.add_values(kBees);
  request.add_expiration_time(time_of("2dba2127afc0da41"));
  request.add_in_cache(false);
  request.mutable_peer()->set_node_id(kNodeA);
  EXPECT_EQ(to_hex(request.SerializeAsString()),
            "12143b53b5250948ad7311fce42cf8d549f930743ec41a01c02210c70d4093a169a46c6f7665a4626565732a082dba21"
            "27afc0da413201003a16"
            "0a14d8633034b25bf122e2d74f059ed176b2cbf166b1");

  dht::StoreRequest subkey;
  subkey.add_keys(kParty);
  subkey.add_subkeys(encode("bob"));
  subkey.add_values(encode("yes"));
  subkey.add_expiration_time(time_of("43702227afc0da41"));
  subkey.add_in_cache(false);
  EXPECT_EQ(to_hex(subkey.SerializeAsString()),
            "1214e07cbefaa9b17d097422e8bde5dd88d1930f048f1a04a3626f622204a37965732a0843702227afc0da41320100");

  const auto reply = parse<dht::StoreResponse>("1201011a160a147b6474f3c6c96e4f5a8770f60fb1ff6f1b40bf81");
  ASSERT_EQ(reply.store_ok_size(), 1);
  EXPECT_TRUE(reply.store_ok(0));
}

TEST(DhtMessages, FindAsRecorded) {
  dht::FindRequest request;
  request.add_keys(kMyKey);
  request.mutable_peer()->set_node_id(kNodeB);
  EXPECT_EQ(to_hex(request.SerializeAsString()),
            "12143b53b5250948ad7311fce42cf8d549f930743ec41a160a147b6474f3c6c96e4f5a8770f60fb1ff6f1b40bf81");

  const auto nothing = parse<dht::FindResponse>("12001a160a14d8633034b25bf122e2d74f059ed176b2cbf166b1");
  ASSERT_EQ(nothing.results_size(), 1);
  EXPECT_EQ(nothing.results(0).type(), dht::NOT_FOUND);

  const auto regular = parse<dht::FindResponse>(
      "121d08011210c70d4093a169a46c6f7665a462656573192dba2127afc0da411a160a14d8633034b25bf122e2d74f059ed176b2"
      "cbf166b1");
  EXPECT_EQ(regular.results(0).type(), dht::FOUND_REGULAR);
  EXPECT_EQ(regular.results(0).value(), kBees);
  EXPECT_EQ(regular.results(0).expiration_time(), time_of("2dba2127afc0da41"));

  const auto dictionary = parse<dht::FindResponse>(
      "12380802122bc7285093cb7ff0000000000000cb41dac0af272270439193a3626f62c404a3796573cb41dac0af272270431943"
      "702227afc0da41"
      "1a160a147b6474f3c6c96e4f5a8770f60fb1ff6f1b40bf81");
  EXPECT_EQ(dictionary.results(0).type(), dht::FOUND_DICTIONARY);
  const Value value = decode(dictionary.results(0).value()).value();
  EXPECT_EQ(value.as_ext()->code, 0x50);
  EXPECT_EQ(encode(value), dictionary.results(0).value());
}

TEST(DhtMessages, ReadUnpackedListsToo) {
  dht::StoreResponse reply;
  ASSERT_TRUE(reply.ParseFromString(from_hex("10011000").value()));
  ASSERT_EQ(reply.store_ok_size(), 2);
  EXPECT_TRUE(reply.store_ok(0));
  EXPECT_FALSE(reply.store_ok(1));
}

TEST(DhtMessages, CarryAuthorizationInTheirFirstField) {
  dht::PingRequest request;
  request.mutable_auth()->set_nonce("12345678");
  request.mutable_auth()->mutable_client_access_token()->set_username("ann");
  EXPECT_EQ(to_hex(request.SerializeAsString()), "0a110a050a03616e6e22083132333435363738");
}

}  // namespace
}  // namespace hivemetal::wire
