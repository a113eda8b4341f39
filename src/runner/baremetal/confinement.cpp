#include "runner/baremetal/confinement.h"

#include <algorithm>
#include <atomic>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runner/attempt/files.h"
#include "runner/baremetal/cgroups.h"

namespace hivemetal::runner {

namespace {

// Makes a cgroup of its own with this one limit, so that one missing controller does not hide another.
bool limit_works(const CgroupLayout& layout, const BareMetalOptions& options, const std::string& controller) {
  if (!layout.has(controller)) return false;
  CgroupLayout only = layout;
  std::erase_if(only.v1, [&](const auto& place) { return place.first != controller; });
  std::erase_if(only.v2_controllers, [&](const auto& name) { return name != controller; });
  const std::string node = fmt::format("probe-{}", ::getpid());
  const CgroupPlan plan = plan_cgroups(only, options.cgroup_parent, node, controller, Limits{});
  const bool works = static_cast<bool>(make_cgroups(plan));
  for (auto folder = plan.folders.rbegin(); folder != plan.folders.rend(); ++folder) ::rmdir(folder->c_str());
  return works;
}

bool kill_works(const CgroupLayout& layout, const BareMetalOptions& options) {
  if (!layout.v2) return layout.v1.contains("freezer");
  CgroupLayout only{layout.v2, {}, {}};
  const std::string node = fmt::format("probe-{}", ::getpid());
  const CgroupPlan plan = plan_cgroups(only, options.cgroup_parent, node, "kill", Limits{});
  const bool works = make_cgroups(plan) && write_kernel_file(plan.cgroup2 / "cgroup.kill", "1");
  for (auto folder = plan.folders.rbegin(); folder != plan.folders.rend(); ++folder) ::rmdir(folder->c_str());
  return works;
}

// CAP_SYS_RESOURCE is bit 24 of the effective set.
bool may_raise_limits() {
  const auto status = read_file("/proc/self/status").value_or("");
  const std::size_t at = status.find("CapEff:");
  return at != std::string::npos && (std::strtoull(status.c_str() + at + 7, nullptr, 16) >> 24 & 1) != 0;
}

void add_limit_finding(Confinement& found, bool works, const char* what, const char* consequence) {
  if (works) return;
  found.findings.push_back({what, consequence,
                            found.root ? "mount the cgroup controller, or boot with cgroup v2 and enable it"
                                       : "run the node as root"});
}

}  // namespace

bool BareMetalOptions::default_privileged() { return ::geteuid() == 0; }

std::optional<std::filesystem::path> closed_ancestor(const std::filesystem::path& path) {
  std::filesystem::path folder = std::filesystem::absolute(path).lexically_normal();
  std::optional<std::filesystem::path> closed;
  while (true) {
    struct stat status{};
    if (::stat(folder.c_str(), &status) == 0 && (status.st_mode & S_IXOTH) == 0) closed = folder;
    if (folder == folder.parent_path()) return closed;
    folder = folder.parent_path();
  }
}

Confinement probe(const BareMetalOptions& options) {
  Confinement found;
  found.root = options.privileged;
  const CgroupLayout layout = read_cgroup_layout();
  found.cgroups = layout.name();
  if (found.root) {
    found.uid_per_attempt = true;
    found.cgroup_kill = kill_works(layout, options);
    found.cpu_limit = limit_works(layout, options, "cpu");
    found.memory_limit = limit_works(layout, options, "memory");
    found.pids_limit = limit_works(layout, options, "pids");
  } else {
    found.findings.push_back({"no_root", "workers run as your own user and can read and change what you can",
                              "run the node as root, so that every worker gets a user of its own"});
  }
  if (!found.cgroup_kill) {
    found.findings.push_back({"no_cgroup_kill",
                              "a worker's processes are found by parentage when it is stopped",
                              found.root ? "mount cgroup2 (kernel 5.14 or newer)" : "run the node as root"});
  }
  add_limit_finding(found, found.cpu_limit, "no_cpu_limit", "a worker can use more CPU than it was granted");
  add_limit_finding(found, found.memory_limit, "no_memory_limit",
                    "a worker can use more memory than it was granted, until the machine runs out");
  add_limit_finding(found, found.pids_limit, "no_pids_limit", "a worker can start any number of processes");
  if (found.root && !may_raise_limits()) {
    found.findings.push_back(
        {"oom_adj_not_sealed",
         "a worker can lower its oom_score_adj, and guards are not protected from the OOM killer",
         "grant CAP_SYS_RESOURCE"});
  }
  const auto closed = found.root ? closed_ancestor(options.directory) : std::nullopt;
  if (closed) {
    found.findings.push_back({"closed_directory",
                              fmt::format("workers cannot reach their folders below {}", closed->string()),
                              fmt::format("chmod o+x {}, or choose another --dir", closed->string())});
  }
  return found;
}

}  // namespace hivemetal::runner
