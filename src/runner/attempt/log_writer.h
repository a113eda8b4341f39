// Writes the frames of log_frames.h: rotates, limits the rate, and survives a full disk by dropping.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string_view>

#include "runner/attempt/files.h"

namespace hivemetal::runner {

// How fast a log may grow: what is above is dropped and counted, so that a chatty program neither stalls nor
// fills the owner's disk bandwidth.
class LogRate {
 public:
  LogRate(std::uint64_t bytes_per_second, std::uint64_t burst)
      : bytes_per_second_(bytes_per_second), burst_(burst), allowance_(burst) {}

  // True if `bytes` may be written at `now_ns`; they are counted then.
  bool take(std::uint64_t bytes, std::int64_t now_ns);

 private:
  std::uint64_t bytes_per_second_;
  std::uint64_t burst_;
  std::uint64_t allowance_;
  std::int64_t last_ns_ = 0;
};

class LogWriter {
 public:
  // Goes on at the end of what lies in `folder`.
  LogWriter(std::filesystem::path folder, std::uint64_t log_bytes_max);

  // Appends one frame, at most kFrameBytesMax. Never fails: what cannot be written is counted, and a note
  // says how much as soon as writing works again.
  void append(std::uint8_t stream, std::string_view bytes);

  // Writes the note on what was dropped, if there is something to say.
  void finish();

  std::uint64_t dropped_bytes() const { return dropped_bytes_; }

 private:
  bool write_frame(std::uint8_t stream, std::string_view bytes);
  bool open_segment();
  void delete_oldest();
  bool note_dropped();

  std::filesystem::path folder_;
  std::uint64_t log_bytes_max_;
  std::uint64_t segment_size_;
  LogRate rate_;
  Fd file_;
  std::uint64_t segment_ = 0;           // first offset of the open segment
  std::uint64_t next_ = 0;              // offset of the next frame
  std::uint64_t dropped_bytes_ = 0;     // ever
  std::uint64_t unreported_bytes_ = 0;  // since the last note
};

}  // namespace hivemetal::runner
