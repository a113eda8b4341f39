// What this machine lets us promise about an attempt, found out by trying.
#pragma once

#include <string>
#include <vector>

#include "runner/baremetal/options.h"

namespace hivemetal::runner {

// Something that is weaker here than it could be; one sentence each.
struct Finding {
  std::string what;  // short and stable, for records: "no_root"
  std::string consequence;
  std::string remedy;
};

struct Confinement {
  bool root = false;
  bool uid_per_attempt = false;
  bool cgroup_kill = false;  // all processes of an attempt die in one write
  bool cpu_limit = false;
  bool memory_limit = false;
  bool pids_limit = false;
  std::string cgroups;  // "pure v2", "hybrid", "split", "pure v1", "none"
  std::vector<Finding> findings;
};

// Makes and removes a cgroup with limits and reads them back; takes some milliseconds.
Confinement probe(const BareMetalOptions& options);

// The first folder above `path` that users other than its owner cannot pass, if there is one.
std::optional<std::filesystem::path> closed_ancestor(const std::filesystem::path& path);

}  // namespace hivemetal::runner
