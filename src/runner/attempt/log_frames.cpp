#include "runner/attempt/log_frames.h"

#include <algorithm>
#include <cstdio>
#include <fcntl.h>
#include <iterator>
#include <sys/stat.h>
#include <unistd.h>

#include "runner/attempt/files.h"

namespace hivemetal::runner {

namespace {

constexpr char kMark = 'H';
constexpr std::size_t kReadBytesMax = 4 << 20;

void put(std::string& out, std::uint64_t value, int bytes) {
  for (int i = bytes - 1; i >= 0; --i) out += static_cast<char>(value >> (8 * i) & 0xff);
}

std::uint64_t take(std::string_view bytes, std::size_t at, int count) {
  std::uint64_t value = 0;
  for (int i = 0; i < count; ++i) value = value << 8 | static_cast<unsigned char>(bytes[at + i]);
  return value;
}

LogChunk::Frame gap_note(std::uint64_t from, std::uint64_t to) {
  return {to, 3, unix_time_now(), std::to_string(to - from) + " bytes of the log are no longer here"};
}

// At most `size` bytes of the segment that begins at `segment`, from `offset` of the log on.
Result<std::string> read_segment(const std::filesystem::path& folder, std::uint64_t segment,
                                 std::uint64_t offset, std::size_t size) {
  const std::filesystem::path path = folder / segment_name(segment);
  const Fd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (!file) return errno_error("open", path);
  std::string bytes(size, '\0');
  const ssize_t got = ::pread(file.get(), bytes.data(), size, static_cast<off_t>(offset - segment));
  if (got < 0) return errno_error("read", path);
  bytes.resize(static_cast<std::size_t>(got));
  return bytes;
}

}  // namespace

std::string encode(const FrameHeader& header) {
  std::string bytes;
  bytes.reserve(kFrameHeaderSize);
  bytes += kMark;
  bytes += static_cast<char>(header.stream);
  put(bytes, 0, 2);
  put(bytes, header.length, 4);
  put(bytes, header.unix_microseconds, 8);
  put(bytes, header.offset, 8);
  return bytes;
}

std::optional<FrameHeader> decode_frame_header(std::string_view bytes) {
  if (bytes.size() < kFrameHeaderSize || bytes[0] != kMark || take(bytes, 2, 2) != 0) return std::nullopt;
  const FrameHeader header{static_cast<std::uint8_t>(bytes[1]), static_cast<std::uint32_t>(take(bytes, 4, 4)),
                           take(bytes, 8, 8), take(bytes, 16, 8)};
  if (header.stream < 1 || header.stream > 3 || header.length > kFrameBytesMax) return std::nullopt;
  return header;
}

DecodedFrames decode_frames(std::string_view bytes, std::uint64_t offset) {
  DecodedFrames decoded;
  decoded.next_offset = offset;
  while (bytes.size() >= kFrameHeaderSize) {
    const auto header = decode_frame_header(bytes);
    if (!header || header->offset != decoded.next_offset) {
      decoded.damaged = true;
      break;
    }
    const std::size_t size = kFrameHeaderSize + header->length;
    if (bytes.size() < size) break;
    decoded.frames.push_back({header->offset, header->stream,
                              static_cast<double>(header->unix_microseconds) * 1e-6,
                              Bytes(bytes.substr(kFrameHeaderSize, header->length))});
    decoded.next_offset += size;
    bytes.remove_prefix(size);
  }
  return decoded;
}

std::string segment_name(std::uint64_t offset) {
  char name[32];
  std::snprintf(name, sizeof name, "%020llu.log", static_cast<unsigned long long>(offset));
  return name;
}

std::optional<std::uint64_t> offset_of_segment(std::string_view name) {
  if (name.size() != 24 || name.substr(20) != ".log") return std::nullopt;
  std::uint64_t offset = 0;
  for (const char c : name.substr(0, 20)) {
    if (c < '0' || c > '9') return std::nullopt;
    const std::uint64_t digit = static_cast<std::uint64_t>(c - '0');
    if (offset > (UINT64_MAX - digit) / 10) return std::nullopt;
    offset = offset * 10 + digit;
  }
  return offset;
}

std::uint64_t segment_size(std::uint64_t log_bytes_max) {
  return std::clamp<std::uint64_t>(log_bytes_max / 8, 2 * kFrameBytesMax, 8 << 20);
}

std::vector<std::uint64_t> segments_in(const std::filesystem::path& folder) {
  std::vector<std::uint64_t> segments;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
    if (const auto offset = offset_of_segment(entry.path().filename().string())) segments.push_back(*offset);
  }
  std::sort(segments.begin(), segments.end());
  return segments;
}

Result<LogChunk> read_log_folder(const std::filesystem::path& folder, std::uint64_t offset,
                                 std::size_t bytes_max) {
  bytes_max = std::clamp<std::size_t>(bytes_max, kFrameHeaderSize + kFrameBytesMax, kReadBytesMax);
  LogChunk chunk;
  chunk.next_offset = offset;
  const auto segments = segments_in(folder);
  if (segments.empty()) return chunk;
  if (offset < segments.front()) {
    chunk.frames.push_back(gap_note(offset, segments.front()));
    chunk.next_offset = segments.front();
  }
  std::size_t taken = 0;
  while (taken < bytes_max) {
    const auto after = std::upper_bound(segments.begin(), segments.end(), chunk.next_offset);
    const std::size_t size = std::max(bytes_max - taken, kFrameHeaderSize + kFrameBytesMax);
    const auto bytes = read_segment(folder, *std::prev(after), chunk.next_offset, size);
    if (!bytes && bytes.error().code != ErrorCode::NotFound) return bytes.error();
    auto decoded = decode_frames(bytes ? *bytes : "", chunk.next_offset);
    taken += decoded.next_offset - chunk.next_offset;
    std::move(decoded.frames.begin(), decoded.frames.end(), std::back_inserter(chunk.frames));
    if (decoded.next_offset == chunk.next_offset) {
      if (after == segments.end()) break;
      chunk.frames.push_back(gap_note(chunk.next_offset, *after));  // damaged, or rotated away while we read
      chunk.next_offset = *after;
    } else {
      chunk.next_offset = decoded.next_offset;
    }
  }
  return chunk;
}

}  // namespace hivemetal::runner
