#include "runner/attempt/files.h"

#include <cerrno>
#include <cstring>
#include <ctime>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace hivemetal::runner {

Fd& Fd::operator=(Fd&& other) noexcept {
  if (this != &other) {
    reset();
    fd_ = std::exchange(other.fd_, -1);
  }
  return *this;
}

void Fd::reset() {
  if (fd_ >= 0) ::close(fd_);
  fd_ = -1;
}

std::string errno_name(int code) {
  const char* name = ::strerrorname_np(code);
  return name != nullptr ? name : "errno " + std::to_string(code);
}

Error errno_error(std::string_view what, const std::filesystem::path& path) {
  const int code = errno;
  return {code == ENOENT ? ErrorCode::NotFound : ErrorCode::Refused,
          std::string(what) + " " + path.string() + ": " + errno_name(code)};
}

Result<std::string> read_file(const std::filesystem::path& path, std::size_t size_max) {
  const Fd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (!file) return errno_error("open", path);
  std::string content;
  char buffer[4096];
  while (true) {
    const ssize_t size = ::read(file.get(), buffer, sizeof buffer);
    if (size < 0 && errno == EINTR) continue;
    if (size < 0) return errno_error("read", path);
    if (size == 0) return content;
    content.append(buffer, static_cast<std::size_t>(size));
    if (content.size() > size_max) {
      return Error{ErrorCode::Invalid,
                   path.string() + " is longer than " + std::to_string(size_max) + " bytes"};
    }
  }
}

Result<void> write_kernel_file(const std::filesystem::path& path, std::string_view text) {
  const Fd file(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (!file) return errno_error("open", path);
  if (::write(file.get(), text.data(), text.size()) < 0) {
    return errno_error("write '" + std::string(text) + "' to", path);
  }
  return {};
}

namespace {

Result<void> write_whole(int fd, std::string_view content, const std::filesystem::path& path) {
  while (!content.empty()) {
    const ssize_t size = ::write(fd, content.data(), content.size());
    if (size < 0 && errno == EINTR) continue;
    if (size < 0) return errno_error("write", path);
    content.remove_prefix(static_cast<std::size_t>(size));
  }
  return {};
}

}  // namespace

Result<void> replace_file(const std::filesystem::path& path, std::string_view content, Durability durability,
                          mode_t mode) {
  const std::filesystem::path temporary = path.string() + ".new";
  Fd file(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, mode));
  if (!file) return errno_error("create", temporary);
  auto written = write_whole(file.get(), content, temporary);
  if (written && durability == Durability::Synced && ::fsync(file.get()) != 0) {
    written = errno_error("fsync", temporary);
  }
  if (written && ::rename(temporary.c_str(), path.c_str()) != 0) written = errno_error("rename", temporary);
  if (!written) {
    ::unlink(temporary.c_str());
    return written;
  }
  if (durability == Durability::Cached) return {};
  const Fd folder(::open(path.parent_path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!folder || ::fsync(folder.get()) != 0) return errno_error("fsync", path.parent_path());
  return {};
}

void reserve_space(const std::filesystem::path& path, std::uint64_t size) {
  const Fd file(::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  // A full disk has no room to reserve; the record is tried all the same when its time comes.
  if (file) static_cast<void>(::posix_fallocate(file.get(), 0, static_cast<off_t>(size)));
}

std::string boot_id() {
  auto id = read_file("/proc/sys/kernel/random/boot_id");
  if (!id) return "";
  while (!id->empty() && id->back() == '\n') id->pop_back();
  return *id;
}

std::int64_t boottime_ns() {
  timespec time{};
  ::clock_gettime(CLOCK_BOOTTIME, &time);
  return std::int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
}

double unix_time_now() {
  timespec time{};
  ::clock_gettime(CLOCK_REALTIME, &time);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}

}  // namespace hivemetal::runner
