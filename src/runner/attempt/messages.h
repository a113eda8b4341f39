// What daemon and guard say to each other, one JSON object per line, and the records they leave on disk.
// docs/formats/exit-record.md.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "runner/attempt.h"
#include "runner/attempt/processes.h"

namespace hivemetal::runner {

inline constexpr std::size_t kMessageSizeMax = 1 << 20;

// Everything the guard needs to know, first line on fd 3. Paths are absolute; empty: not on this machine.
struct GuardSpec {
  std::string attempt;
  std::vector<std::string> argv;
  std::map<std::string, std::string> environment;
  std::string folder;                // attempts/<attempt>
  std::string work;                  // where the program starts
  std::optional<std::uint32_t> uid;  // and gid
  std::string cgroup2;               // its processes; cgroup.kill
  std::vector<std::string> cgroup1;  // further places for its processes, before any code of theirs runs
  std::string freezer;               // one of cgroup1, for the kill where there is no cgroup2
  std::string memory1;               // one of cgroup1, to hear of memory.oom_control
  std::string memory2;               // the cgroup2 that has memory.events
  std::string guard_cgroup;  // for the guard itself, so that stopping the daemon's service leaves it alone
  std::uint64_t file_size_max = 0;
  std::uint64_t processes_max = 0;  // RLIMIT_NPROC; 0 without a uid of its own
  std::uint64_t log_bytes_max = 0;
  std::int64_t grace_ms = 0;
  std::int64_t lease_ms = 0;
  std::vector<std::string> degradations;

  friend bool operator==(const GuardSpec&, const GuardSpec&) = default;
};

// The only thing a guard ever says: where it is. At every change, and in answer to hello.
struct GuardState {
  enum class Phase { Waiting, Running, Stopping, Ended };

  std::string attempt;
  Phase phase = Phase::Waiting;
  ProcessId worker;
  std::optional<ExitRecord> exit;  // when Ended
};

// What a daemon says to a guard.
struct Command {
  enum class Kind { Hello, Go, Stop, Renew };

  Kind kind = Kind::Hello;
  std::string reason;             // Stop
  std::int64_t duration_ms = -1;  // Stop: grace, negative for that of the spec; Renew: lease

  friend bool operator==(const Command&, const Command&) = default;
};

// Each gives one line without its newline. Fails with Invalid on text that is not UTF-8.
Result<std::string> encode(const GuardSpec& spec);
std::string encode(const GuardState& state);
std::string encode(const Command& command);
std::string encode(const ExitRecord& exit);

// Each fails with Invalid and names the field.
Result<GuardSpec> decode_guard_spec(std::string_view text);
Result<GuardState> decode_guard_state(std::string_view text);
Result<Command> decode_command(std::string_view text);
Result<ExitRecord> decode_exit_record(std::string_view text);

// The daemon's write-ahead record: durable before the first effect of its state. record.json.
struct AttemptRecord {
  enum class State { Preparing, Launching, Running, Stopping, Ended, Cleaned };

  std::string attempt;
  State state = State::Preparing;
  std::string boot_id;
  std::optional<std::uint32_t> uid;
  std::string cgroup2;
  std::vector<std::string> cgroup1;
  std::string guard_cgroup;
  std::string memory_usage;  // files to read usage from; empty: not here
  std::string keep;
  ProcessId guard;
  ProcessId worker;
  std::string reason;              // of a stop that was asked for
  std::optional<ExitRecord> exit;  // Ended, Cleaned
};

std::string encode(const AttemptRecord& record);
Result<AttemptRecord> decode_attempt_record(std::string_view text);

}  // namespace hivemetal::runner
