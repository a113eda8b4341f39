#include "runner/attempt/log_writer.h"

#include <algorithm>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "runner/attempt/log_frames.h"

namespace hivemetal::runner {

namespace {

constexpr std::uint64_t kBytesPerSecond = 1 << 20;
constexpr std::uint64_t kBurst = 16 << 20;

}  // namespace

bool LogRate::take(std::uint64_t bytes, std::int64_t now_ns) {
  const double passed = static_cast<double>(now_ns - last_ns_) * 1e-9;
  if (last_ns_ != 0 && passed > 0) {
    const double earned = passed * static_cast<double>(bytes_per_second_);
    allowance_ = earned >= static_cast<double>(burst_ - allowance_)
                     ? burst_
                     : allowance_ + static_cast<std::uint64_t>(earned);
  }
  last_ns_ = now_ns;
  if (bytes > allowance_) return false;
  allowance_ -= bytes;
  return true;
}

LogWriter::LogWriter(std::filesystem::path folder, std::uint64_t log_bytes_max)
    : folder_(std::move(folder)),
      log_bytes_max_(log_bytes_max),
      segment_size_(segment_size(log_bytes_max)),
      rate_(kBytesPerSecond, kBurst) {
  const auto segments = segments_in(folder_);
  if (segments.empty()) return;
  struct stat status{};
  const auto last = folder_ / segment_name(segments.back());
  next_ = segments.back();
  if (::stat(last.c_str(), &status) == 0) next_ += static_cast<std::uint64_t>(status.st_size);
  segment_ = next_;
}

bool LogWriter::open_segment() {
  const auto path = folder_ / segment_name(next_);
  file_ = Fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_APPEND, 0600));
  segment_ = next_;
  return static_cast<bool>(file_);
}

// Leaves room for one segment to come.
void LogWriter::delete_oldest() {
  const auto segments = segments_in(folder_);
  for (const std::uint64_t first : segments) {
    if (next_ - first + segment_size_ <= log_bytes_max_ || first == segment_) break;
    ::unlink((folder_ / segment_name(first)).c_str());
  }
}

bool LogWriter::write_frame(std::uint8_t stream, std::string_view bytes) {
  if (file_ && next_ - segment_ + kFrameHeaderSize + bytes.size() > segment_size_) {
    file_.reset();
    segment_ = next_;
    delete_oldest();
  }
  if (!file_ && !open_segment()) return false;
  std::string header = encode({stream, static_cast<std::uint32_t>(bytes.size()),
                               static_cast<std::uint64_t>(unix_time_now() * 1e6), next_});
  const iovec parts[] = {{header.data(), header.size()}, {const_cast<char*>(bytes.data()), bytes.size()}};
  const std::size_t size = header.size() + bytes.size();
  if (::writev(file_.get(), parts, 2) != static_cast<ssize_t>(size)) {
    // Half a frame must not stay: the next one is written where it began.
    static_cast<void>(::ftruncate(file_.get(), static_cast<off_t>(next_ - segment_)));
    return false;
  }
  next_ += size;
  return true;
}

bool LogWriter::note_dropped() {
  if (unreported_bytes_ == 0) return true;
  if (!write_frame(3, std::to_string(unreported_bytes_) + " bytes dropped")) return false;
  unreported_bytes_ = 0;
  return true;
}

void LogWriter::append(std::uint8_t stream, std::string_view bytes) {
  if (rate_.take(bytes.size(), boottime_ns()) && note_dropped() && write_frame(stream, bytes)) return;
  dropped_bytes_ += bytes.size();
  unreported_bytes_ += bytes.size();
}

void LogWriter::finish() { static_cast<void>(note_dropped()); }

}  // namespace hivemetal::runner
