// Small files of the kernel and of ours, for the guard and the daemon alike: no Asio, no logging.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <sys/types.h>
#include <utility>

#include "base/result.h"

namespace hivemetal::runner {

// A file descriptor with an owner.
class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd& operator=(Fd&& other) noexcept;
  ~Fd() { reset(); }

  int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }
  int release() { return std::exchange(fd_, -1); }
  void reset();

 private:
  int fd_ = -1;
};

// "ENOSPC", of `code` or of errno.
std::string errno_name(int code);

// An error from errno: "open /x: EACCES". NotFound for ENOENT, Refused for the rest.
Error errno_error(std::string_view what, const std::filesystem::path& path);

// The file's content; Invalid if it is longer than `size_max`.
Result<std::string> read_file(const std::filesystem::path& path, std::size_t size_max = 1 << 20);

// Writes `text` in one write(), as files of the kernel want it. The file must exist.
Result<void> write_kernel_file(const std::filesystem::path& path, std::string_view text);

enum class Durability { Synced, Cached };

// Replaces the file whole: temporary file beside it, fsync, rename, fsync of the folder. Cached leaves the
// two fsyncs out: the file is then old or new after a crash of ours, and may be empty after one of the
// machine.
Result<void> replace_file(const std::filesystem::path& path, std::string_view content,
                          Durability durability = Durability::Synced, mode_t mode = 0600);

// Sets `size` bytes of disk aside in `path`; deleting the file gives a full disk room for a record.
void reserve_space(const std::filesystem::path& path, std::uint64_t size);

// This boot of the machine; identifiers of processes are only comparable within one.
std::string boot_id();

// Nanoseconds since boot, with time asleep: the clock of every limit.
std::int64_t boottime_ns();

double unix_time_now();

}  // namespace hivemetal::runner
