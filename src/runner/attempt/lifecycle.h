// When an attempt is told to end, when it is killed, when it is over, and what the reason was. No I/O: the
// guard reports what happens and does what next() says.
//
//     Running --stop, lease--> Terminate --grace--> Kill, again and again --> Finish once nothing is left
//        |                                            ^
//        +--program ended, processes left: 1 s -------+--- memory limit hit: at once
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>

#include "runner/attempt.h"

namespace hivemetal::runner {

class Lifecycle {
 public:
  // Times are nanoseconds of CLOCK_BOOTTIME, durations are milliseconds; a lease of 0 never ends.
  Lifecycle(std::int64_t grace_ms, std::int64_t lease_ms, std::int64_t now);

  void renew(std::int64_t lease_ms, std::int64_t now);

  // Only the first reason counts; a later call can shorten the grace. A negative grace is that of the
  // constructor.
  void stop(std::string reason, std::int64_t grace_ms, std::int64_t now);

  // The memory limit was hit.
  void out_of_memory(std::int64_t now);

  // What waitpid() said about the program itself.
  void program_ended(int wait_status, std::int64_t now);

  // No process is left.
  void all_gone() { gone_ = true; }

  enum class Action { None, Terminate, Kill, Finish };

  // What to do now. Call it again after doing it, until it says None.
  Action next(std::int64_t now);

  // When next() has something new to say if nothing happens before.
  std::int64_t wake_at() const;

  bool stopping() const { return !stop_reason_.empty() || oom_; }

  // Reason, code, signal, detail and killed_at_end of the exit record. `oom_kills` is what the kernel
  // counted.
  ExitRecord conclude(std::uint64_t oom_kills) const;

 private:
  static constexpr std::int64_t kNever = std::numeric_limits<std::int64_t>::max();

  std::int64_t grace_ms_;
  std::int64_t lease_end_ = kNever;
  std::int64_t kill_at_ = kNever;
  std::int64_t give_up_at_ = kNever;
  std::int64_t kill_again_ms_ = 20;
  bool terminate_ = false;
  bool oom_ = false;
  bool gone_ = false;
  bool killed_ = false;
  bool unkillable_ = false;
  bool ended_first_ = false;  // before anybody asked it to
  std::string stop_reason_;
  std::optional<int> code_;
  std::optional<int> signal_;
};

// The exit record of a launch that failed at `step`: EXEC_FAILED with the shell's code for "exec", else
// LAUNCH_FAILED. `what` is the program or file, may be empty.
ExitRecord launch_failure(std::string_view step, int error, std::string_view what);

// True for the words that an exit record's reason may be.
bool is_reason(std::string_view word);

}  // namespace hivemetal::runner
