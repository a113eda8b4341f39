#include "runner/attempt/log_frames.h"

#include <fstream>
#include <gtest/gtest.h>
#include <unistd.h>

#include "runner/attempt/log_writer.h"

namespace hivemetal::runner {
namespace {

struct LogTest : testing::Test {
  LogTest() {
    char name[] = "/tmp/hivemetal-log-XXXXXX";
    folder = ::mkdtemp(name);
  }
  ~LogTest() override { std::filesystem::remove_all(folder); }

  std::uint64_t size_on_disk() const {
    std::uint64_t size = 0;
    for (const auto& entry : std::filesystem::directory_iterator(folder)) size += entry.file_size();
    return size;
  }

  std::filesystem::path folder;
};

TEST(LogFrames, WritesAHeaderOf24Bytes) {
  const FrameHeader header{2, 5, 1'700'000'000'000'000, 0x1234};
  EXPECT_EQ(to_hex(encode(header)),
            "480200000000000500060a24181e4000"
            "0000000000001234");
  EXPECT_EQ(decode_frame_header(encode(header)), header);
}

TEST(LogFrames, RefusesHeadersThatAreNone) {
  const std::string good = encode({1, 5, 1, 0});
  EXPECT_FALSE(decode_frame_header(good.substr(0, 23)));
  for (const auto& [at, byte] : {std::pair{0, 'X'}, {1, '\4'}, {1, '\0'}, {2, '\1'}, {4, '\1'}}) {
    std::string bad = good;
    bad[static_cast<std::size_t>(at)] = byte;
    EXPECT_FALSE(decode_frame_header(bad)) << at;
  }
}

TEST(LogFrames, StopsBeforeAFrameThatIsNotYetWhole) {
  const std::string bytes = encode({1, 3, 1, 100}) + "abc" + encode({1, 3, 1, 127}) + "ab";
  const DecodedFrames decoded = decode_frames(bytes, 100);
  ASSERT_EQ(decoded.frames.size(), 1U);
  EXPECT_EQ(decoded.next_offset, 127U);
  EXPECT_FALSE(decoded.damaged);
}

TEST(LogFrames, TakesBytesAtAnotherPlaceForDamage) {
  EXPECT_TRUE(decode_frames(encode({1, 0, 1, 100}), 101).damaged);
}

TEST(LogFrames, NamesSegmentsByTheirFirstOffset) {
  EXPECT_EQ(segment_name(65590), "00000000000000065590.log");
  EXPECT_EQ(offset_of_segment("00000000000000065590.log"), 65590U);
  EXPECT_EQ(offset_of_segment("18446744073709551615.log"), UINT64_MAX);
  EXPECT_FALSE(offset_of_segment("99999999999999999999.log"));
  EXPECT_FALSE(offset_of_segment("0000000000000006559x.log"));
  EXPECT_FALSE(offset_of_segment("65590.log"));
}

TEST_F(LogTest, KeepsOffsetsThroughRotationsAndReadsAllThatIsLeft) {
  LogWriter writer(folder, 1 << 20);
  const std::string line(10'000, 'x');
  for (int i = 0; i < 500; ++i) writer.append(1, std::to_string(i) + line);
  EXPECT_LE(size_on_disk(), 1U << 20);

  std::uint64_t offset = 0;
  std::optional<int> last;
  while (true) {
    const LogChunk chunk = read_log_folder(folder, offset, 100'000).value();
    if (chunk.frames.empty()) break;
    for (const auto& frame : chunk.frames) {
      if (frame.stream == 3) {
        EXPECT_EQ(offset, 0U);  // the beginning is gone, and nothing after it
        EXPECT_NE(frame.bytes.find("no longer here"), std::string::npos);
        continue;
      }
      const int number = std::stoi(frame.bytes);
      if (last) EXPECT_EQ(number, *last + 1);
      last = number;
    }
    EXPECT_GT(chunk.next_offset, offset);
    offset = chunk.next_offset;
  }
  EXPECT_EQ(last, 499);
  EXPECT_GT(offset, 500U * 10'000U);
}

TEST_F(LogTest, GoesOnAtTheSameOffsetWithAnotherWriter) {
  LogWriter(folder, 1 << 20).append(1, "first");
  const LogChunk before = read_log_folder(folder, 0, 1000).value();
  LogWriter(folder, 1 << 20).append(2, "second");
  const LogChunk after = read_log_folder(folder, before.next_offset, 1000).value();
  ASSERT_EQ(after.frames.size(), 1U);
  EXPECT_EQ(after.frames[0].bytes, "second");
  EXPECT_EQ(after.frames[0].offset, before.next_offset);
}

TEST_F(LogTest, PassesOverADamagedSegment) {
  {
    LogWriter writer(folder, 1 << 20);
    for (int i = 0; i < 20; ++i) writer.append(1, std::string(20'000, 'a'));
  }
  const auto segments = segments_in(folder);
  ASSERT_GE(segments.size(), 2U);
  std::fstream file(folder / segment_name(segments[0]), std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(0);
  file << "garbage";
  file.close();
  const LogChunk chunk = read_log_folder(folder, 0, 1 << 20).value();
  ASSERT_GE(chunk.frames.size(), 2U);
  EXPECT_EQ(chunk.frames[0].stream, 3);
  EXPECT_EQ(chunk.frames[1].offset, segments[1]);
}

TEST_F(LogTest, IsEmptyBeforeAnythingWasWritten) {
  EXPECT_TRUE(read_log_folder(folder, 0, 1000)->frames.empty());
  EXPECT_TRUE(read_log_folder(folder / "missing", 7, 1000)->frames.empty());
}

TEST(LogRate, AllowsABurstAndThenItsRate) {
  constexpr std::int64_t kSecond = 1'000'000'000;
  LogRate rate(100, 1000);
  EXPECT_TRUE(rate.take(1000, kSecond));
  EXPECT_FALSE(rate.take(1, kSecond));
  EXPECT_FALSE(rate.take(101, 2 * kSecond));
  EXPECT_TRUE(rate.take(100, 2 * kSecond));
  EXPECT_TRUE(rate.take(1000, 3600 * kSecond));
  EXPECT_FALSE(rate.take(1, 3600 * kSecond));
}

}  // namespace
}  // namespace hivemetal::runner
