#include "base/result.h"

#include <gtest/gtest.h>

#include "base/bytes.h"

namespace hivemetal {
namespace {

TEST(Result, HoldsAValueOrAnError) {
  const Result<int> value = 3;
  const Result<int> error = Error{ErrorCode::TimedOut, "no answer"};
  EXPECT_EQ(*value, 3);
  EXPECT_EQ(error.error().code, ErrorCode::TimedOut);
}

TEST(Result, AddsContextInFrontOnItsWayUp) {
  const Error error{ErrorCode::Unavailable, "connection refused"};
  EXPECT_EQ(error.within("dial 12D3").message, "dial 12D3: connection refused");
  EXPECT_EQ(error.within("dial 12D3").code, ErrorCode::Unavailable);
}

TEST(Bytes, ReadsBackTheHexItWrote) {
  const Bytes bytes("\x00\x7f\xff", 3);
  EXPECT_EQ(to_hex(bytes), "007fff");
  EXPECT_EQ(from_hex("00 7F ff").value(), bytes);
}

TEST(Bytes, RefusesHexOfOddLengthAndOtherLetters) {
  EXPECT_EQ(from_hex("abc").error().code, ErrorCode::Invalid);
  EXPECT_EQ(from_hex("0g").error().message, "'g' is no hex digit");
}

}  // namespace
}  // namespace hivemetal
