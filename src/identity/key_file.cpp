#include "identity/key_file.h"

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

namespace hivemetal::identity {

namespace {

class File {
 public:
  explicit File(int descriptor) : descriptor_(descriptor) {}
  ~File() {
    if (descriptor_ >= 0) ::close(descriptor_);
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  int descriptor() const { return descriptor_; }

 private:
  int descriptor_;
};

Error failed(std::string_view action, const std::filesystem::path& file, int error) {
  const ErrorCode code = error == ENOENT                     ? ErrorCode::NotFound
                         : error == EACCES || error == EPERM ? ErrorCode::Refused
                                                             : ErrorCode::Unavailable;
  return {code, fmt::format("cannot {} {}: {}", action, file.string(), std::strerror(error))};  // NOLINT
}

// No error if only the file's owner, who must be us or root, can read and write it.
Result<void> check_private(const std::filesystem::path& file, const struct stat& status) {
  if (!S_ISREG(status.st_mode)) {
    return Error{ErrorCode::Invalid, fmt::format("{} is not a regular file", file.string())};
  }
  if (status.st_uid != ::geteuid() && status.st_uid != 0) {
    return Error{ErrorCode::Refused, fmt::format("{} belongs to user {}; run as that user, or own the file",
                                                 file.string(), status.st_uid)};
  }
  if ((status.st_mode & 077) != 0) {
    return Error{ErrorCode::Refused, fmt::format("{} is open to other users (mode {:04o}); run: chmod 600 {}",
                                                 file.string(), status.st_mode & 07777u, file.string())};
  }
  return {};
}

int write_all(int descriptor, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(descriptor, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return errno;
    bytes.remove_prefix(static_cast<std::size_t>(written));
  }
  return ::fsync(descriptor) == 0 ? 0 : errno;
}

}  // namespace

Result<Bytes> read_key_file(const std::filesystem::path& file, std::size_t size_max) {
  const File opened(::open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  if (opened.descriptor() < 0) return failed("open", file, errno);
  struct stat status{};
  if (::fstat(opened.descriptor(), &status) != 0) return failed("look at", file, errno);
  const auto checked = check_private(file, status);
  if (!checked) return checked.error();

  Bytes bytes(size_max + 1, '\0');
  std::size_t size = 0;
  while (size < bytes.size()) {
    const ssize_t count = ::read(opened.descriptor(), bytes.data() + size, bytes.size() - size);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return failed("read", file, errno);
    if (count == 0) break;
    size += static_cast<std::size_t>(count);
  }
  if (size > size_max) {
    return Error{ErrorCode::Invalid, fmt::format("{} has more than {} bytes", file.string(), size_max)};
  }
  bytes.resize(size);
  return bytes;
}

Result<void> write_key_file(const std::filesystem::path& file, std::string_view bytes) {
  std::string temporary = file.string() + ".XXXXXX";
  int error = 0;
  {
    const File opened(::mkostemp(temporary.data(), O_CLOEXEC));  // mode 0600
    if (opened.descriptor() < 0) return failed("create a file beside", file, errno);
    error = write_all(opened.descriptor(), bytes);
  }
  if (error == 0 && ::rename(temporary.c_str(), file.c_str()) != 0) error = errno;
  if (error != 0) {
    ::unlink(temporary.c_str());
    return failed("write", file, error);
  }
  // The name must survive a power cut too, not only the contents.
  const auto parent = file.parent_path();
  const File folder(::open(parent.empty() ? "." : parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (folder.descriptor() >= 0) ::fsync(folder.descriptor());
  return {};
}

}  // namespace hivemetal::identity
