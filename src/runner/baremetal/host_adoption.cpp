// The part of Host that meets what an earlier daemon left.
#include <algorithm>
#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/log.h"
#include "runner/baremetal/host.h"
#include "runner/baremetal/sweep.h"

namespace hivemetal::runner {

namespace {

namespace fs = std::filesystem;

constexpr int kAnswerMs = 3'000;

// Connects to the guard of the attempt in `folder`; by way of /proc/self/fd, since a socket's path may be 107
// bytes.
Fd connect_guard(const fs::path& folder) {
  const Fd opened(::open(folder.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  const std::string path = fmt::format("/proc/self/fd/{}/guard.sock", opened.get());
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::copy(path.begin(), path.end(), address.sun_path);
  Fd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!socket || ::connect(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0)
    return Fd();
  return socket;
}

bool is_peer(int socket, pid_t pid) {
  ucred peer{};
  socklen_t size = sizeof peer;
  return ::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 && peer.pid == pid &&
         (peer.uid == 0 || peer.uid == ::geteuid());
}

std::optional<std::string> ask(int socket, const std::string& line) {
  if (::send(socket, line.data(), line.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(line.size()))
    return std::nullopt;
  std::string answer;
  const std::int64_t end = boottime_ns() + std::int64_t{kAnswerMs} * 1'000'000;
  while (answer.find('\n') == std::string::npos && answer.size() < kMessageSizeMax) {
    const auto left = static_cast<int>((end - boottime_ns()) / 1'000'000);
    pollfd fd{socket, POLLIN, 0};
    char buffer[4096];
    if (left <= 0 || ::poll(&fd, 1, left) <= 0) return std::nullopt;
    const ssize_t got = ::recv(socket, buffer, sizeof buffer, 0);
    if (got <= 0) return std::nullopt;
    answer.append(buffer, static_cast<std::size_t>(got));
  }
  return answer.substr(0, answer.find('\n'));
}

}  // namespace

std::optional<GuardState> Host::ask_guard(const AttemptRecord& record, GuardHandle& guard) {
  guard.pidfd = Fd(static_cast<int>(::syscall(SYS_pidfd_open, record.guard.pid, 0)));
  // Looked at after the pidfd was opened: it is this process now and for good.
  if (!guard.pidfd || !is_alive(record.guard)) return std::nullopt;
  guard.socket = connect_guard(folder_of(record.attempt));
  if (!guard.socket || !is_peer(guard.socket.get(), record.guard.pid)) return std::nullopt;
  const auto line = ask(guard.socket.get(), encode(Command{}) + "\n");
  const auto state = line ? decode_guard_state(*line) : Error{ErrorCode::TimedOut, ""};
  if (!state || state->attempt != record.attempt) return std::nullopt;
  return *state;
}

Host::Case Host::examine(AttemptRecord record) {
  Case found{std::move(record), Adoption::Load, {}, {}};
  Found facts;
  facts.state = found.record.state;
  facts.same_boot = found.record.boot_id == boot_id();
  if (facts.state != AttemptRecord::State::Cleaned && facts.same_boot) {
    const auto state = ask_guard(found.record, found.guard);
    using Phase = GuardState::Phase;
    facts.guard_answers = state && (state->phase == Phase::Running || state->phase == Phase::Stopping);
    if (state) found.state = *state;
    // Its record may be on its way to the disk, or have found it full: what it says counts as much.
    if (state && state->phase == Phase::Ended && !found.record.exit) found.record.exit = state->exit;
    if (found.record.exit) found.record.state = facts.state = AttemptRecord::State::Ended;
    facts.populated = (!found.record.cgroup2.empty() && !pids_in_cgroup(found.record.cgroup2).empty()) ||
                      (found.record.uid && !processes_of_uid(*found.record.uid).empty());
  }
  const auto exit = read_file(folder_of(found.record.attempt) / "exit.json");
  facts.exit_recorded = exit && decode_exit_record(*exit);
  found.action = adoption_of(facts);
  return found;
}

std::vector<Host::Case> Host::scan() {
  std::vector<Case> cases;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(attempts_, error)) {
    const std::string name = entry.path().filename().string();
    if (!is_valid_attempt_id(name)) continue;
    const auto text = read_file(entry.path() / "record.json");
    auto record = text ? decode_attempt_record(*text) : Result<AttemptRecord>(text.error());
    if (record && record->attempt == name) {
      cases.push_back(examine(std::move(*record)));
    } else {
      // Without a record nothing was started yet, and if it was: leftovers are killed by cgroup and user.
      log::warn("runner: removing {}: {}", entry.path().string(),
                record ? "its record names another attempt" : record.error().message);
      static_cast<void>(remove_tree(entry.path()));
    }
  }
  return cases;
}

void Host::remove_leftovers(const std::vector<AttemptId>& known) {
  const auto is_known = [&](const std::string& name) {
    return std::find(known.begin(), known.end(), name) != known.end();
  };
  for (const fs::path& folder : node_folders(layout_, options_.cgroup_parent, node_)) {
    std::error_code error;
    const bool holds_attempts = folder.filename() != "hivemetal" && !fs::exists(folder / "jobs");
    if (!holds_attempts) continue;
    for (const auto& entry : fs::directory_iterator(folder, error)) {
      const std::string name = entry.path().filename().string();
      if (!entry.is_directory(error) || is_known(name)) continue;
      log::warn("runner: killing what is left in {}", entry.path().string());
      destroy_cgroups({entry.path()});
    }
  }
  if (!options_.privileged) return;
  for (const UidPool::Entry& entry : uids_.owned()) {
    if (is_known(entry.attempt)) continue;
    log::warn("runner: freeing user {} of {}", entry.uid, entry.attempt);
    if (sweep_uid(entry.uid, options_.shared_folders)) uids_.release(entry.uid);
  }
  uids_.reclaim();
}

void Host::remove_empty_cgroups() {
  if (!options_.privileged) return;
  for (const fs::path& folder : node_folders(layout_, options_.cgroup_parent, node_)) ::rmdir(folder.c_str());
}

}  // namespace hivemetal::runner
