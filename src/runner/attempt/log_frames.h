// The attempt's log on disk: frames of raw output in size-rotated segments. docs/formats/attempt-log.md.
//
// An offset counts all bytes ever written to the log, headers too. A segment's name is the offset of its
// first byte, so an offset means the same after a rotation and after a restart of anybody.
//
//     00000000000000000000.log   |frame|frame|frame|
//     00000000000000065590.log                     |frame|frame…   <- written to
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "runner/attempt.h"

namespace hivemetal::runner {

inline constexpr std::size_t kFrameHeaderSize = 24;
inline constexpr std::size_t kFrameBytesMax = 64 << 10;

struct FrameHeader {
  std::uint8_t stream = 1;   // 1 stdout, 2 stderr, 3 a note of ours
  std::uint32_t length = 0;  // of the bytes that follow
  std::uint64_t unix_microseconds = 0;
  std::uint64_t offset = 0;  // of this header; a frame that lies elsewhere is no frame

  friend bool operator==(const FrameHeader&, const FrameHeader&) = default;
};

std::string encode(const FrameHeader& header);

// Empty if these bytes are no header: too few, wrong mark, unknown stream, too long.
std::optional<FrameHeader> decode_frame_header(std::string_view bytes);

// Frames at the beginning of `bytes`, which lie at `offset` in the log. Stops at the first that is
// incomplete, and at the first that is damaged: `damaged` says so.
struct DecodedFrames {
  std::vector<LogChunk::Frame> frames;
  std::uint64_t next_offset = 0;
  bool damaged = false;
};
DecodedFrames decode_frames(std::string_view bytes, std::uint64_t offset);

std::string segment_name(std::uint64_t offset);
std::optional<std::uint64_t> offset_of_segment(std::string_view name);

// How large a segment may grow, so that the log stays below `log_bytes_max` and loses little at a rotation.
std::uint64_t segment_size(std::uint64_t log_bytes_max);

// The first offsets of the segments in `folder`, in order.
std::vector<std::uint64_t> segments_in(const std::filesystem::path& folder);

// Frames from `offset` on, about `bytes_max` of them. An offset that was rotated away goes on at the oldest
// frame, an offset inside a frame at the next segment; a note of ours says how much is missing.
Result<LogChunk> read_log_folder(const std::filesystem::path& folder, std::uint64_t offset,
                                 std::size_t bytes_max);

}  // namespace hivemetal::runner
