// From a lease request to what the runner starts.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "base/result.h"
#include "runner/runner.h"
#include "scheduler/lease_table.h"
#include "scheduler/messages.h"

namespace hivemetal::scheduler {

struct WorkerSpec {
  runner::AttemptSpec spec;
  Grant grant;
};

// What a worker of a job with these resources needs of a node.
Grant grant_of(double cpus, std::uint64_t memory_bytes);

// `environments` are the host's: name → folder of a virtual environment, empty for the system's programs.
// Fails with Invalid if the job in the request is none, with Refused if this node lacks its environment.
Result<WorkerSpec> worker_spec(const proto::LeaseRequest& request,
                               const std::map<std::string, std::string>& environments,
                               const std::vector<std::string>& initial_peers);

}  // namespace hivemetal::scheduler
