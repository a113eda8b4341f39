// What an attempt leaves on the machine besides its own folder, found by its user and removed.
#pragma once

#include <filesystem>
#include <string_view>
#include <sys/types.h>
#include <vector>

#include "base/result.h"

namespace hivemetal::runner {

// Ids in a table of /proc/sysvipc (shm, sem, msg: the id is the second column everywhere) that `uid` owns or
// made.
std::vector<int> ipc_of_uid(std::string_view table, uid_t uid);

// Kills the user's processes, removes its entries in `folders` (/tmp and its like) and its System V objects.
// True if none of its processes is left: only then may the user be used again.
bool sweep_uid(uid_t uid, const std::vector<std::filesystem::path>& folders);

// Kills the processes of this user whose environment says HIVEMETAL_ATTEMPT=`attempt`: all there is to go by
// without root, once the guard is gone.
bool sweep_by_environment(const std::string& attempt);

// Deletes `path` with all below, whatever the names and depth; never follows a link.
Result<void> remove_tree(const std::filesystem::path& path);

// Gives `path` and all below to `uid`. Below it, only what belongs to a user from `first` to `last` and has
// no second name: an earlier attempt may have left links to files of the owner's.
Result<void> give_tree(const std::filesystem::path& path, uid_t uid, uid_t first, uid_t last);

}  // namespace hivemetal::runner
