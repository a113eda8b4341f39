#include "runner/baremetal/cgroups.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <fmt/format.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runner/attempt/files.h"
#include "runner/attempt/processes.h"

namespace hivemetal::runner {

namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kPeriodUsec = 100'000;
constexpr const char* kControllers[] = {"cpu", "memory", "pids"};

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find(separator), text.size());
    if (end > 0) parts.push_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return parts;
}

// mountinfo writes blanks, tabs, newlines and backslashes as \ooo.
std::string unescape(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    int value = 0;
    const auto octal = text.substr(i + 1, 3);
    if (text[i] == '\\' && octal.size() == 3 &&
        std::from_chars(octal.data(), octal.data() + 3, value, 8).ptr == octal.data() + 3) {
      out += static_cast<char>(value);
      i += 3;
    } else {
      out += text[i];
    }
  }
  return out;
}

bool contains(const std::vector<std::string_view>& list, std::string_view word) {
  return std::find(list.begin(), list.end(), word) != list.end();
}

fs::path below(const fs::path& mount, const std::string& parent, const std::string& node) {
  return (parent.empty() ? mount : mount / parent) / "hivemetal" / node;
}

std::uint64_t quota_usec(double cpus) {
  return std::max<std::uint64_t>(1000, static_cast<std::uint64_t>(std::llround(cpus * kPeriodUsec)));
}

// All folders from below the mount down to `folder`.
void add_folders(CgroupPlan& plan, const fs::path& mount, const fs::path& folder) {
  fs::path path = mount;
  for (const fs::path& part : folder.lexically_relative(mount)) {
    path /= part;
    if (std::find(plan.folders.begin(), plan.folders.end(), path) == plan.folders.end())
      plan.folders.push_back(path);
  }
}

void enable_down_to(CgroupPlan& plan, const fs::path& mount, const fs::path& folder,
                    const std::string& controller) {
  fs::path path = mount;
  for (const fs::path& part : folder.lexically_relative(mount)) {
    plan.enable.emplace_back(path / "cgroup.subtree_control", "+" + controller);
    path /= part;
  }
}

void write_limits(CgroupPlan& plan, const std::string& controller, const fs::path& folder, bool v2,
                  const Limits& limits) {
  const std::string memory = fmt::format("{}", limits.memory_bytes);
  if (controller == "cpu" && v2) {
    plan.writes.push_back(
        {folder / "cpu.max", fmt::format("{} {}", quota_usec(limits.cpus), kPeriodUsec), "cpu"});
  } else if (controller == "cpu") {
    plan.writes.push_back({folder / "cpu.cfs_period_us", fmt::format("{}", kPeriodUsec), "cpu"});
    plan.writes.push_back({folder / "cpu.cfs_quota_us", fmt::format("{}", quota_usec(limits.cpus)), "cpu"});
  } else if (controller == "memory" && v2) {
    plan.memory2 = folder;
    plan.writes.push_back({folder / "memory.max", memory, "memory", true});
    plan.writes.push_back({folder / "memory.swap.max", "0", ""});
    plan.writes.push_back({folder / "memory.oom.group", "1", ""});
  } else if (controller == "memory") {
    plan.memory1 = folder;
    plan.writes.push_back({folder / "memory.limit_in_bytes", memory, "memory", true});
    plan.writes.push_back({folder / "memory.memsw.limit_in_bytes", memory, "", true});
  } else {
    plan.writes.push_back({folder / "pids.max", fmt::format("{}", limits.pids), "pids"});
  }
}

}  // namespace

bool CgroupLayout::is_v2(const std::string& controller) const {
  return std::find(v2_controllers.begin(), v2_controllers.end(), controller) != v2_controllers.end();
}

std::string_view CgroupLayout::name() const {
  if (!v2) return v1.empty() ? "none" : "pure v1";
  if (v1.empty()) return "pure v2";
  const bool split = std::any_of(std::begin(kControllers), std::end(kControllers),
                                 [this](const char* controller) { return is_v2(controller); });
  return split ? "split" : "hybrid";
}

CgroupLayout parse_mountinfo(std::string_view text) {
  CgroupLayout layout;
  for (const std::string_view line : split(text, '\n')) {
    const std::size_t dash = line.find(" - ");
    if (dash == std::string_view::npos) continue;
    const auto left = split(line.substr(0, dash), ' ');
    const auto right = split(line.substr(dash + 3), ' ');
    if (left.size() < 6 || right.size() < 3 || !contains(split(left[5], ','), "rw")) continue;
    const fs::path mount = unescape(left[4]);
    if (right[0] == "cgroup2" && !layout.v2) layout.v2 = mount;
    if (right[0] != "cgroup") continue;
    for (const std::string_view option : split(right[2], ',')) {
      const bool controller = option != "rw" && option.find('=') == std::string_view::npos;
      if (controller) layout.v1.emplace(option, mount);
    }
  }
  return layout;
}

CgroupPlan plan_cgroups(const CgroupLayout& layout, const std::string& parent, const std::string& node,
                        const AttemptId& attempt, const Limits& limits) {
  CgroupPlan plan;
  if (layout.v2) {
    const fs::path root = below(*layout.v2, parent, node);
    plan.cgroup2 = root / "jobs" / attempt;
    plan.guard = root / "guards" / attempt;
    add_folders(plan, *layout.v2, plan.cgroup2);
    add_folders(plan, *layout.v2, plan.guard);
  }
  for (const std::string controller : kControllers) {
    if (layout.is_v2(controller)) {
      enable_down_to(plan, *layout.v2, plan.cgroup2, controller);
      write_limits(plan, controller, plan.cgroup2, true, limits);
    } else if (const auto mount = layout.v1.find(controller); mount != layout.v1.end()) {
      const fs::path folder = below(mount->second, parent, node) / attempt;
      add_folders(plan, mount->second, folder);
      write_limits(plan, controller, folder, false, limits);
      plan.cgroup1.push_back(folder);
    } else {
      plan.missing.push_back(controller);
    }
  }
  if (const auto mount = layout.v1.find("freezer"); !layout.v2 && mount != layout.v1.end()) {
    plan.freezer = below(mount->second, parent, node) / attempt;
    add_folders(plan, mount->second, plan.freezer);
    plan.cgroup1.push_back(plan.freezer);
  }
  // Controllers of one mount ("cpu,cpuacct") share a folder.
  std::sort(plan.cgroup1.begin(), plan.cgroup1.end());
  plan.cgroup1.erase(std::unique(plan.cgroup1.begin(), plan.cgroup1.end()), plan.cgroup1.end());
  return plan;
}

std::vector<fs::path> node_folders(const CgroupLayout& layout, const std::string& parent,
                                   const std::string& node) {
  std::vector<fs::path> folders;
  if (layout.v2) {
    const fs::path root = below(*layout.v2, parent, node);
    folders.insert(folders.end(), {root / "jobs", root / "guards", root, root.parent_path()});
  }
  for (const auto& [controller, mount] : layout.v1) {
    const fs::path root = below(mount, parent, node);
    if (std::find(folders.begin(), folders.end(), root) != folders.end()) continue;
    folders.insert(folders.end(), {root, root.parent_path()});
  }
  return folders;
}

bool reads_back(const CgroupWrite& write, std::string_view got) {
  while (!got.empty() && got.back() == '\n') got.remove_suffix(1);
  if (got == write.value) return true;
  if (!write.rounded) return false;
  std::uint64_t wanted = 0, is = 0;
  const auto parse = [](std::string_view text, std::uint64_t& value) {
    return std::from_chars(text.data(), text.data() + text.size(), value).ptr == text.data() + text.size();
  };
  const auto page = static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
  return parse(write.value, wanted) && parse(got, is) && is <= wanted && wanted - is < page;
}

CgroupLayout read_cgroup_layout() {
  CgroupLayout layout = parse_mountinfo(read_file("/proc/self/mountinfo", 16 << 20).value_or(""));
  if (!layout.v2) return layout;
  std::string list = read_file(*layout.v2 / "cgroup.controllers").value_or("");
  std::replace(list.begin(), list.end(), '\n', ' ');
  for (const std::string_view controller : split(list, ' ')) layout.v2_controllers.emplace_back(controller);
  return layout;
}

Result<void> make_cgroups(const CgroupPlan& plan) {
  // Another node of this machine may take an empty parent away under us.
  for (int round = 0; round < 3; ++round) {
    const bool last = round == 2;
    const auto failed = std::find_if(plan.folders.begin(), plan.folders.end(), [](const fs::path& folder) {
      return ::mkdir(folder.c_str(), 0755) != 0 && errno != EEXIST;
    });
    if (failed == plan.folders.end()) break;
    if (last || errno != ENOENT) return errno_error("make cgroup", *failed);
  }
  for (const auto& [file, value] : plan.enable) {
    const auto enabled = read_file(file);
    std::string words = enabled.value_or("");
    std::replace(words.begin(), words.end(), '\n', ' ');
    if (contains(split(words, ' '), std::string_view(value).substr(1))) continue;
    // A limit that cannot be written for want of this says so below, with its name.
    static_cast<void>(write_kernel_file(file, value));
  }
  for (const CgroupWrite& write : plan.writes) {
    const auto written = write_kernel_file(write.file, write.value);
    if (write.limit.empty()) continue;
    if (!written) return written.error().within("LIMIT_UNENFORCEABLE " + write.limit);
    const auto got = read_file(write.file);
    if (!got) return got.error().within("LIMIT_UNENFORCEABLE " + write.limit);
    if (!reads_back(write, *got)) {
      return Error{ErrorCode::Refused,
                   fmt::format("LIMIT_UNENFORCEABLE {}: {} says {} after '{}' was written", write.limit,
                               write.file.string(), *got, write.value)};
    }
  }
  return {};
}

bool destroy_cgroups(const std::vector<fs::path>& folders) {
  bool gone = true;
  for (const fs::path& folder : folders) {
    if (folder.empty() || !fs::exists(folder)) continue;
    if (!pids_in_cgroup(folder).empty() && !kill_cgroup(folder)) {
      for (const pid_t pid : pids_in_cgroup(folder)) ::kill(pid, SIGKILL);
    }
    // Dying processes keep a cgroup busy for some milliseconds.
    for (int round = 0; round < 60; ++round) {
      std::error_code error;
      std::vector<fs::path> inner;
      for (const auto& entry : fs::recursive_directory_iterator(folder, error)) {
        if (entry.is_directory(error)) inner.push_back(entry.path());
      }
      std::sort(inner.rbegin(), inner.rend());
      for (const fs::path& path : inner) ::rmdir(path.c_str());
      if (::rmdir(folder.c_str()) == 0 || errno == ENOENT) break;
      ::usleep(static_cast<useconds_t>(1000 << std::min(round, 6)));
    }
    if (fs::exists(folder)) gone = false;
  }
  return gone;
}

}  // namespace hivemetal::runner
