#include "node/directory.h"

#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <system_error>
#include <unistd.h>

#include "node/file.h"

namespace hivemetal::node {

namespace {

namespace fs = std::filesystem;

constexpr std::size_t kSocketPathMax = 107;  // sizeof(sockaddr_un::sun_path) less the final zero

Result<void> make_folder(const fs::path& path, mode_t mode) {
  std::error_code error;
  if (path.has_parent_path()) fs::create_directories(path.parent_path(), error);
  if (error) return system_error("cannot make " + path.parent_path().string(), error.value());
  if (::mkdir(path.c_str(), mode) != 0) {
    if (errno != EEXIST) return system_error("cannot make " + path.string(), errno);
    if (!fs::is_directory(path, error)) {
      return Error{ErrorCode::Invalid,
                   fmt::format("{} is not a directory; choose another one with --dir", path.string())};
    }
    return {};
  }
  if (::chmod(path.c_str(), mode) != 0) return system_error("cannot make " + path.string(), errno);
  return {};
}

Result<void> check_version(const fs::path& file) {
  const auto text = read_file(file, 64);
  if (!text && text.error().code == ErrorCode::NotFound)
    return write_file(file, fmt::format("{}\n", kDirectoryVersion), 0600);
  if (!text) return text.error();
  int version = 0;
  const auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), version);
  if (error != std::errc() || version < 1) {
    return Error{
        ErrorCode::Invalid,
        fmt::format("{} does not hold a version number; restore it or choose another directory with --dir",
                    file.string())};
  }
  if (version > kDirectoryVersion) {
    return Error{
        ErrorCode::Refused,
        fmt::format("{} was written by a newer hivemetal (directory version {}, this program knows {}); "
                    "upgrade hivemetal or choose another directory with --dir",
                    file.parent_path().string(), version, kDirectoryVersion)};
  }
  return {};
}

// FNV-1a: short, stable across builds, and nothing here needs to resist an attacker.
std::uint64_t hash_of(std::string_view text) {
  std::uint64_t hash = 0xcbf29ce484222325ULL;
  for (const unsigned char c : text) hash = (hash ^ c) * 0x100000001b3ULL;
  return hash;
}

}  // namespace

fs::path default_directory() {
  if (const char* given = std::getenv("HIVEMETAL_DIR"); given != nullptr && *given != '\0') return given;
  if (::geteuid() == 0) return "/var/lib/hivemetal";
  if (const char* data = std::getenv("XDG_DATA_HOME"); data != nullptr && *data == '/')
    return fs::path(data) / "hivemetal";
  const char* home = std::getenv("HOME");
  return fs::path(home != nullptr ? home : "/tmp") / ".local/share/hivemetal";
}

Result<NodeDirectory> NodeDirectory::open(fs::path path) {
  path = fs::absolute(path).lexically_normal();
  if (!path.has_filename()) path = path.parent_path();
  if (const auto made = make_folder(path, 0711); !made) return made.error();
  // Before anything else is touched: a newer version's files are not ours to judge.
  if (const auto checked = check_version(path / "version"); !checked) return checked.error();
  if (const auto made = make_folder(path / "attempts", 0711); !made) return made.error();
  return NodeDirectory(std::move(path));
}

fs::path NodeDirectory::control_socket() const { return control_socket_of(path_); }

fs::path control_socket_of(const fs::path& directory) {
  auto path = fs::absolute(directory).lexically_normal();
  if (!path.has_filename()) path = path.parent_path();
  auto socket = path / "node.sock";
  if (socket.native().size() <= kSocketPathMax) return socket;
  const char* runtime = std::getenv("XDG_RUNTIME_DIR");
  const fs::path base = ::geteuid() == 0 ? "/run" : runtime != nullptr ? runtime : "/tmp";
  return base / fmt::format("hivemetal-{:016x}.sock", hash_of(path.native()));
}

Result<DirectoryLock> DirectoryLock::take(const NodeDirectory& directory) {
  const auto file = directory.path() / "lock";
  const int fd = ::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0) return system_error("cannot open " + file.string(), errno);
  if (::flock(fd, LOCK_EX | LOCK_NB) != 0) {
    char text[32] = {};
    const auto n = ::pread(fd, text, sizeof text - 1, 0);
    ::close(fd);
    int pid = 0;
    if (n > 0) std::from_chars(text, text + n, pid);
    return Error{
        ErrorCode::Refused,
        fmt::format("another hivemetal node (pid {}) uses {}; stop it or choose another directory with --dir",
                    pid, directory.path().string())};
  }
  const auto pid = fmt::format("{}\n", ::getpid());
  if (::ftruncate(fd, 0) != 0 ||
      ::pwrite(fd, pid.data(), pid.size(), 0) != static_cast<ssize_t>(pid.size())) {
    const int number = errno;
    ::close(fd);
    return system_error("cannot write " + file.string(), number);
  }
  return DirectoryLock(fd);
}

DirectoryLock::DirectoryLock(DirectoryLock&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}

DirectoryLock::~DirectoryLock() {
  if (fd_ >= 0) ::close(fd_);
}

}  // namespace hivemetal::node
