#include "scheduler/coordinator.h"

#include <algorithm>
#include <fmt/format.h>
#include <tuple>

#include "base/log.h"
#include "job/job.h"
#include "scheduler/coordinator_run.h"
#include "scheduler/worker_spec.h"

namespace hivemetal::scheduler {

namespace {

constexpr std::size_t kRunsOverMax = 100;  // kept for `ps` and `explain`

RunSpec spec_of(const std::string& id, const job::JobSpec& job) {
  return {.id = id,
          .name = job.name,
          .workers_min = job.nodes.min,
          .workers_max = job.nodes.max,
          .grant = grant_of(job.resources.cpus, job.resources.memory_bytes),
          .restarts_max = job.restart.max,
          .backoff = job.restart.backoff,
          .grace = job.grace};
}

std::string joined(const std::vector<std::string>& words) {
  std::string line;
  for (const std::string& word : words) line += (line.empty() ? "" : " ") + word;
  return line;
}

std::string state_name(const std::string& id) { return "run/" + id + "/state"; }
std::string job_name(const std::string& id) { return "run/" + id + "/job"; }

// One worker's lease request without what differs from worker to worker.
Result<proto::LeaseRequest> template_of(const std::string& id, const job::JobSpec& job,
                                        const std::vector<runner::AttemptFile>& files) {
  proto::LeaseRequest lease;
  lease.set_run(id);
  lease.set_workers(job.nodes.max);
  lease.set_job(job::to_json(job).dump());
  if (lease.job().size() > kJobBytesMax)
    return Error{ErrorCode::Invalid, "the job is larger than 256 KiB of JSON"};
  if (files.size() > kFilesMax) {
    return Error{ErrorCode::Invalid,
                 fmt::format("{} files are more than the {} that a job may bring", files.size(), kFilesMax)};
  }
  std::size_t bytes = 0;
  for (const auto& file : files) {
    if (!is_safe_path(file.path))
      return Error{ErrorCode::Invalid, "the path '" + file.path + "' leads out of the job's folder"};
    bytes += file.content.size();
    auto& out = *lease.add_files();
    out.set_path(file.path);
    out.set_content(file.content);
    out.set_executable(file.executable);
  }
  if (bytes > kFilesBytesMax) {
    return Error{ErrorCode::Invalid,
                 fmt::format("the job's files have {} bytes, at most {} are sent; fetch the rest at "
                             "run time or put it into the environment",
                             bytes, kFilesBytesMax)};
  }
  return lease;
}

}  // namespace

nlohmann::json to_json(const RunView& run) {
  nlohmann::json workers = nlohmann::json::array();
  for (const WorkerView& worker : run.workers) {
    workers.push_back({{"worker", worker.worker},
                       {"state", worker.state},
                       {"node", worker.node},
                       {"node_name", worker.node_name},
                       {"attempt", worker.attempt},
                       {"pid", worker.pid},
                       {"restarts", worker.restarts},
                       {"exit", worker.exit},
                       {"metrics", worker.metrics},
                       {"cpu_seconds", worker.cpu_seconds},
                       {"memory", worker.memory}});
  }
  return {{"id", run.id},
          {"name", run.name},
          {"state", run.state},
          {"reason", run.reason},
          {"submitted", run.submitted_unix},
          {"ended", run.ended_unix},
          {"epoch", run.epoch},
          {"workers_min", run.workers_min},
          {"workers_max", run.workers_max},
          {"workers", std::move(workers)}};
}

Coordinator::Coordinator(asio::any_io_executor executor, Clock& clock, NodeClient& nodes, RunStore& store,
                         PeerId self, std::function<std::vector<CapacityRecord>()> candidates, Random random,
                         CoordinatorOptions options)
    : clock_(clock),
      nodes_(nodes),
      store_(store),
      self_(std::move(self)),
      candidates_(std::move(candidates)),
      random_(random),
      options_(std::move(options)),
      alive_(std::make_shared<Coordinator*>(this)),
      tasks_(std::move(executor)) {}

Coordinator::~Coordinator() { *alive_ = nullptr; }

// Beginning and end

Result<void> Coordinator::start() {
  const auto names = store_.names("run/");
  if (!names) return names.error().within("read the runs");
  for (const std::string& name : *names) {
    if (!name.ends_with("/state")) continue;
    const std::string id = name.substr(4, name.size() - 4 - 6);
    if (const auto resumed = resume(id); !resumed)
      log::error("runs: {} is left out: {}", id, resumed.error().message);
  }
  return {};
}

asio::awaitable<void> Coordinator::stop() { co_await tasks_.close(); }

Result<void> Coordinator::resume(const std::string& id) {
  const auto state = store_.get(state_name(id));
  const auto job_bytes = store_.get(job_name(id));
  const auto sequence = store_.last_sequence(id);
  if (!state) return state.error();
  if (!job_bytes) return job_bytes.error();
  if (!sequence) return sequence.error();
  if (!*state || !*job_bytes) return Error{ErrorCode::Invalid, "its record is not complete"};
  proto::LeaseRequest lease;
  if (!lease.ParseFromString(**job_bytes)) return Error{ErrorCode::Invalid, "its job cannot be read"};
  const auto job = job::from_json_text(lease.job());
  if (!job) return job.error();
  try {
    const auto json = nlohmann::json::parse(**state);
    auto recovered =
        RunState::recover(spec_of(id, *job), options_.rules, self_, json.at("run"), clock_.now());
    if (!recovered) return recovered.error();
    auto run = std::make_unique<Run>(Run{.id = id,
                                         .state = std::move(*recovered),
                                         .lease = std::move(lease),
                                         .job = *job,
                                         .submitted_unix = json.at("submitted").get<double>(),
                                         .ended_unix = json.at("ended").get<double>(),
                                         .sequence = *sequence});
    drive(*(runs_[id] = std::move(run)));
  } catch (const nlohmann::json::exception& error) {
    return Error{ErrorCode::Invalid, std::string("its state cannot be read: ") + error.what()};
  }
  return {};
}

std::string Coordinator::new_id(const std::string& name) {
  static constexpr std::string_view kLetters = "23456789abcdefghjkmnpqrstuvwxyz";  // none that look alike
  for (;;) {
    std::string id = name.substr(0, kRunIdLengthMax - 6);
    id += '-';
    for (int i = 0; i < 4; ++i) id += kLetters[random_() % kLetters.size()];
    if (!runs_.contains(id)) return id;
  }
}

Result<std::string> Coordinator::submit(const job::JobSpec& job, std::vector<runner::AttemptFile> files) {
  if (job.runtime != job::Runtime::Baremetal) {
    return Error{ErrorCode::Invalid, "runtime: docker is not built yet; use runtime: baremetal"};
  }
  if (!job.environment.requirements.empty()) {
    return Error{ErrorCode::Invalid,
                 "environment.requirements is not built yet; name an environment of the nodes with "
                 "environment: {host: NAME}"};
  }
  const std::string id = new_id(job.name);
  if (!is_run_id(id))
    return Error{ErrorCode::Invalid, "the name '" + job.name + "' cannot be part of a run's id"};
  if (job.nodes.max > kWorkersMax) {
    return Error{ErrorCode::Invalid, fmt::format("nodes.max is {}, at most {} workers can be driven",
                                                 job.nodes.max, kWorkersMax)};
  }
  auto lease = template_of(id, job, files);
  if (!lease) return lease.error();
  if (const auto put = store_.put(job_name(id), lease->SerializeAsString()); !put)
    return put.error().within("keep the job");

  auto owned =
      std::make_unique<Run>(Run{.id = id,
                                .state = RunState(spec_of(id, job), options_.rules, self_, clock_.now()),
                                .lease = std::move(*lease),
                                .job = job,
                                .submitted_unix = clock_.unix_time()});
  Run& run = *(runs_[id] = std::move(owned));
  Event event;
  event.kind = "submitted";
  event.text = fmt::format("{} workers of '{}', at least {}: {}", job.nodes.max, job.name, job.nodes.min,
                           joined(job.command));
  event.data = {{"name", job.name}, {"min", job.nodes.min}, {"max", job.nodes.max}, {"command", job.command}};
  record(run, std::move(event));
  persist(run);
  drive(run);
  forget_old();
  return id;
}

Result<void> Coordinator::stop_run(const std::string& id) {
  Run* run = find(id);
  if (run == nullptr)
    return Error{ErrorCode::NotFound, "no run '" + id + "' here; `hivemetal ps` lists them"};
  run->state.stop(clock_.now(), "as asked");
  pump(*run);
  return {};
}

Result<void> Coordinator::remove_run(const std::string& id) {
  const Run* run = find(id);
  if (run == nullptr)
    return Error{ErrorCode::NotFound, "no run '" + id + "' here; `hivemetal ps` lists them"};
  if (!is_over(run->state.phase()))
    return Error{ErrorCode::Refused, "the run goes on; stop it first: hivemetal stop " + id};
  runs_.erase(id);
  for (const auto& erased :
       {store_.erase(state_name(id)), store_.erase(job_name(id)), store_.erase_events(id)}) {
    if (!erased) return erased;
  }
  return {};
}

void Coordinator::forget_old() {
  std::vector<std::pair<double, std::string>> over;
  for (const auto& [id, run] : runs_) {
    if (is_over(run->state.phase())) over.emplace_back(run->ended_unix, id);
  }
  std::sort(over.begin(), over.end());
  for (std::size_t i = 0; i + kRunsOverMax < over.size(); ++i) (void)remove_run(over[i].second);
}

// What others see

Coordinator::Run* Coordinator::find(const std::string& id) const {
  const auto found = runs_.find(id);
  return found == runs_.end() ? nullptr : found->second.get();
}

RunView Coordinator::view_of(const Run& run) const {
  RunView view{.id = run.id,
               .name = run.state.spec().name,
               .state = std::string(name_of(run.state.phase())),
               .reason = run.state.reason(),
               .submitted_unix = run.submitted_unix,
               .ended_unix = run.ended_unix,
               .epoch = run.state.epoch(),
               .workers_min = run.state.spec().workers_min,
               .workers_max = run.state.spec().workers_max};
  std::uint32_t worker = 0;
  for (const Slot& slot : run.state.slots()) {
    view.workers.push_back({.worker = worker++,
                            .state = std::string(name_of(slot.state)),
                            .node = slot.node.empty() ? "" : slot.node.base58(),
                            .node_name = slot.node_name,
                            .attempt = slot.attempts.empty() ? "" : slot.attempts.back().id,
                            .pid = slot.pid,
                            .restarts = slot.restarts,
                            .exit = slot.exit ? slot.exit->text() : "",
                            .metrics = slot.metrics,
                            .cpu_seconds = slot.cpu_seconds,
                            .memory = slot.memory});
  }
  return view;
}

std::vector<RunView> Coordinator::runs() const {
  std::vector<RunView> views;
  for (const auto& [id, run] : runs_) views.push_back(view_of(*run));
  std::sort(views.begin(), views.end(), [](const RunView& a, const RunView& b) {
    return std::tie(b.submitted_unix, b.id) < std::tie(a.submitted_unix, a.id);
  });
  return views;
}

std::optional<RunView> Coordinator::run(const std::string& id) const {
  const Run* run = find(id);
  if (run == nullptr) return std::nullopt;
  return view_of(*run);
}

Result<std::vector<Event>> Coordinator::events(const std::string& id, std::uint64_t since,
                                               std::size_t limit) const {
  if (find(id) == nullptr)
    return Error{ErrorCode::NotFound, "no run '" + id + "' here; `hivemetal ps` lists them"};
  return store_.events(id, since, limit);
}

Coordinator::Subscription Coordinator::subscribe(std::string id, std::function<void(const Event&)> callback) {
  const std::uint64_t number = next_subscriber_++;
  subscribers_[number] = {std::move(id), std::move(callback)};
  return {nullptr, [alive = alive_, number](void*) {
            if (*alive != nullptr) (*alive)->subscribers_.erase(number);
          }};
}

void Coordinator::record(Run& run, Event event) {
  event.sequence = ++run.sequence;
  event.unix_time = clock_.unix_time();
  event.run = run.id;
  if (const auto appended = store_.append(event); !appended) {
    log::error("runs: an event of {} is not kept: {}", run.id, appended.error().message);
  }
  std::vector<std::uint64_t> concerned;  // a callback may end its own subscription, or another
  for (const auto& [number, subscriber] : subscribers_) {
    if (subscriber.first.empty() || subscriber.first == run.id) concerned.push_back(number);
  }
  for (const std::uint64_t number : concerned) {
    const auto found = subscribers_.find(number);
    if (found == subscribers_.end()) continue;
    const auto callback = found->second.second;
    callback(event);
  }
}

void Coordinator::persist(Run& run) {
  const nlohmann::json json{
      {"run", run.state.to_json()}, {"submitted", run.submitted_unix}, {"ended", run.ended_unix}};
  const auto text = json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  if (const auto put = store_.put(state_name(run.id), text); !put) {
    log::error("runs: the state of {} is not kept: {}", run.id, put.error().message);
  }
}

void Coordinator::candidates_changed() {
  for (auto& [id, run] : runs_) {
    run->state.ask_now(clock_.now());
    pump(*run);
  }
}

}  // namespace hivemetal::scheduler
