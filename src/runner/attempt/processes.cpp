#include "runner/attempt/processes.h"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <dirent.h>
#include <set>
#include <signal.h>
#include <string>
#include <sys/resource.h>
#include <unistd.h>

#include "runner/attempt/files.h"

namespace hivemetal::runner {

namespace {

std::filesystem::path proc(pid_t pid, const char* file) {
  return "/proc/" + std::to_string(pid) + "/" + file;
}

// The `index`-th word of `text`, counted from 0; empty if there are fewer.
std::string_view word(std::string_view text, int index) {
  std::size_t begin = 0;
  while (true) {
    begin = text.find_first_not_of(" \t\n", begin);
    if (begin == std::string_view::npos) return {};
    const std::size_t end = std::min(text.find_first_of(" \t\n", begin), text.size());
    if (index-- == 0) return text.substr(begin, end - begin);
    begin = end;
  }
}

template <class Number>
std::optional<Number> number(std::string_view text) {
  Number value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || text.empty()) return std::nullopt;
  return value;
}

std::vector<pid_t> all_pids() {
  std::vector<pid_t> pids;
  DIR* folder = ::opendir("/proc");
  if (folder == nullptr) return pids;
  while (const dirent* entry = ::readdir(folder)) {
    if (const auto pid = number<pid_t>(std::string_view(entry->d_name))) pids.push_back(*pid);
  }
  ::closedir(folder);
  return pids;
}

// Real, effective, saved, of the file system.
std::vector<uid_t> uids_of(pid_t pid) {
  std::vector<uid_t> uids;
  const auto status = read_file(proc(pid, "status"));
  const std::size_t line = status ? status->find("\nUid:") : std::string::npos;
  if (line == std::string::npos) return uids;
  const std::string_view ids = std::string_view(*status).substr(line + 5);
  for (int i = 0; i < 4; ++i) {
    if (const auto uid = number<uid_t>(word(ids, i))) uids.push_back(*uid);
  }
  return uids;
}

}  // namespace

std::optional<ProcessStat> parse_stat(std::string_view line) {
  const std::size_t close = line.rfind(')');
  const std::size_t open = line.find(" (");
  if (close == std::string_view::npos || open == std::string_view::npos || open > close) return std::nullopt;
  const std::string_view rest = line.substr(close + 1);
  const auto pid = number<pid_t>(line.substr(0, open));
  const auto parent = number<pid_t>(word(rest, 1));
  const auto start_time = number<std::uint64_t>(word(rest, 19));
  if (!pid || !parent || !start_time || word(rest, 0).size() != 1) return std::nullopt;
  ProcessStat stat{{*pid, *start_time}, *parent, word(rest, 0)[0]};
  for (int field = 11; field <= 14; ++field)
    stat.cpu_ticks += number<std::uint64_t>(word(rest, field)).value_or(0);
  stat.rss_pages = number<std::uint64_t>(word(rest, 21)).value_or(0);
  return stat;
}

std::optional<ProcessStat> stat_of(pid_t pid) {
  const auto line = read_file(proc(pid, "stat"));
  return line ? parse_stat(*line) : std::nullopt;
}

bool is_alive(const ProcessId& id) {
  if (id.pid <= 0) return false;
  const auto found = stat_of(id.pid);
  return found && found->id == id && found->state != 'Z' && found->state != 'X';
}

std::vector<ProcessStat> all_processes() {
  std::vector<ProcessStat> found;
  for (const pid_t pid : all_pids()) {
    if (auto stat = stat_of(pid)) found.push_back(*stat);
  }
  return found;
}

bool has_uid(pid_t pid, uid_t uid) {
  const auto uids = uids_of(pid);
  return std::find(uids.begin(), uids.end(), uid) != uids.end();
}

std::vector<ProcessStat> processes_of_uid(uid_t uid) {
  std::vector<ProcessStat> found;
  if (!is_uid_in_use(uid)) return found;
  for (const pid_t pid : all_pids()) {
    if (!has_uid(pid, uid)) continue;
    const auto stat = stat_of(pid);
    if (stat && stat->state != 'Z') found.push_back(*stat);
  }
  return found;
}

bool is_uid_in_use(uid_t uid) {
  errno = 0;
  ::getpriority(PRIO_USER, uid);
  return errno != ESRCH;
}

std::vector<ProcessStat> descendants_of(pid_t root, const std::vector<ProcessStat>& all) {
  std::vector<ProcessStat> found;
  std::set<pid_t> family{root};
  for (bool grown = true; grown;) {
    grown = false;
    for (const ProcessStat& process : all) {
      if (!family.contains(process.parent) || family.contains(process.id.pid)) continue;
      family.insert(process.id.pid);
      found.push_back(process);
      grown = true;
    }
  }
  return found;
}

bool kill_until_empty(const std::function<std::vector<ProcessStat>()>& list, int rounds_max) {
  for (int round = 0; round < rounds_max; ++round) {
    const auto found = list();
    if (found.empty()) return true;
    for (const ProcessStat& process : found) ::kill(process.id.pid, SIGSTOP);
    for (const ProcessStat& process : found) ::kill(process.id.pid, SIGKILL);
    ::usleep(static_cast<useconds_t>(std::min(1000 << std::min(round, 6), 50'000)));
  }
  return list().empty();
}

std::vector<pid_t> pids_in_cgroup(const std::filesystem::path& cgroup) {
  std::vector<pid_t> pids;
  std::error_code error;
  std::vector<std::filesystem::path> folders{cgroup};
  for (const auto& entry : std::filesystem::recursive_directory_iterator(cgroup, error)) {
    if (entry.is_directory(error)) folders.push_back(entry.path());
  }
  for (const auto& folder : folders) {
    const auto list = read_file(folder / "cgroup.procs", 4 << 20);
    if (!list) continue;
    for (int i = 0;; ++i) {
      const auto pid = number<pid_t>(word(*list, i));
      if (!pid) break;
      if (*pid > 0) pids.push_back(*pid);
    }
  }
  return pids;
}

bool kill_cgroup(const std::filesystem::path& cgroup) {
  if (write_kernel_file(cgroup / "cgroup.kill", "1")) return true;
  if (!std::filesystem::exists(cgroup / "freezer.state")) return false;
  for (int round = 0; round < 20; ++round) {
    static_cast<void>(write_kernel_file(cgroup / "freezer.state", "FROZEN"));
    const auto pids = pids_in_cgroup(cgroup);
    for (const pid_t pid : pids) ::kill(pid, SIGKILL);
    static_cast<void>(write_kernel_file(cgroup / "freezer.state", "THAWED"));
    if (pids.empty()) break;
    ::usleep(static_cast<useconds_t>(1000 << std::min(round, 6)));
  }
  return true;
}

}  // namespace hivemetal::runner
