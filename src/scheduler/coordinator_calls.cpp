// Coordinator: what goes over the network. Decisions are in run_state.h.
#include <algorithm>
#include <fmt/format.h>
#include <tuple>

#include <boost/asio/experimental/awaitable_operators.hpp>

#include "base/log.h"
#include "base/notification.h"
#include "scheduler/coordinator_run.h"

namespace hivemetal::scheduler {

using namespace std::chrono_literals;
using namespace asio::experimental::awaitable_operators;

namespace {

constexpr auto kTryEvery = 500ms;  // of a call that must arrive
constexpr auto kPingMax = 250ms;
constexpr auto kLogSlack = 2s;  // beyond the wait that we ask for
constexpr auto kAttemptPoll = 100ms;
constexpr double kBytesPerMs = 1000;  // the slowest link for which a lease request may take longer
constexpr std::size_t kRefusalsKept = 8;
constexpr std::size_t kRefusalLengthMax = 300;

LeaseState state_of(proto::RenewReply::State state) {
  switch (state) {
    case proto::RenewReply::STARTING:
      return LeaseState::Starting;
    case proto::RenewReply::RUNNING:
      return LeaseState::Running;
    case proto::RenewReply::STOPPING:
      return LeaseState::Stopping;
    default:
      return LeaseState::Ended;
  }
}

WorkerReport report_of(const proto::RenewReply::Worker& worker) {
  WorkerReport report;
  report.status = worker.status() == proto::RenewReply::LIVE     ? WorkerReport::Status::Live
                  : worker.status() == proto::RenewReply::FENCED ? WorkerReport::Status::Fenced
                                                                 : WorkerReport::Status::Unknown;
  report.worker = worker.worker();
  report.epoch = worker.epoch();
  report.state = state_of(worker.state());
  report.attempt = worker.attempt();
  report.pid = static_cast<int>(worker.pid());
  report.start_ms = worker.start_ms();
  report.cpu_seconds = worker.cpu_seconds();
  report.memory = worker.memory();
  report.next_event = worker.next_event();
  for (const std::string& event : worker.events()) {
    report.events.push_back(nlohmann::json::parse(event, nullptr, /*allow_exceptions=*/false));
  }
  if (worker.has_exit()) {
    const auto& exit = worker.exit();
    report.exit = WorkerExit{.reason = exit.reason(),
                             .detail = exit.detail(),
                             .ended_unix = exit.ended_unix(),
                             .memory_peak = exit.memory_peak(),
                             .cpu_s = exit.cpu_seconds()};
    if (exit.has_code()) report.exit->code = exit.code();
    if (exit.has_signal()) report.exit->signal = exit.signal();
  }
  return report;
}

// True if the node answered and said no; false if nobody knows what it did.
bool is_answer(const Error& error) {
  return error.code == ErrorCode::Refused || error.code == ErrorCode::Invalid;
}

}  // namespace

// The drive

void Coordinator::drive(Run& run) {
  pump(run);
  if (!is_over(run.state.phase())) tasks_.spawn("run " + run.id, run_loop(run.id));
}

asio::awaitable<void> Coordinator::run_loop(std::string id) {
  auto renew_at = clock_.now();
  for (;;) {
    Run* run = find(id);
    if (run == nullptr || is_over(run->state.phase())) co_return;
    const auto now = clock_.now();
    if (options_.network_up && !options_.network_up()) run->state.excuse_silence(now);
    run->state.tick(now);
    pump(*run);
    if (is_over(run->state.phase())) co_return;
    if (now >= renew_at) {
      renew_at = now + options_.renew_every;
      for (auto& [node, leases] : run->state.renewals()) {
        tasks_.spawn("renew", renew_node(id, node, std::move(leases)));
      }
    }
    co_await clock_.sleep_for(options_.tick);
  }
}

// Records, keeps and does what the state has decided; in this order, so that a restart knows every epoch in
// use.
void Coordinator::pump(Run& run) {
  const bool was_over = run.ended_unix > 0;
  if (is_over(run.state.phase()) && !was_over) run.ended_unix = clock_.unix_time();
  for (Event& event : run.state.take_events()) record(run, std::move(event));
  if (run.state.take_changed()) persist(run);
  for (const Action& action : run.state.take_actions()) act(run, action);
}

void Coordinator::act(Run& run, const Action& action) {
  if (const auto* ask = std::get_if<AskOffers>(&action)) {
    tasks_.spawn("ask for offers", ask_offers(run.id, ask->slots));
  } else if (const auto* take = std::get_if<TakeLease>(&action)) {
    tasks_.spawn("take a lease", take_lease(run.id, *take));
  } else if (const auto* stop = std::get_if<StopWorker>(&action)) {
    tasks_.spawn("stop a worker", stop_worker(run.id, *stop));
  } else if (const auto* decline = std::get_if<DeclineOffer>(&action)) {
    tasks_.spawn("decline an offer", this->decline(*decline));
  }
}

// Offers

asio::awaitable<void> Coordinator::ask_offers(std::string id, std::uint32_t slots) {
  const auto round = std::make_shared<OfferRound>(tasks_.executor());
  round->slots = slots;
  std::vector<CapacityRecord> nodes = candidates_();
  if (const Run* run = find(id)) {
    const auto& job = run->job;
    const auto known = nodes.size();
    std::erase_if(nodes, [&job](const CapacityRecord& node) {
      const auto& names = node.environments;
      return node.cpus_total + 1e-9 < job.resources.cpus || node.memory_total < job.resources.memory_bytes ||
             (!job.environment.host.empty() &&
              std::find(names.begin(), names.end(), job.environment.host) == names.end());
    });
    if (nodes.empty()) {
      round->refusals.push_back(
          fmt::format("none of {} known nodes has {} cores, {} MiB and environment '{}'", known,
                      job.resources.cpus, job.resources.memory_bytes >> 20, job.environment.host));
    }
  }
  std::sort(nodes.begin(), nodes.end(), [](const CapacityRecord& a, const CapacityRecord& b) {
    return std::tie(b.cpus_free, b.node) < std::tie(a.cpus_free, a.node);
  });
  if (nodes.size() > options_.candidates_max) nodes.resize(options_.candidates_max);
  const std::size_t asked = round->pending = nodes.size();
  for (CapacityRecord& node : nodes) tasks_.spawn("ask a node", ask_node(id, std::move(node), round));

  auto deadline = clock_.now() + options_.offer_deadline;
  bool first = true;
  while (round->pending > 0 && clock_.now() < deadline) {
    co_await (round->answered.wait() || clock_.sleep_until(deadline));
    if (first && !round->offers.empty()) {
      first = false;
      deadline = std::min(deadline, clock_.now() + options_.offer_window);
    }
  }
  round->closed = true;
  if (Run* run = find(id)) {
    run->state.offers(clock_.now(), round->offers, asked, round->refusals);
    pump(*run);
  }
}

asio::awaitable<void> Coordinator::ask_node(std::string id, CapacityRecord record,
                                            std::shared_ptr<OfferRound> round) {
  const PeerId node = record.node;
  const Run* run = find(id);
  const auto deadline = clock_.now() + options_.offer_deadline;
  Result<proto::Offer> offer = Error{ErrorCode::Cancelled, "the run is gone"};
  if (run != nullptr) {
    proto::OfferRequest request;
    request.set_run(id);
    request.set_milli_cpus(run->state.spec().grant.milli_cpus);
    request.set_memory(run->state.spec().grant.memory);
    request.set_slots(round->slots);
    request.set_environment(run->job.environment.host);
    request.set_runtime("baremetal");
    request.set_gpus(run->job.resources.gpus);
    request.set_disk(run->job.resources.disk_bytes);
    if (options_.membership) request.set_membership(options_.membership());
    offer = co_await nodes_.offer(node, std::move(request), deadline);
    if (offer && options_.authorize && node != self_) {
      const auto may = options_.authorize(node, offer->membership());
      if (!may) offer = may.error().within("it is not of our swarm");
    }
    // The first round trip includes the dialling; this one does not.
    if (offer && !nodes_.rtt_ms(node)) {
      (void)co_await nodes_.ping(node, std::min(deadline, clock_.now() + kPingMax));
    }
  }
  --round->pending;
  if (!offer) {
    if (round->refusals.size() < kRefusalsKept) {
      round->refusals.push_back((record.name + ": " + offer.error().message).substr(0, kRefusalLengthMax));
    }
  } else if (round->closed) {
    tasks_.spawn("decline an offer", decline({node, offer->offer()}));
  } else {
    round->offers.push_back({.node = node,
                             .name = offer->name(),
                             .offer = offer->offer(),
                             .slots = std::min(offer->slots(), round->slots),
                             .cpus_total = static_cast<double>(offer->milli_cpus_total()) / 1000,
                             .cpus_free = static_cast<double>(offer->milli_cpus_free()) / 1000,
                             .load = offer->load(),
                             .memory_total = offer->memory_total(),
                             .memory_free = offer->memory_free(),
                             .rtt_ms = nodes_.rtt_ms(node).value_or(1000)});
  }
  round->answered.notify_all();
}

asio::awaitable<void> Coordinator::decline(DeclineOffer action) {
  proto::StopRequest request;
  request.set_offer(action.offer);
  (void)co_await nodes_.stop(action.node, std::move(request), clock_.now() + 1s);  // else it expires
}

// Leases

asio::awaitable<void> Coordinator::take_lease(std::string id, TakeLease action) {
  const Run* run = find(id);
  if (run == nullptr) co_return;
  proto::LeaseRequest request = run->lease;
  request.set_offer(action.offer);
  request.set_worker(action.worker);
  request.set_epoch(action.epoch);
  request.set_attempt(action.attempt);
  request.set_ttl_ms(static_cast<std::uint32_t>(options_.lease_ttl.count()));
  if (options_.membership) request.set_membership(options_.membership());
  const auto transfer = std::chrono::milliseconds(
      static_cast<std::int64_t>(static_cast<double>(request.ByteSizeLong()) / kBytesPerMs));
  const auto deadline = clock_.now() + options_.rules.lost_after + transfer;
  // Asking again is safe: the node starts the worker once.
  Result<proto::LeaseReply> reply = Error{ErrorCode::TimedOut, "no answer"};
  while (clock_.now() < deadline) {
    const auto next_try = std::min(deadline, clock_.now() + kTryEvery + transfer);
    reply = co_await nodes_.lease(action.node, request, next_try);
    if (reply || is_answer(reply.error())) break;
    co_await clock_.sleep_until(next_try);
  }
  Run* found = find(id);
  if (found == nullptr) co_return;
  if (reply) {
    found->state.lease_taken(clock_.now(), action.worker, action.epoch, reply->attempt());
  } else {
    found->state.lease_failed(clock_.now(), action.worker, action.epoch, is_answer(reply.error()),
                              reply.error().message);
  }
  pump(*found);
  if (!reply) co_return;
  for (auto& [node, leases] : found->state.renewals()) {
    if (node == action.node) tasks_.spawn("renew", renew_node(id, node, std::move(leases)));
  }
}

asio::awaitable<void> Coordinator::stop_worker(std::string id, StopWorker action) {
  proto::StopRequest request;
  request.mutable_worker()->set_run(id);
  request.mutable_worker()->set_worker(action.worker);
  request.mutable_worker()->set_epoch(action.epoch);
  for (int attempt = 0; attempt < 3; ++attempt) {
    const auto next_try = clock_.now() + kTryEvery;
    const auto reply = co_await nodes_.stop(action.node, request, next_try);
    if (!reply && !is_answer(reply.error())) {
      co_await clock_.sleep_until(next_try);
      continue;
    }
    // A refusal says that the node obeys a later epoch already: that is as good.
    if (Run* run = find(id)) {
      run->state.stop_taken(clock_.now(), action.node, action.worker, action.epoch);
      pump(*run);
    }
    co_return;
  }
}

asio::awaitable<void> Coordinator::renew_node(std::string id, PeerId node, std::vector<Renewal> leases) {
  for (std::size_t begin = 0; begin < leases.size(); begin += kRenewalsMax) {
    proto::RenewRequest request;
    request.set_run(id);
    request.set_wait_ms(
        leases.size() > kRenewalsMax ? 0 : static_cast<std::uint32_t>(options_.renew_wait.count()));
    for (std::size_t i = begin; i < std::min(leases.size(), begin + kRenewalsMax); ++i) {
      auto& lease = *request.add_leases();
      lease.set_worker(leases[i].worker);
      lease.set_epoch(leases[i].epoch);
      lease.set_events_since(leases[i].events_since);
      lease.set_known_state(static_cast<std::uint32_t>(leases[i].known));
    }
    const auto deadline = clock_.now() + options_.renew_wait + options_.rules.lost_after;
    const auto reply = co_await nodes_.renew(node, std::move(request), deadline);
    Run* run = find(id);
    if (!reply || run == nullptr) co_return;  // silence is counted by the state
    std::vector<WorkerReport> reports;
    for (const auto& worker : reply->workers()) reports.push_back(report_of(worker));
    run->state.renewed(clock_.now(), node, reports);
    pump(*run);
  }
}

// Logs

asio::awaitable<Result<LogPage>> Coordinator::read_log(std::string id, std::uint32_t worker, LogCursor from,
                                                       std::size_t bytes_max,
                                                       std::chrono::milliseconds wait) {
  const auto deadline = clock_.now() + wait;
  for (;;) {
    const Run* run = find(id);
    if (run == nullptr)
      co_return Error{ErrorCode::NotFound, "no run '" + id + "' here; `hivemetal ps` lists them"};
    if (worker >= run->state.slots().size()) {
      co_return Error{ErrorCode::NotFound,
                      fmt::format("run {} has workers 0 to {}", id, run->state.slots().size() - 1)};
    }
    const Slot& slot = run->state.slots()[worker];
    const bool over = slot.state >= SlotState::Finished || is_over(run->state.phase());
    LogPage page{.next = from};
    if (from.attempt >= slot.attempts.size()) {
      page.ended = over;
      if (over || clock_.now() >= deadline) co_return page;
      co_await clock_.sleep_until(std::min(deadline, clock_.now() + kAttemptPoll));
      continue;
    }
    // A lost worker that has no other place yet may come back with its node, and its log with it.
    const bool current = from.attempt + 1 == slot.attempts.size() && !over;
    const AttemptRef attempt = slot.attempts[from.attempt];
    const auto left = std::max<Clock::Duration>(deadline - clock_.now(), 0ms);
    proto::LogRequest request;
    request.set_attempt(attempt.id);
    request.set_offset(from.offset);
    request.set_bytes_max(
        static_cast<std::uint32_t>(std::clamp<std::size_t>(bytes_max, 1, kLogChunkBytesMax)));
    request.set_wait_ms(static_cast<std::uint32_t>(
        std::min<std::int64_t>(std::chrono::duration_cast<std::chrono::milliseconds>(left).count(), 5000)));
    const auto reply = co_await nodes_.log(attempt.node, std::move(request), clock_.now() + left + kLogSlack);
    if (!reply) {
      if (current && !is_answer(reply.error())) co_return page;  // the node may come back; ask again
      const auto text = fmt::format("the log of {} from byte {} on is out of reach: {}", attempt.id,
                                    from.offset, reply.error().message);
      page.frames.push_back({from.attempt, attempt.node_name, {from.offset, 3, clock_.unix_time(), text}});
      page.next = {from.attempt + 1, 0};
      co_return page;
    }
    for (const auto& frame : reply->frames()) {
      page.frames.push_back(
          {from.attempt,
           attempt.node_name,
           {frame.offset(), static_cast<std::uint8_t>(frame.stream()), frame.unix_time(), frame.content()}});
    }
    page.next.offset = std::max(from.offset, reply->next_offset());
    if (!page.frames.empty()) co_return page;
    if (!reply->ended()) {
      if (clock_.now() >= deadline) co_return page;
    } else {
      from = {from.attempt + 1, 0};
    }
  }
}

}  // namespace hivemetal::scheduler
