// Starts the program of an attempt: clone into its cgroup, confine, exec.
#pragma once

#include <string>

#include "runner/attempt/files.h"
#include "runner/attempt/messages.h"

namespace hivemetal::runner {

struct Launch {
  // Empty if the program runs; else what the exit record is to say.
  std::optional<ExitRecord> failure;
  ProcessId worker;
  Fd standard_output;  // ends of pipes, not blocking
  Fd standard_error;
};

// Returns when the program has been exec'ed or a step has failed; nothing of it runs then. The caller must be
// single-threaded and must reap the worker.
Launch launch(const GuardSpec& spec);

}  // namespace hivemetal::runner
