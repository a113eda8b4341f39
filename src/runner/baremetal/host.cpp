#include "runner/baremetal/host.h"

#include <algorithm>
#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/log.h"
#include "runner/attempt/lifecycle.h"
#include "runner/baremetal/environment.h"
#include "runner/baremetal/sweep.h"

namespace hivemetal::runner {

namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kNodeReserve = 256 << 10;

Result<void> make_folder(const fs::path& path, mode_t mode) {
  if (::mkdir(path.c_str(), mode) != 0 && errno != EEXIST) return errno_error("make folder", path);
  if (::chmod(path.c_str(), mode) != 0) return errno_error("chmod", path);
  return {};
}

Result<void> write_file(const fs::path& work, const AttemptFile& file) {
  const fs::path path = work / file.path;
  std::error_code error;
  fs::create_directories(path.parent_path(), error);
  const mode_t mode = file.executable ? 0700 : 0600;
  const Fd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode));
  if (!fd) return errno_error("create", path);
  std::string_view rest = file.content;
  while (!rest.empty()) {
    const ssize_t size = ::write(fd.get(), rest.data(), rest.size());
    if (size < 0 && errno != EINTR) return errno_error("write", path);
    if (size > 0) rest.remove_prefix(static_cast<std::size_t>(size));
  }
  return {};
}

// Blocks, but not for ever: the guard reads at once or is broken.
Result<void> send_whole(int socket, std::string_view bytes) {
  const timeval limit{10, 0};
  ::setsockopt(socket, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
  while (!bytes.empty()) {
    const ssize_t sent = ::send(socket, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0) return errno_error("send the spec to", "hivemetal-guard");
    bytes.remove_prefix(static_cast<std::size_t>(sent));
  }
  return {};
}

}  // namespace

std::string node_tag(const fs::path& directory) {
  std::uint64_t hash = 0xcbf29ce484222325;
  for (const unsigned char byte : directory.string()) hash = (hash ^ byte) * 0x100000001b3;
  return fmt::format("{:012x}", hash >> 16);
}

Host::Host(BareMetalOptions options, CgroupLayout layout, std::string node)
    : options_(std::move(options)),
      layout_(std::move(layout)),
      node_(std::move(node)),
      attempts_(options_.directory / "attempts"),
      kept_(options_.directory / "kept"),
      uids_(options_.machine / "uids", options_.uids, options_.directory.string()),
      confinement_(probe(options_)) {
  for (const Finding& finding : confinement_.findings) degradations_.push_back(finding.what);
}

Result<std::unique_ptr<Host>> Host::open(BareMetalOptions options) {
  std::error_code error;
  fs::create_directories(options.directory, error);
  options.directory = fs::canonical(options.directory, error);
  if (error) {
    return Error{ErrorCode::Refused,
                 fmt::format("node folder {}: {}", options.directory.string(), error.message())};
  }
  if (options.guard.empty())
    options.guard = fs::read_symlink("/proc/self/exe", error).parent_path() / "hivemetal-guard";
  if (::access(options.guard.c_str(), X_OK) != 0) {
    return Error{
        ErrorCode::NotFound,
        fmt::format("no guard at {}: it is built and installed beside hivemetal", options.guard.string())};
  }
  for (const char* name : {"attempts", "kept"}) {
    if (auto made = make_folder(options.directory / name, 0711); !made) return made.error();
  }
  if (options.privileged) {
    fs::create_directories(options.machine, error);
    ::chmod(options.machine.c_str(), 0711);
  }
  const std::string tag = node_tag(options.directory);
  CgroupLayout layout = options.privileged ? read_cgroup_layout() : CgroupLayout{};
  std::unique_ptr<Host> host(new Host(std::move(options), std::move(layout), tag));
  reserve_space(host->attempts_ / ".reserve", kNodeReserve);
  return host;
}

Result<void> Host::save(const AttemptRecord& record, Durability durability) {
  const fs::path path = folder_of(record.attempt) / "record.json";
  auto saved = replace_file(path, encode(record), durability);
  if (saved || ::unlink((attempts_ / ".reserve").c_str()) != 0) return saved;
  log::warn("runner: {}; using the space reserved for records", saved.error().message);
  return replace_file(path, encode(record), durability);
}

// --- before ---

Result<void> Host::make_work(const AttemptSpec& spec, const AttemptRecord& record) {
  const fs::path work = work_of(spec.id);
  if (record.uid) {
    if (const auto closed = closed_ancestor(work.parent_path())) {
      return Error{ErrorCode::Refused,
                   fmt::format("the worker's user cannot pass {}: chmod o+x it, or choose another "
                               "node folder",
                               closed->string())};
    }
  }
  if (auto made = make_folder(work, 0700); !made) return made;
  for (const AttemptFile& file : spec.files) {
    if (auto written = write_file(work, file); !written) return written;
  }
  if (!record.uid) return make_folder(work / ".tmp", 0700);
  return give_tree(work, *record.uid, 0, 0);  // all of it is ours, and nobody else was there yet
}

Result<std::string> Host::make_kept(const std::string& name, const AttemptRecord& record) {
  if (name.empty()) return std::string();
  const fs::path path = kept_ / name;
  if (auto made = make_folder(path, 0700); !made) return made.error();
  if (record.uid) {
    const auto given = give_tree(path, *record.uid, options_.uids.first, options_.uids.last);
    if (!given) return given.error();
  }
  return path.string();
}

Result<GuardSpec> Host::guard_spec(const AttemptSpec& spec, const AttemptRecord& record,
                                   const CgroupPlan& plan) {
  const auto kept = make_kept(spec.keep, record);
  if (!kept) return kept.error();
  const std::string work = work_of(spec.id).string();
  // With a user of its own /tmp is swept; without, only what lies in the work folder is sure to go. A
  // socket's path has to fit into 107 bytes, though.
  const bool short_enough = work.size() < 50;
  GuardSpec guard;
  guard.attempt = spec.id;
  guard.argv = spec.argv;
  guard.environment =
      environment_of(spec, work, record.uid || !short_enough ? "/tmp" : work + "/.tmp", *kept);
  guard.folder = folder_of(spec.id).string();
  guard.work = work;
  guard.uid = record.uid;
  guard.cgroup2 = record.cgroup2;
  guard.cgroup1 = record.cgroup1;
  guard.freezer = plan.freezer.string();
  guard.memory1 = plan.memory1.string();
  guard.memory2 = plan.memory2.string();
  guard.guard_cgroup = record.guard_cgroup;
  guard.file_size_max = spec.limits.disk_bytes;
  guard.processes_max = record.uid ? spec.limits.pids : 0;
  guard.log_bytes_max = spec.limits.log_bytes_max;
  guard.grace_ms = spec.grace.count();
  guard.lease_ms = spec.lease.count();
  guard.degradations = degradations_;
  return guard;
}

Result<GuardHandle> Host::spawn_guard(AttemptRecord& record) {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) return errno_error("socketpair", "");
  GuardHandle handle{Fd(ends[0]), Fd()};
  const Fd theirs(ends[1]);
  const std::string log = (folder_of(record.attempt) / "guard.log").string();

  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  ::posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
  ::posix_spawn_file_actions_addopen(&actions, 2, log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW,
                                     0600);
  ::posix_spawn_file_actions_adddup2(&actions, theirs.get(), 3);
  ::posix_spawn_file_actions_addclosefrom_np(&actions, 4);
  posix_spawnattr_t attributes;
  ::posix_spawnattr_init(&attributes);
  ::posix_spawnattr_setflags(&attributes,
                             POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  sigset_t none, all;
  ::sigemptyset(&none);
  ::sigfillset(&all);
  ::posix_spawnattr_setsigmask(&attributes, &none);
  ::posix_spawnattr_setsigdefault(&attributes, &all);

  // argv carries the id alone: everybody can read command lines.
  char* const argv[] = {const_cast<char*>("hivemetal-guard"), record.attempt.data(), nullptr};
  char* const environment[] = {nullptr};
  pid_t pid = 0;
  const int error = ::posix_spawn(&pid, options_.guard.c_str(), &actions, &attributes, argv, environment);
  ::posix_spawnattr_destroy(&attributes);
  ::posix_spawn_file_actions_destroy(&actions);
  if (error != 0)
    return Error{ErrorCode::Refused, fmt::format("start {}: {}", options_.guard.string(), errno_name(error))};
  handle.pidfd = Fd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  const auto stat = stat_of(pid);
  record.guard = {pid, stat ? stat->id.start_time : 0};
  return handle;
}

Result<void> Host::prepare_into(const AttemptSpec& spec, AttemptRecord& record, Prepared& prepared) {
  if (options_.privileged) {
    const auto uid = uids_.allocate(spec.id);
    if (!uid) return uid.error();
    record.uid = *uid;
  }
  CgroupPlan plan;
  if (options_.privileged) plan = plan_cgroups(layout_, options_.cgroup_parent, node_, spec.id, spec.limits);
  record.cgroup2 = plan.cgroup2.string();
  record.guard_cgroup = plan.guard.string();
  for (const fs::path& path : plan.cgroup1) record.cgroup1.push_back(path.string());
  if (!plan.memory1.empty()) record.memory_usage = (plan.memory1 / "memory.usage_in_bytes").string();
  if (!plan.memory2.empty()) record.memory_usage = (plan.memory2 / "memory.current").string();
  record.keep = spec.keep;
  // Users and cgroups do not outlive the machine, so this record need not either.
  if (auto saved = save(record, Durability::Cached); !saved) return saved;

  if (auto made = make_work(spec, record); !made) return made;
  if (auto made = make_folder(folder_of(spec.id) / "log", 0700); !made) return made;
  if (auto made = make_cgroups(plan); !made) return made;
  const auto guard = guard_spec(spec, record, plan);
  if (!guard) return guard.error();
  const auto line = encode(*guard);
  if (!line) return line.error();

  auto handle = spawn_guard(record);
  if (!handle) return handle.error();
  prepared.guard = std::move(*handle);
  // The guard gets ready while the record goes to the disk, and then waits for the word to go.
  if (auto sent = send_whole(prepared.guard.socket.get(), *line + "\n"); !sent) return sent;
  record.state = AttemptRecord::State::Launching;
  return save(record);
}

Result<Host::Prepared> Host::prepare(const AttemptSpec& spec) {
  if (::mkdir(folder_of(spec.id).c_str(), 0711) != 0) return errno_error("make folder", folder_of(spec.id));
  ::chmod(folder_of(spec.id).c_str(), 0711);
  Prepared prepared;
  AttemptRecord& record = prepared.record;
  record.attempt = spec.id;
  record.boot_id = boot_id();
  const auto done = prepare_into(spec, record, prepared);
  if (done) return prepared;
  // The guard, if there is one, ends on its own when its socket closes before the word to go.
  ExitRecord exit;
  exit.reason = "LAUNCH_FAILED";
  exit.detail = done.error().message;
  exit.started_unix = exit.ended_unix = unix_time_now();
  conclude(std::move(record), std::move(exit));
  return done.error();
}

// --- after ---

bool Host::clean(const AttemptRecord& record, bool guard_left_record) {
  std::vector<fs::path> cgroups{record.cgroup2, record.guard_cgroup};
  cgroups.insert(cgroups.end(), record.cgroup1.begin(), record.cgroup1.end());
  bool gone = destroy_cgroups(cgroups);
  if (!record.uid && !guard_left_record) gone = sweep_by_environment(record.attempt) && gone;
  // A user whose program never ran has left nothing.
  const std::string& reason = record.exit->reason;
  const bool never_ran =
      record.guard.pid == 0 || (guard_left_record && (reason == "LAUNCH_FAILED" || reason == "EXEC_FAILED"));
  if (record.uid && never_ran) {
    uids_.release(*record.uid);
  } else if (record.uid) {
    gone = sweep_uid(*record.uid, options_.shared_folders) && gone;
    // What stays is for the node alone: the user may be somebody else's next time.
    static_cast<void>(::lchown(work_of(record.attempt).c_str(), 0, 0));
    if (!record.keep.empty()) static_cast<void>(::lchown((kept_ / record.keep).c_str(), 0, 0));
    if (gone) uids_.release(*record.uid);
  }
  return gone;
}

AttemptRecord Host::conclude(AttemptRecord record, ExitRecord fallback) {
  bool guard_left_record = false;
  if (is_alive(record.guard)) ::kill(record.guard.pid, SIGKILL);
  if (!record.exit) {
    const auto text = read_file(folder_of(record.attempt) / "exit.json");
    const auto exit = text ? decode_exit_record(*text) : Result<ExitRecord>(text.error());
    guard_left_record = static_cast<bool>(exit);
    record.exit = exit ? *exit : std::move(fallback);
    record.state = AttemptRecord::State::Ended;
    if (!guard_left_record) {
      const auto saved = save(record);
      if (!saved) log::error("runner: {}", saved.error().message);
    }
  }
  const bool gone = clean(record, guard_left_record);
  if (gone) record.state = AttemptRecord::State::Cleaned;
  if (!gone)
    log::error("runner: {} has processes that cannot be killed; its user and cgroups stay", record.attempt);
  ::unlink((folder_of(record.attempt) / "guard.sock").c_str());
  ::unlink((folder_of(record.attempt) / "reserve").c_str());
  if (const auto saved = save(record); !saved) log::error("runner: {}", saved.error().message);
  return record;
}

Result<void> Host::remove(const AttemptId& id) {
  auto removed = remove_tree(folder_of(id));
  reserve_space(attempts_ / ".reserve", kNodeReserve);  // there may be room again
  return removed;
}

Result<void> Host::remove_kept(const std::string& name) {
  if (!is_valid_attempt_id(name))
    return Error{ErrorCode::Invalid, fmt::format("'{}' is no name for a kept folder", name)};
  if (!fs::exists(kept_ / name)) return {};
  return remove_tree(kept_ / name);
}

}  // namespace hivemetal::runner
