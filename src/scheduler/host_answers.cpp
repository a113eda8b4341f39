// WorkerHost: what coordinators ask about their workers. Answers may be held back until there is something to
// say.
#include <algorithm>

#include <boost/asio/experimental/awaitable_operators.hpp>

#include "scheduler/host.h"

namespace hivemetal::scheduler {

using namespace std::chrono_literals;

namespace {

constexpr auto kLogPoll = 100ms;
constexpr std::size_t kEventBytesPerReplyMax = 1024 * 1024;
constexpr std::size_t kEventsPerWorkerMax = 256;

proto::RenewReply::State state_of(LeaseState state) {
  switch (state) {
    case LeaseState::Starting:
      return proto::RenewReply::STARTING;
    case LeaseState::Running:
      return proto::RenewReply::RUNNING;
    case LeaseState::Stopping:
      return proto::RenewReply::STOPPING;
    case LeaseState::Ended:
      return proto::RenewReply::ENDED;
  }
  return proto::RenewReply::ENDED;
}

}  // namespace

asio::awaitable<Result<Bytes>> WorkerHost::renew(PeerId peer, proto::RenewRequest request) {
  const auto deadline = clock_.now() + std::chrono::milliseconds(request.wait_ms());
  for (const auto& asked : request.leases()) {
    const LeaseKey key{request.run(), asked.worker()};
    const auto lease = table_.renew(clock_.now(), peer, key, asked.epoch());
    if (!lease || lease->state == LeaseState::Ended || lease->state == LeaseState::Stopping) continue;
    // Fails while the worker is being started; its first lease is in its spec.
    (void)runner_.renew(work_[key].attempt, lease->ttl);
  }
  using namespace asio::experimental::awaitable_operators;
  while (!has_news(peer, request) && clock_.now() < deadline) {
    co_await (news_.wait() || clock_.sleep_until(deadline));
  }
  proto::RenewReply reply;
  std::size_t event_bytes = 0;
  for (const auto& asked : request.leases()) {
    describe(peer, {request.run(), asked.worker()}, asked, *reply.add_workers(), event_bytes);
  }
  co_return reply.SerializeAsString();
}

// True if a state differs from what the coordinator thinks, so that it should be told at once.
bool WorkerHost::has_news(const PeerId& peer, const proto::RenewRequest& request) const {
  return std::any_of(request.leases().begin(), request.leases().end(), [&](const auto& asked) {
    const auto lease = table_.find({request.run(), asked.worker()});
    if (!lease || lease->holder != peer || asked.epoch() < lease->epoch) return true;
    return static_cast<std::uint32_t>(state_of(lease->state)) != asked.known_state();
  });
}

void WorkerHost::describe(const PeerId& peer, const LeaseKey& key, const proto::RenewRequest::Lease& asked,
                          proto::RenewReply::Worker& answer, std::size_t& event_bytes) {
  answer.set_worker(key.worker);
  answer.set_epoch(asked.epoch());
  const auto lease = table_.find(key);
  const auto found = work_.find(key);
  if (!lease || found == work_.end()) return answer.set_status(proto::RenewReply::UNKNOWN);
  if (lease->holder != peer || asked.epoch() < lease->epoch)
    return answer.set_status(proto::RenewReply::FENCED);
  const Work& work = found->second;
  answer.set_status(proto::RenewReply::LIVE);
  answer.set_epoch(lease->epoch);
  answer.set_state(state_of(lease->state));
  answer.set_attempt(work.attempt);
  answer.set_pid(static_cast<std::uint32_t>(std::max(0, work.pid)));
  answer.set_start_ms(work.start_ms);
  if (const auto usage = runner_.usage(work.attempt)) {
    answer.set_cpu_seconds(usage->cpu_seconds);
    answer.set_memory(usage->memory_bytes);
  }
  const std::uint64_t first = work.next_event - work.events.size() + 1;  // number of the oldest kept
  std::uint64_t next = std::max(first, asked.events_since() + 1);
  for (; next <= work.next_event && answer.events_size() < static_cast<int>(kEventsPerWorkerMax); ++next) {
    const std::string& event = work.events[static_cast<std::size_t>(next - first)];
    if (event_bytes + event.size() > kEventBytesPerReplyMax) break;
    event_bytes += event.size();
    answer.add_events(event);
  }
  answer.set_next_event(next - 1);
  if (lease->state != LeaseState::Ended) return;
  if (next <= work.next_event)
    return answer.set_state(proto::RenewReply::RUNNING);  // its last words come first
  const runner::ExitRecord record = work.exit.value_or(runner::ExitRecord{.reason = "UNKNOWN_EXIT"});
  auto& exit = *answer.mutable_exit();
  exit.set_reason(record.reason);
  if (record.code) exit.set_code(*record.code);
  if (record.signal) exit.set_signal(*record.signal);
  exit.set_detail(record.detail.substr(0, kTextBytesMax));
  exit.set_ended_unix(record.ended_unix);
  exit.set_memory_peak(record.memory_peak_bytes);
  exit.set_cpu_seconds(static_cast<double>(record.cpu_usec) / 1e6);
}

asio::awaitable<Result<Bytes>> WorkerHost::log(PeerId peer, proto::LogRequest request) {
  const auto kept = std::find_if(archive_.begin(), archive_.end(), [&](const Archive& archive) {
    return archive.attempt == request.attempt();
  });
  if (kept == archive_.end() || kept->holder != peer) {
    co_return Error{ErrorCode::NotFound, "no log of " + request.attempt() + " is kept here for you"};
  }
  const auto deadline = clock_.now() + std::chrono::milliseconds(request.wait_ms());
  for (;;) {
    const auto chunk = runner_.read_log(request.attempt(), request.offset(), request.bytes_max());
    if (!chunk) co_return chunk.error();
    if (!chunk->frames.empty() || chunk->ended || clock_.now() >= deadline) {
      proto::LogReply reply;
      for (const auto& frame : chunk->frames) {
        auto& out = *reply.add_frames();
        out.set_offset(frame.offset);
        out.set_stream(frame.stream);
        out.set_unix_time(frame.unix_time);
        out.set_content(frame.bytes);
      }
      reply.set_next_offset(chunk->next_offset);
      reply.set_ended(chunk->ended);
      co_return reply.SerializeAsString();
    }
    co_await clock_.sleep_until(std::min(deadline, clock_.now() + kLogPoll));
  }
}

}  // namespace hivemetal::scheduler
