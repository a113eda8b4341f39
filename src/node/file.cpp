#include "node/file.h"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <system_error>
#include <unistd.h>

namespace hivemetal::node {

namespace {

// Closes the descriptor when it goes out of scope.
struct Descriptor {
  int fd;
  ~Descriptor() {
    if (fd >= 0) ::close(fd);
  }
};

bool write_all(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const auto n = ::write(fd, bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return false;
    bytes.remove_prefix(static_cast<std::size_t>(n));
  }
  return true;
}

}  // namespace

Error system_error(std::string_view what, int number) {
  switch (number) {
    case ENOSPC:
    case EDQUOT:
      return Error{
          ErrorCode::Unavailable,
          fmt::format("{}: the disk is full; free some space there or choose another directory with --dir",
                      what)};
    case EACCES:
    case EPERM:
      return Error{
          ErrorCode::Refused,
          fmt::format("{}: not permitted; run as the directory's owner or choose another one with --dir",
                      what)};
    case EROFS:
      return Error{
          ErrorCode::Refused,
          fmt::format("{}: the file system is read-only; choose another directory with --dir", what)};
    case ENOENT:
      return Error{ErrorCode::NotFound, fmt::format("{}: no such file or directory", what)};
    default:
      return Error{ErrorCode::Unavailable, fmt::format("{}: {}", what, std::strerror(number))};
  }
}

Result<Bytes> read_file(const std::filesystem::path& file, std::size_t bytes_max) {
  const Descriptor in{::open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
  if (in.fd < 0) return system_error("cannot read " + file.string(), errno);
  struct stat status{};
  if (::fstat(in.fd, &status) != 0) return system_error("cannot read " + file.string(), errno);
  if (!S_ISREG(status.st_mode))
    return Error{ErrorCode::Invalid, fmt::format("{} is not a regular file", file.string())};
  Bytes bytes;
  char buffer[65536];
  for (;;) {
    const auto n = ::read(in.fd, buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return system_error("cannot read " + file.string(), errno);
    if (n == 0) return bytes;
    if (bytes.size() + static_cast<std::size_t>(n) > bytes_max) {
      return Error{ErrorCode::Invalid,
                   fmt::format("{} has {} bytes, and at most {} are read; is it the right file?",
                               file.string(), status.st_size, bytes_max)};
    }
    bytes.append(buffer, static_cast<std::size_t>(n));
  }
}

Result<void> write_file(const std::filesystem::path& file, std::string_view bytes, mode_t mode) {
  const std::string what = "cannot write " + file.string();
  const std::string temporary = fmt::format("{}.{}.tmp", file.string(), ::getpid());
  {
    const Descriptor out{
        ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, mode)};
    if (out.fd < 0) return system_error(what, errno);
    if (!write_all(out.fd, bytes) || ::fsync(out.fd) != 0) {
      const int number = errno;
      ::unlink(temporary.c_str());
      return system_error(what, number);
    }
  }
  if (::rename(temporary.c_str(), file.c_str()) != 0) {
    const int number = errno;
    ::unlink(temporary.c_str());
    return system_error(what, number);
  }
  const Descriptor folder{::open(file.parent_path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
  if (folder.fd >= 0) ::fsync(folder.fd);
  return {};
}

}  // namespace hivemetal::node
