#include "scheduler/host.h"

#include <algorithm>

#include "scheduler/worker_spec.h"

namespace hivemetal::scheduler {

using namespace std::chrono_literals;

namespace {

constexpr auto kExpiryEvery = 500ms;
constexpr auto kDrainMax = 30s;

}  // namespace

WorkerHost::WorkerHost(asio::any_io_executor executor, Clock& clock, p2p::Network& network,
                       runner::Runner& runner, RunStore& store, HostOptions options)
    : clock_(clock),
      network_(network),
      runner_(runner),
      store_(store),
      options_(std::move(options)),
      table_(options_.capacity, options_.leases),
      news_(executor),
      tasks_(executor) {}

asio::awaitable<Result<void>> WorkerHost::start() {
  runner_.on_end([this](const runner::AttemptStatus& status) { attempt_ended(status); });
  if (auto restored = co_await restore(); !restored) co_return restored;
  for (const char* name : {kOfferHandle, kLeaseHandle, kRenewHandle, kStopHandle, kLogHandle, kPingHandle}) {
    const std::string handle = name;
    auto served = co_await network_.serve(handle, [this, handle](PeerId peer, Bytes request) {
      return this->handle(handle, std::move(peer), std::move(request));
    });
    if (!served) co_return served.error().within("serve " + handle);
  }
  tasks_.spawn("leases", expiry_loop());
  co_return Result<void>();
}

asio::awaitable<void> WorkerHost::stop() {
  for (const char* name : {kOfferHandle, kLeaseHandle, kRenewHandle, kStopHandle, kLogHandle, kPingHandle}) {
    co_await network_.stop_serving(name);
  }
  runner_.on_end([](const runner::AttemptStatus&) {});
  co_await tasks_.close();
}

asio::awaitable<void> WorkerHost::drain() {
  draining_ = true;
  for (const Lease& lease : table_.leases()) {
    if (lease.state == LeaseState::Ended) continue;
    table_.stopping(lease.key, lease.first_epoch);
    tasks_.spawn("end a worker", end(lease.key, lease.first_epoch, "OWNER"));
  }
  const auto limit = clock_.now() + kDrainMax;
  while (table_.live() > 0 && clock_.now() < limit) co_await clock_.sleep_for(50ms);
}

asio::awaitable<Result<Bytes>> WorkerHost::handle(std::string handle, PeerId from, Bytes request) {
  const auto wrong = [&](const Error& error) {
    if (rejected_.first(from.short_name() + handle)) {
      log::warn("host: a request of {} is malformed: {}: {}", from.short_name(), handle, error.message);
    }
    return error;
  };
  if (handle == kRenewHandle) {
    auto message = parse<proto::RenewRequest>(request);
    if (!message) co_return wrong(message.error());
    co_return co_await renew(std::move(from), std::move(*message));
  }
  if (handle == kLogHandle) {
    auto message = parse<proto::LogRequest>(request);
    if (!message) co_return wrong(message.error());
    co_return co_await log(std::move(from), std::move(*message));
  }
  if (handle == kOfferHandle) {
    const auto message = parse<proto::OfferRequest>(request);
    co_return message ? offer(from, *message) : wrong(message.error());
  }
  if (handle == kLeaseHandle) {
    const auto message = parse<proto::LeaseRequest>(request);
    co_return message ? lease(from, *message) : wrong(message.error());
  }
  if (handle == kStopHandle) {
    const auto message = parse<proto::StopRequest>(request);
    co_return message ? stop_worker(from, *message) : wrong(message.error());
  }
  if (handle == kPingHandle) {
    proto::PingReply reply;
    reply.set_unix_time(clock_.unix_time());
    reply.set_version(options_.version);
    reply.set_name(options_.node_name);
    co_return reply.SerializeAsString();
  }
  co_return Error{ErrorCode::NotFound, "no such call: " + handle};
}

// Offers and leases

Result<void> WorkerHost::allowed(const PeerId& peer, std::string_view membership) const {
  if (draining_) return Error{ErrorCode::Refused, "the node is leaving the swarm"};
  if (peer == network_.self() || !options_.authorize) return {};
  return options_.authorize(peer, membership);
}

Result<Bytes> WorkerHost::offer(const PeerId& peer, const proto::OfferRequest& request) {
  if (const auto may = allowed(peer, request.membership()); !may) return may.error();
  if (request.runtime() != "baremetal") {
    return Error{ErrorCode::Refused, "this node runs no jobs of runtime " + request.runtime()};
  }
  if (request.gpus() > 0) return Error{ErrorCode::Refused, "this node lends no GPUs"};
  if (!request.environment().empty() && !options_.environments.contains(request.environment())) {
    return Error{ErrorCode::Refused, "this node has no environment '" + request.environment() + "'"};
  }
  const Grant grant{request.milli_cpus(), request.memory()};
  const auto offered = table_.offer(clock_.now(), peer, request.run(), grant, request.slots());
  if (!offered) return offered.error();
  const Grant left = table_.free();
  proto::Offer reply;
  reply.set_offer(offered->id);
  reply.set_slots(offered->slots);
  reply.set_offer_ms(static_cast<std::uint32_t>(options_.leases.offer_ttl.count()));
  reply.set_name(options_.node_name);
  reply.set_milli_cpus_total(table_.capacity().milli_cpus);
  reply.set_milli_cpus_free(left.milli_cpus + offered->slots * grant.milli_cpus);
  reply.set_memory_total(table_.capacity().memory);
  reply.set_memory_free(left.memory + offered->slots * grant.memory);
  reply.set_load(options_.load ? options_.load() : 0);
  reply.set_confinement(options_.confinement);
  if (options_.membership) reply.set_membership(options_.membership());
  return reply.SerializeAsString();
}

Result<Bytes> WorkerHost::lease(const PeerId& peer, const proto::LeaseRequest& request) {
  if (const auto may = allowed(peer, request.membership()); !may) return may.error();
  auto worker = worker_spec(request, options_.environments,
                            options_.initial_peers ? options_.initial_peers() : std::vector<std::string>());
  if (!worker) return worker.error();
  const LeaseKey key{request.run(), request.worker()};
  const auto ttl = std::chrono::milliseconds(request.ttl_ms());
  const auto taken =
      table_.take(clock_.now(), peer, request.offer(), key, request.epoch(), worker->grant, ttl);
  if (!taken) return taken.error();
  if (taken->superseded) {
    tasks_.spawn("end a worker", end(key, taken->superseded->first_epoch, "STOPPED"));
    return Error{ErrorCode::Refused, "its previous attempt still runs here and is being stopped; ask again"};
  }
  if (taken->started) {
    worker->spec.environment["HIVEMETAL_NODE"] = options_.node_name;
    worker->spec.lease = table_.find(key)->ttl;
    work_[key] = Work{.attempt = worker->spec.id, .launching = true, .first_epoch = request.epoch()};
    archive_.push_back({worker->spec.id, peer, false});
    persist();
    tasks_.spawn("launch a worker", launch(key, request.epoch(), std::move(worker->spec)));
    changed();
  }
  proto::LeaseReply reply;
  reply.set_attempt(work_[key].attempt);
  return reply.SerializeAsString();
}

WorkerHost::Work* WorkerHost::work_of(const LeaseKey& key, std::uint64_t first_epoch) {
  const auto found = work_.find(key);
  return found == work_.end() || found->second.first_epoch != first_epoch ? nullptr : &found->second;
}

asio::awaitable<void> WorkerHost::launch(LeaseKey key, std::uint64_t first_epoch, runner::AttemptSpec spec) {
  const auto begin = clock_.now();
  const runner::AttemptId attempt = spec.id;
  Result<runner::AttemptStatus> started = Error{ErrorCode::Refused, "not prepared"};
  if (auto prepared = options_.prepare ? options_.prepare(spec, key) : Result<void>(); !prepared) {
    started = prepared.error();
  } else {
    started = co_await runner_.start(std::move(spec));
  }
  Work* work = work_of(key, first_epoch);
  if (work == nullptr) co_return;
  work->launching = false;
  work->start_ms = std::chrono::duration<double, std::milli>(clock_.now() - begin).count();
  if (!started) {
    runner::AttemptStatus status{.id = attempt, .state = runner::AttemptState::Ended};
    for (const auto& known : runner_.attempts()) {
      if (known.id == attempt) status = known;
    }
    if (!status.exit) {
      status.exit = runner::ExitRecord{
          .reason = "LAUNCH_FAILED", .detail = started.error().message, .ended_unix = clock_.unix_time()};
    }
    attempt_ended(status);
    co_return;
  }
  work->pid = started->pid;
  table_.running(key, first_epoch);
  news_.notify_all();
  const auto lease = table_.find(key);
  if (!lease || lease->state == LeaseState::Stopping) co_await end(key, first_epoch, work->end_reason);
}

asio::awaitable<void> WorkerHost::end(LeaseKey key, std::uint64_t first_epoch, std::string reason) {
  Work* work = work_of(key, first_epoch);
  if (work == nullptr || work->exit) co_return;
  work->end_reason = reason;
  if (work->launching || work->ending) co_return;  // launch() comes back to it
  work->ending = true;
  const runner::AttemptId attempt = work->attempt;
  const auto stopped = co_await runner_.stop(attempt, std::move(reason));
  work = work_of(key, first_epoch);
  if (work == nullptr || work->exit) co_return;
  runner::AttemptStatus status{.id = attempt, .state = runner::AttemptState::Ended};
  status.exit = stopped ? *stopped
                        : runner::ExitRecord{.reason = "UNKNOWN_EXIT",
                                             .detail = stopped.error().message,
                                             .ended_unix = clock_.unix_time()};
  attempt_ended(status);
}

void WorkerHost::attempt_ended(const runner::AttemptStatus& status) {
  for (Archive& kept : archive_) {
    if (kept.attempt == status.id) kept.ended = true;
  }
  const auto key = key_of(status.id);
  if (key) {
    Work& work = work_[*key];
    if (work.exit) return;
    work.exit = status.exit.value_or(runner::ExitRecord{.reason = "UNKNOWN_EXIT"});
    if (work.pid == 0) work.pid = status.pid;
    table_.ended(clock_.now(), *key, work.first_epoch);
    persist();
  }
  if (options_.attempt_ended) options_.attempt_ended(status);
  changed();
}

Result<Bytes> WorkerHost::stop_worker(const PeerId& peer, const proto::StopRequest& request) {
  if (request.what_case() == proto::StopRequest::kOffer) {
    table_.decline(peer, request.offer());
    return proto::StopReply().SerializeAsString();
  }
  const LeaseKey key{request.worker().run(), request.worker().worker()};
  const auto released = table_.release(clock_.now(), peer, key, request.worker().epoch());
  if (!released && released.error().code != ErrorCode::NotFound) return released.error();
  if (released && released->state == LeaseState::Ended) {
    work_.erase(key);
    persist();
  } else if (released) {
    tasks_.spawn("end a worker", end(key, released->first_epoch, "STOPPED"));
    news_.notify_all();
  }
  return proto::StopReply().SerializeAsString();
}

Result<void> WorkerHost::worker_event(const runner::AttemptId& attempt, const nlohmann::json& event) {
  if (!event.is_object()) return Error{ErrorCode::Invalid, "an event is a JSON object"};
  std::string text = event.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  if (text.size() > kWorkerEventBytesMax) {
    return Error{ErrorCode::Invalid,
                 "an event has at most " + std::to_string(kWorkerEventBytesMax) + " bytes"};
  }
  const auto key = key_of(attempt);
  if (!key) return Error{ErrorCode::NotFound, "no worker " + attempt + " here"};
  Work& work = work_[*key];
  ++work.next_event;
  work.events.push_back(std::move(text));
  if (work.events.size() > options_.events_kept_max) work.events.pop_front();
  return {};
}

std::optional<LeaseKey> WorkerHost::key_of(const runner::AttemptId& attempt) const {
  for (const auto& [key, work] : work_) {
    if (work.attempt == attempt) return key;
  }
  return std::nullopt;
}

std::vector<WorkerHost::Hosted> WorkerHost::hosted() const {
  std::vector<Hosted> hosted;
  for (const Lease& lease : table_.leases()) {
    const auto found = work_.find(lease.key);
    if (found == work_.end()) continue;
    hosted.push_back({.lease = lease, .attempt = found->second.attempt, .pid = found->second.pid});
  }
  return hosted;
}

void WorkerHost::set_capacity(Grant capacity) {
  table_.set_capacity(capacity);
  changed();
}

void WorkerHost::changed() {
  news_.notify_all();
  if (on_change_) on_change_();
}

asio::awaitable<void> WorkerHost::expiry_loop() {
  for (;;) {
    co_await clock_.sleep_for(kExpiryEvery);
    for (const Lease& lease : table_.expire(clock_.now())) {
      log::warn("host: nobody renews worker {} of {}: it is stopped", lease.key.worker, lease.key.run);
      tasks_.spawn("end a worker", end(lease.key, lease.first_epoch, "LEASE_EXPIRED"));
      news_.notify_all();
    }
    std::erase_if(work_, [this](const auto& entry) { return !table_.find(entry.first); });
    co_await tidy();
  }
}

// Removes the oldest ended attempts, so that logs do not fill the disk.
asio::awaitable<void> WorkerHost::tidy() {
  auto ended = static_cast<std::size_t>(
      std::count_if(archive_.begin(), archive_.end(), [](const Archive& archive) { return archive.ended; }));
  while (ended > options_.attempts_kept_max) {
    const auto oldest =
        std::find_if(archive_.begin(), archive_.end(), [](const Archive& a) { return a.ended; });
    const runner::AttemptId attempt = oldest->attempt;
    archive_.erase(oldest);
    --ended;
    persist();
    if (const auto removed = co_await runner_.remove(attempt); !removed) {
      log::warn("host: the files of {} stay: {}", attempt, removed.error().message);
    }
  }
}

}  // namespace hivemetal::scheduler
