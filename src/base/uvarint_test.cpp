#include "base/uvarint.h"

#include <gtest/gtest.h>

#include "base/utf8.h"

namespace hivemetal {
namespace {

Bytes written(std::uint64_t value) {
  Bytes bytes;
  append_uvarint(bytes, value);
  return bytes;
}

TEST(Uvarint, ReadsBackWhatItWrote) {
  EXPECT_EQ(to_hex(written(0)), "00");
  EXPECT_EQ(to_hex(written(300)), "ac02");
  EXPECT_EQ(to_hex(written(UINT64_MAX)), "ffffffffffffffffff01");
  for (int shift = 0; shift < 64; ++shift) {
    const std::uint64_t value = (std::uint64_t{1} << shift) + 5;
    const Bytes bytes = written(value) + "x";
    std::string_view rest = bytes;
    EXPECT_EQ(take_uvarint(rest).value(), value);
    EXPECT_EQ(rest, "x");
  }
}

TEST(Uvarint, WaitsForMoreBytesAndRefusesMoreThan64Bits) {
  const Bytes begun = from_hex("ffff").value();
  std::string_view rest = begun;
  EXPECT_EQ(take_uvarint(rest).value(), std::nullopt);
  EXPECT_EQ(rest, begun);
  for (const std::string_view hex :
       {"ffffffffffffffffff02", "80808080808080808080", "8080808080808080808001"}) {
    const Bytes bytes = from_hex(hex).value();
    rest = bytes;
    EXPECT_EQ(take_uvarint(rest).error().code, ErrorCode::Invalid) << hex;
  }
}

TEST(Utf8, IsTextOfAllPlanesAndNothingElse) {
  EXPECT_TRUE(is_utf8(""));
  EXPECT_TRUE(is_utf8("a\xc2\x80\xdf\xbf\xe0\xa0\x80\xef\xbf\xbf\xf0\x90\x80\x80\xf4\x8f\xbf\xbf"));
  for (const std::string_view bytes :
       {"\x80", "\xc1\xbf", "\xc2", "\xe0\x9f\xbf", "\xed\xa0\x80", "\xf0\x8f\xbf\xbf", "\xf4\x90\x80\x80",
        "\xf5\x80\x80\x80", "\xe2\x82", "\xff", "\xc3\x28"}) {
    EXPECT_FALSE(is_utf8(bytes)) << to_hex(bytes);
  }
}

}  // namespace
}  // namespace hivemetal
