// The node's directory: everything that outlives the daemon.
//
//     identity.key  config.yaml  membership…  version  lock  node.sock  state.db  log  attempts/…
//
// The directory itself can be traversed by everybody (0711), because workers run under uids of their own
// below attempts/; each file in it is 0600.
#pragma once

#include <filesystem>
#include <memory>

#include "base/result.h"

namespace hivemetal::node {

// Raised when an older daemon could no longer use a directory written by this one.
inline constexpr int kDirectoryVersion = 1;

// $HIVEMETAL_DIR, else /var/lib/hivemetal for root, else $XDG_DATA_HOME/hivemetal or
// ~/.local/share/hivemetal.
std::filesystem::path default_directory();

class NodeDirectory {
 public:
  // Makes the directory if there is none, and brings an older one to this version. Fails with
  //   Refused      no permission, or the directory was written by a newer version
  //   Unavailable  the disk is full
  static Result<NodeDirectory> open(std::filesystem::path path);

  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path config_file() const { return path_ / "config.yaml"; }
  std::filesystem::path identity_file() const { return path_ / "identity.key"; }
  std::filesystem::path state_file() const { return path_ / "state.db"; }
  std::filesystem::path attempts() const { return path_ / "attempts"; }

  // The control socket. `sockaddr_un` holds 107 bytes; for a longer path it is a socket under /run or /tmp
  // whose name is derived from the path, so that daemon and CLI agree without asking.
  std::filesystem::path control_socket() const;

 private:
  explicit NodeDirectory(std::filesystem::path path) : path_(std::move(path)) {}

  std::filesystem::path path_;
};

// The socket of the node in `directory`, which need not exist.
std::filesystem::path control_socket_of(const std::filesystem::path& directory);

// Held by the one daemon that uses a directory; the kernel frees it when the process ends, however it ends.
class DirectoryLock {
 public:
  // Refused, naming the other process, if another daemon holds it.
  static Result<DirectoryLock> take(const NodeDirectory& directory);

  DirectoryLock(DirectoryLock&& other) noexcept;
  DirectoryLock& operator=(DirectoryLock&&) = delete;
  ~DirectoryLock();

 private:
  explicit DirectoryLock(int fd) : fd_(fd) {}

  int fd_;
};

}  // namespace hivemetal::node
