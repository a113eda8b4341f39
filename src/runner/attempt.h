// What an attempt is asked to be and what became of it. Plain data, for the guard as well: no Asio here.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"

namespace hivemetal::runner {

// `<run>.<worker>.<n>`, `[a-z0-9.-]{1,64}`; used in paths.
using AttemptId = std::string;

bool is_valid_attempt_id(std::string_view id);

struct Limits {
  double cpus = 1;  // of one core; a hard quota
  std::uint64_t memory_bytes = 1 << 30;
  std::uint64_t disk_bytes = 1 << 30;  // largest file, until disk quotas are built
  std::uint32_t pids = 256;
  std::uint64_t log_bytes_max = 64 << 20;  // rotated; the oldest go first
};

struct AttemptFile {
  std::string path;  // relative to the work folder, checked: no "..", no leading slash
  Bytes content;
  bool executable = false;
};

struct AttemptSpec {
  AttemptId id;
  std::vector<std::string> argv;  // argv[0] is looked up in PATH of `environment`
  // Nothing is inherited. PATH, LANG, USER, LOGNAME, HOME, TMPDIR, HIVEMETAL_ATTEMPT and the thread counts of
  // the CPU grant (OMP_NUM_THREADS and its like) are set by the runner where this does not name them.
  std::map<std::string, std::string> environment;
  std::vector<AttemptFile> files;
  Limits limits;
  std::chrono::milliseconds grace{10'000};  // between TERM and the kill of the whole cgroup

  // Without a renewal for this long the attempt stops itself, daemon or not (LEASE_EXPIRED); 0: never.
  std::chrono::milliseconds lease{0};

  // Name of a folder, `[a-z0-9.-]{1,64}`, that this node keeps for the next attempt which names it; its path
  // is in HIVEMETAL_CHECKPOINTS. One attempt at a time. Empty: none.
  std::string keep;
};

enum class AttemptState { Starting, Running, Stopping, Ended };

std::string_view name_of(AttemptState state);

// Why and how an attempt ended; reasons are those of the bare-metal specification: EXIT, SIGNAL, OOM,
// STOPPED, LEASE_EXPIRED, LAUNCH_FAILED, EXEC_FAILED, DISK_FULL, LOST_GUARD, LOST_REBOOT, UNKNOWN_EXIT,
// UNKILLABLE.
struct ExitRecord {
  std::string reason;
  std::optional<int> code;    // of a process that exited
  std::optional<int> signal;  // of one that was killed
  std::string detail;         // the failed step and errno of a launch; empty otherwise
  double started_unix = 0;
  double ended_unix = 0;
  std::uint64_t memory_peak_bytes = 0;
  std::uint64_t cpu_usec = 0;
  std::uint64_t oom_kills = 0;
  std::uint64_t log_dropped_bytes = 0;    // over the log's rate, or for want of disk space
  bool killed_at_end = false;             // the program had ended and left processes behind
  std::vector<std::string> degradations;  // confinement or limits that this machine cannot give
};

struct AttemptStatus {
  AttemptId id;
  AttemptState state;
  int pid = 0;                     // of the worker in our pid namespace, 0 before the start
  std::uint32_t uid = 0;           // whom its processes run as: compare with SO_PEERCRED
  std::filesystem::path work;      // the worker's folder
  std::optional<ExitRecord> exit;  // when Ended
};

struct Usage {
  double cpu_seconds = 0;  // since the start
  std::uint64_t memory_bytes = 0;
  std::uint32_t processes = 0;
};

// Raw bytes of stdout and stderr in the order in which they were read, and where to go on.
struct LogChunk {
  struct Frame {
    std::uint64_t offset;  // of this frame in the attempt's log, counted from its first byte ever
    std::uint8_t stream;   // 1 stdout, 2 stderr; 3 a note of ours, such as "4096 bytes dropped"
    double unix_time;
    Bytes bytes;
  };
  std::vector<Frame> frames;
  std::uint64_t next_offset = 0;  // pass it to the next call
  bool ended = false;             // the attempt has ended and nothing follows
};

}  // namespace hivemetal::runner
