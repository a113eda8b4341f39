#include "wire/framing.h"

#include <gtest/gtest.h>

#include "wire/p2pd.pb.h"
#include "wire/protobuf.h"

namespace hivemetal::wire {
namespace {

TEST(DelimitedReader, CutsAStreamThatArrivesByteByByte) {
  Bytes stream;
  const Bytes messages[] = {"", "a", Bytes(200, 'b'), "c"};
  for (const Bytes& message : messages) append_delimited(stream, message);

  DelimitedReader reader(200);
  std::vector<Bytes> received;
  for (const char byte : stream) {
    reader.feed(std::string_view(&byte, 1));
    while (const auto message = reader.next().value()) received.push_back(*message);
  }
  EXPECT_EQ(received, std::vector<Bytes>(std::begin(messages), std::end(messages)));
}

TEST(DelimitedReader, GivesManyMessagesThatArriveAtOnce) {
  Bytes stream;
  for (int i = 0; i < 1000; ++i) append_delimited(stream, std::to_string(i));
  DelimitedReader reader(10);
  reader.feed(stream);
  for (int i = 0; i < 1000; ++i) EXPECT_EQ(reader.next().value(), std::to_string(i));
  EXPECT_EQ(reader.next().value(), std::nullopt);
}

TEST(DelimitedReader, RefusesALengthAboveItsLimitBeforeTheBodyIsThere) {
  DelimitedReader reader(4);
  reader.feed("\x05");
  EXPECT_EQ(reader.next().error().message, "a message of 5 bytes, at most 4 are accepted");
  EXPECT_EQ(reader.next().error().code, ErrorCode::Invalid);
  DelimitedReader other(4);
  other.feed(Bytes(10, '\xff'));
  EXPECT_EQ(other.next().error().message, "length of a message: a varint of more than 64 bits");
}

TEST(DelimitedReader, GivesAwayWhatFollowsTheLastMessage) {
  DelimitedReader reader(10);
  reader.feed(Bytes("\x01xrest", 6));
  EXPECT_EQ(reader.next().value(), "x");
  EXPECT_EQ(reader.take_rest(), "rest");
  EXPECT_EQ(reader.take_rest(), "");
}

// Wire specification, 2.2: rpc_ping between two peers.
TEST(UnaryCall, HasTheRecordedBytes) {
  const Bytes request_bytes =
      from_hex(
          "0a10ace5ffb3fc624544bf2ada25522572ee 1a5a"
          "0a26002408011220cb5b6b8ed98b45f25928847db04b970e597b1b26f78dbc02083dc79b9da660ca"
          "121444485450726f746f636f6c2e7270635f70696e67"
          "1a1a12160a147b6474f3c6c96e4f5a8770f60fb1ff6f1b40bf811801")
          .value();
  p2pd::PersistentConnectionRequest request;
  ASSERT_TRUE(request.ParseFromString(request_bytes));
  EXPECT_EQ(request.call_unary().proto(), "DHTProtocol.rpc_ping");
  EXPECT_EQ(to_hex(request.call_id()), "ace5ffb3fc624544bf2ada25522572ee");
  EXPECT_EQ(to_hex(request.SerializeAsString()), to_hex(request_bytes));

  const Bytes reply_bytes = from_hex(
                                "0a10ace5ffb3fc624544bf2ada25522572ee 2225 0a23"
                                "12160a14d8633034b25bf122e2d74f059ed176b2cbf166b12192232191aec0da412801")
                                .value();
  p2pd::PersistentConnectionRequest reply;
  ASSERT_TRUE(reply.ParseFromString(reply_bytes));
  EXPECT_EQ(reply.unary_response().response().size(), 35u);
  EXPECT_EQ(to_hex(reply.SerializeAsString()), to_hex(reply_bytes));

  // An empty reply still says that it is one.
  p2pd::PersistentConnectionRequest empty;
  empty.set_call_id("x");
  empty.mutable_unary_response()->set_response("");
  EXPECT_EQ(to_hex(empty.SerializeAsString()), "0a017822020a00");
}

TEST(ParseMessage, RefusesAMessageWithoutARequiredFieldOrWithBrokenBytes) {
  EXPECT_EQ(parse_message<p2pd::Response>("").error().message,
            "0 bytes that are no hivemetal.wire.p2pd.Response");
  EXPECT_EQ(parse_message<p2pd::Response>("\x0a\xff").error().code, ErrorCode::Invalid);
  EXPECT_EQ(parse_message<p2pd::Response>("\x08\x63").error().code, ErrorCode::Invalid)
      << "a type that is unknown";
  EXPECT_EQ(parse_message<p2pd::Response>(Bytes("\x08\x00", 2)).value().type(), p2pd::Response::OK);
}

}  // namespace
}  // namespace hivemetal::wire
