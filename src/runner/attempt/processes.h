// Who runs on this machine, by /proc, and how to end all of an attempt.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string_view>
#include <sys/types.h>
#include <vector>

#include "base/result.h"

namespace hivemetal::runner {

// A process for good: a pid alone is used again, a pid with its start time is not, within one boot.
struct ProcessId {
  pid_t pid = 0;
  std::uint64_t start_time = 0;  // field 22 of /proc/PID/stat, in clock ticks since boot

  friend bool operator==(const ProcessId&, const ProcessId&) = default;
};

struct ProcessStat {
  ProcessId id;
  pid_t parent = 0;
  char state = '?';             // 'Z' a zombie, 'D' in the kernel and not to be interrupted
  std::uint64_t cpu_ticks = 0;  // user and system, with the children it has waited for
  std::uint64_t rss_pages = 0;
};

// Reads a line of /proc/PID/stat. The name in it may hold anything, blanks and parentheses too.
std::optional<ProcessStat> parse_stat(std::string_view line);

std::optional<ProcessStat> stat_of(pid_t pid);

// True if exactly this process still runs (a zombie does not).
bool is_alive(const ProcessId& id);

std::vector<ProcessStat> all_processes();

// Real, effective, saved or file-system user: any of them counts.
bool has_uid(pid_t pid, uid_t uid);

// No zombies.
std::vector<ProcessStat> processes_of_uid(uid_t uid);

// True if some process, were it a zombie, has this as its real user. Takes microseconds: the kernel keeps
// count.
bool is_uid_in_use(uid_t uid);

// Children, their children and so on. `all` may be in any order.
std::vector<ProcessStat> descendants_of(pid_t root, const std::vector<ProcessStat>& all);

// Kills everything that `list` names until it names nothing: stops first, so that nothing multiplies
// meanwhile. True if `list` was empty in the end.
bool kill_until_empty(const std::function<std::vector<ProcessStat>()>& list, int rounds_max = 50);

// Kills all of a cgroup: cgroup.kill where there is one (v2), else the freezer and SIGKILL in rounds.
// False if this directory can do neither.
bool kill_cgroup(const std::filesystem::path& cgroup);

// The pids in a cgroup and in those below it.
std::vector<pid_t> pids_in_cgroup(const std::filesystem::path& cgroup);

}  // namespace hivemetal::runner
