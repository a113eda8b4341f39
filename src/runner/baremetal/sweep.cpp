#include "runner/baremetal/sweep.h"

#include <dirent.h>
#include <fcntl.h>
#include <functional>
#include <sstream>
#include <string>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>

#include "runner/attempt/files.h"
#include "runner/attempt/processes.h"

namespace hivemetal::runner {

namespace {

std::vector<std::string> names_in(int folder) {
  std::vector<std::string> names;
  const int copy = ::openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  DIR* stream = copy >= 0 ? ::fdopendir(copy) : nullptr;
  if (stream == nullptr) return names;
  while (const dirent* entry = ::readdir(stream)) {
    const std::string_view name = entry->d_name;
    if (name != "." && name != "..") names.emplace_back(name);
  }
  ::closedir(stream);
  return names;
}

Fd open_folder(int parent, const std::string& name) {
  return Fd(::openat(parent, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
}

// Calls `visit` for each entry below, before what lies under it or after. Keeps one descriptor open per
// level, so a depth beyond what a process may open ends it: false then.
using Visit = std::function<bool(int parent, const std::string& name, bool folder)>;

constexpr int kDepthMax = 128;

bool walk(int parent, const std::string& name, int depth, bool children_first, const Visit& visit) {
  struct stat status{};
  if (::fstatat(parent, name.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0) return errno == ENOENT;
  const bool folder = S_ISDIR(status.st_mode);
  if (!children_first && !visit(parent, name, folder)) return false;
  if (folder) {
    const Fd opened = depth < kDepthMax ? open_folder(parent, name) : Fd();
    if (!opened) return false;
    for (const std::string& child : names_in(opened.get())) {
      if (!walk(opened.get(), child, depth + 1, children_first, visit)) return false;
    }
  }
  return !children_first || visit(parent, name, folder);
}

bool remove_entry(int parent, const std::string& name, bool folder) {
  return ::unlinkat(parent, name.c_str(), folder ? AT_REMOVEDIR : 0) == 0 || errno == ENOENT;
}

// Brings folders that are nested too deep for one walk up to the top, one level at a time.
bool flatten(int top, const std::string& name) {
  std::string current = name;
  for (int i = 0; i < 100'000; ++i) {
    const Fd folder = open_folder(top, current);
    if (!folder) return errno == ENOENT;
    std::string deeper;
    for (const std::string& child : names_in(folder.get())) {
      if (::unlinkat(folder.get(), child.c_str(), 0) == 0 || errno == ENOENT) continue;
      if (::unlinkat(folder.get(), child.c_str(), AT_REMOVEDIR) == 0) continue;
      const std::string lifted = ".hivemetal-removed-" + std::to_string(i);
      if (!deeper.empty()) {
        if (!walk(folder.get(), child, 0, true, remove_entry) && !flatten(folder.get(), child)) return false;
      } else if (::renameat(folder.get(), child.c_str(), top, lifted.c_str()) == 0) {
        deeper = lifted;
      } else {
        return false;
      }
    }
    if (::unlinkat(top, current.c_str(), AT_REMOVEDIR) != 0) return false;
    if (deeper.empty()) return true;
    current = deeper;
  }
  return false;
}

bool remove_at(int parent, const std::string& name) {
  return walk(parent, name, 0, true, remove_entry) || flatten(parent, name);
}

void sweep_folder(const std::filesystem::path& path, uid_t uid) {
  const Fd folder(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!folder) return;
  for (const std::string& name : names_in(folder.get())) {
    struct stat status{};
    if (::fstatat(folder.get(), name.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0 || status.st_uid != uid)
      continue;
    remove_at(folder.get(), name);
  }
}

void sweep_ipc(uid_t uid) {
  const auto table = [](const char* name) {
    return read_file(std::string("/proc/sysvipc/") + name).value_or("");
  };
  for (const int id : ipc_of_uid(table("shm"), uid)) ::shmctl(id, IPC_RMID, nullptr);
  for (const int id : ipc_of_uid(table("sem"), uid)) ::semctl(id, 0, IPC_RMID);
  for (const int id : ipc_of_uid(table("msg"), uid)) ::msgctl(id, IPC_RMID, nullptr);
}

}  // namespace

// The columns are named in the first line; "uid" and "cuid" stand elsewhere in each table.
std::vector<int> ipc_of_uid(std::string_view table, uid_t uid) {
  std::vector<int> ids;
  std::istringstream lines{std::string(table)};
  std::string line, word;
  if (!std::getline(lines, line)) return ids;
  std::vector<std::string> header;
  for (std::istringstream words(line); words >> word;) header.push_back(word);
  while (std::getline(lines, line)) {
    std::istringstream words(line);
    bool ours = false;
    int id = -1;
    for (std::size_t i = 0; i < header.size() && words >> word; ++i) {
      if (i == 1) id = std::atoi(word.c_str());
      if ((header[i] == "uid" || header[i] == "cuid") && word == std::to_string(uid)) ours = true;
    }
    if (ours && id >= 0) ids.push_back(id);
  }
  return ids;
}

bool sweep_uid(uid_t uid, const std::vector<std::filesystem::path>& folders) {
  const bool dead = kill_until_empty([uid] { return processes_of_uid(uid); });
  for (const auto& folder : folders) sweep_folder(folder, uid);
  sweep_ipc(uid);
  return dead;
}

bool sweep_by_environment(const std::string& attempt) {
  const std::string mark = std::string(1, '\0') + "HIVEMETAL_ATTEMPT=" + attempt + '\0';
  return kill_until_empty([&mark] {
    std::vector<ProcessStat> found;
    for (const ProcessStat& process : all_processes()) {
      if (process.state == 'Z' || process.id.pid == ::getpid()) continue;
      const auto environment = read_file("/proc/" + std::to_string(process.id.pid) + "/environ", 8 << 20);
      if (environment && (std::string(1, '\0') + *environment).find(mark) != std::string::npos) {
        found.push_back(process);
      }
    }
    return found;
  });
}

Result<void> remove_tree(const std::filesystem::path& path) {
  const Fd parent(::open(path.parent_path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!parent) return errno_error("open", path.parent_path());
  if (!remove_at(parent.get(), path.filename())) return errno_error("remove", path);
  return {};
}

Result<void> give_tree(const std::filesystem::path& path, uid_t uid, uid_t first, uid_t last) {
  const Fd parent(::open(path.parent_path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!parent) return errno_error("open", path.parent_path());
  bool top = true;
  const auto give = [&](int folder, const std::string& name, bool is_folder) {
    struct stat status{};
    if (::fstatat(folder, name.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0) return errno == ENOENT;
    const bool ours = status.st_uid >= first && status.st_uid <= last && (is_folder || status.st_nlink == 1);
    if (!std::exchange(top, false) && !ours) return true;
    return ::fchownat(folder, name.c_str(), uid, uid, AT_SYMLINK_NOFOLLOW) == 0 || errno == ENOENT;
  };
  if (!walk(parent.get(), path.filename(), 0, false, give)) return errno_error("give", path);
  return {};
}

}  // namespace hivemetal::runner
