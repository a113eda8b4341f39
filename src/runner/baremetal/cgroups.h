// Where the cgroups of an attempt are and what is written into them. Decided per controller from what is
// mounted, never by distribution: pure v2, hybrid (v1 controllers, cgroup2 beside them for the kill), split,
// pure v1.
//
//     v2      <mount>/<parent>/hivemetal/<node>/jobs/<attempt>     its processes, limits of v2 controllers
//             <mount>/<parent>/hivemetal/<node>/guards/<attempt>   its guard
//     v1      <mount>/<parent>/hivemetal/<node>/<attempt>          per controller that carries a limit
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "runner/attempt.h"

namespace hivemetal::runner {

// The writable cgroup file systems of this machine.
struct CgroupLayout {
  std::optional<std::filesystem::path> v2;          // mount point of cgroup2
  std::vector<std::string> v2_controllers;          // what its root offers
  std::map<std::string, std::filesystem::path> v1;  // controller → mount point

  bool is_v2(const std::string& controller) const;
  bool has(const std::string& controller) const { return is_v2(controller) || v1.contains(controller); }

  // "pure v2", "hybrid", "split", "pure v1" or "none", for people.
  std::string_view name() const;
};

// Reads the text of /proc/self/mountinfo. A read-only mount is none for us. v2_controllers stays empty: they
// are in the file cgroup.controllers below `v2`.
CgroupLayout parse_mountinfo(std::string_view text);

struct CgroupWrite {
  std::filesystem::path file;
  std::string value;
  std::string limit;     // which limit this is, for messages; empty: a nicety that may fail
  bool rounded = false;  // the kernel may round down by less than a page
};

struct CgroupPlan {
  std::vector<std::filesystem::path> folders;  // to be made, parents first
  std::vector<std::pair<std::filesystem::path, std::string>>
      enable;                       // subtree_control ← "+cpu", after the folders
  std::vector<CgroupWrite> writes;  // in this order
  std::filesystem::path cgroup2;    // of the attempt; empty: none
  std::vector<std::filesystem::path> cgroup1;
  std::filesystem::path freezer, memory1, memory2, guard;
  std::vector<std::string> missing;  // limits that this machine cannot enforce: cpu, memory, pids
};

// `node` keeps the nodes of one machine apart; `parent` is where the owner wants our folder ("" for the
// root).
CgroupPlan plan_cgroups(const CgroupLayout& layout, const std::string& parent, const std::string& node,
                        const AttemptId& attempt, const Limits& limits);

// The folders that all attempts of a node share, innermost first: what to scan for leftovers and remove in
// the end.
std::vector<std::filesystem::path> node_folders(const CgroupLayout& layout, const std::string& parent,
                                                const std::string& node);

// True if the kernel's `got` is what `write` asked for.
bool reads_back(const CgroupWrite& write, std::string_view got);

// --- with the machine ---

CgroupLayout read_cgroup_layout();

// Makes, writes, reads back. Fails with Refused, naming the limit and the file, if one cannot be enforced.
Result<void> make_cgroups(const CgroupPlan& plan);

// Kills what is in these cgroups and removes them with all below; true if nothing is left.
bool destroy_cgroups(const std::vector<std::filesystem::path>& folders);

}  // namespace hivemetal::runner
