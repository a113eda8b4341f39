// Configuration of the bare-metal runner.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "runner/baremetal/uid_pool.h"

namespace hivemetal::runner {

struct BareMetalOptions {
  std::filesystem::path directory;  // the node's; attempts/ and kept/ are ours. Must be open to others (0711)
  std::filesystem::path guard;      // hivemetal-guard; empty: beside the running program
  std::filesystem::path machine = "/run/hivemetal";  // what all nodes of this machine share
  UidRange uids;
  std::string cgroup_parent;  // below each cgroup mount; "" for the root
  std::vector<std::filesystem::path> shared_folders{"/tmp", "/var/tmp", "/dev/shm",
                                                    "/dev/mqueue"};  // swept by user

  // Root's means: users, cgroups. False as another user, and for a root that wants to see how that is.
  bool privileged = default_privileged();

  static bool default_privileged();
};

}  // namespace hivemetal::runner
