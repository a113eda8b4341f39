#include "scheduler/worker_spec.h"

#include <algorithm>
#include <cmath>

#include "job/job.h"

namespace hivemetal::scheduler {

namespace {

constexpr const char* kSystemPath = "/usr/local/bin:/usr/bin:/bin";

std::string joined(const std::vector<std::string>& items) {
  std::string text;
  for (const std::string& item : items) text += (text.empty() ? "" : ",") + item;
  return text;
}

}  // namespace

Grant grant_of(double cpus, std::uint64_t memory_bytes) {
  return {static_cast<std::uint64_t>(std::ceil(std::max(cpus, 0.001) * 1000 - 1e-6)),
          std::max<std::uint64_t>(memory_bytes, 1)};
}

Result<WorkerSpec> worker_spec(const proto::LeaseRequest& request,
                               const std::map<std::string, std::string>& environments,
                               const std::vector<std::string>& initial_peers) {
  const auto job = job::from_json_text(request.job());
  if (!job) return job.error().within("the job in the lease");
  if (job->runtime != job::Runtime::Baremetal)
    return Error{ErrorCode::Refused, "this node runs bare-metal jobs only"};

  WorkerSpec worker;
  worker.grant = grant_of(job->resources.cpus, job->resources.memory_bytes);
  runner::AttemptSpec& spec = worker.spec;
  const std::string name = request.run() + "." + std::to_string(request.worker());
  spec.id = name + "." + std::to_string(request.attempt());
  spec.keep = name;
  spec.argv = job->command;
  spec.grace = job->grace;
  spec.limits.cpus = static_cast<double>(worker.grant.milli_cpus) / 1000;
  spec.limits.memory_bytes = worker.grant.memory;
  spec.limits.disk_bytes = job->resources.disk_bytes;

  spec.environment["PATH"] = kSystemPath;
  if (!job->environment.host.empty()) {
    const auto found = environments.find(job->environment.host);
    if (found == environments.end()) {
      return Error{ErrorCode::Refused, "this node has no environment '" + job->environment.host + "'"};
    }
    if (!found->second.empty()) {
      spec.environment["VIRTUAL_ENV"] = found->second;
      spec.environment["PATH"] = found->second + "/bin:" + kSystemPath;
    }
  }
  for (const auto& [variable, value] : job->env) spec.environment[variable] = value;
  // Ours last: a job cannot pretend to be another worker.
  spec.environment["HIVEMETAL_RUN_ID"] = request.run();
  spec.environment["HIVEMETAL_INITIAL_PEERS"] = joined(initial_peers);
  spec.environment["HIVEMETAL_WORKER_INDEX"] = std::to_string(request.worker());
  spec.environment["HIVEMETAL_WORKERS"] = std::to_string(request.workers());
  for (const auto& file : request.files())
    spec.files.push_back({file.path(), file.content(), file.executable()});
  return worker;
}

}  // namespace hivemetal::scheduler
