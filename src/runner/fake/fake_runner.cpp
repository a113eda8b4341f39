#include "runner/fake/fake_runner.h"

#include <fmt/format.h>

#include "base/check.h"

namespace hivemetal::runner {

FakeRunner::Attempt& FakeRunner::at(const AttemptId& id) {
  const auto found = attempts_.find(id);
  HIVEMETAL_CHECK(found != attempts_.end());
  return found->second;
}

asio::awaitable<void> FakeRunner::end_later(AttemptId id, Clock::Duration delay, ExitRecord exit) {
  co_await clock_.sleep_for(delay);
  if (attempts_.contains(id)) end(id, std::move(exit));
}

// Renewals move the end while this sleeps; hence the loop.
asio::awaitable<void> FakeRunner::watch_lease(AttemptId id) {
  while (true) {
    const auto found = attempts_.find(id);
    if (found == attempts_.end() || found->second.status.state == AttemptState::Ended) co_return;
    const Clock::TimePoint until = found->second.lease_end.value_or(clock_.now());
    if (until <= clock_.now()) break;
    co_await clock_.sleep_until(until);
  }
  end(id, ExitRecord{.reason = "LEASE_EXPIRED", .signal = 15});
}

void FakeRunner::end(const AttemptId& id, ExitRecord exit) {
  Attempt& attempt = at(id);
  if (attempt.status.state == AttemptState::Ended) return;
  exit.started_unix = attempt.status.exit ? attempt.status.exit->started_unix : 0;
  exit.ended_unix = clock_.unix_time();
  attempt.status.state = AttemptState::Ended;
  attempt.status.exit = std::move(exit);
  if (on_end_) on_end_(AttemptStatus(attempt.status));
}

void FakeRunner::print(const AttemptId& id, std::uint8_t stream, Bytes bytes) {
  Attempt& attempt = at(id);
  const std::uint64_t offset =
      attempt.log.empty() ? 0 : attempt.log.back().offset + attempt.log.back().bytes.size();
  attempt.log.push_back({offset, stream, clock_.unix_time(), std::move(bytes)});
}

std::optional<Clock::TimePoint> FakeRunner::lease_end(const AttemptId& id) const {
  const auto found = attempts_.find(id);
  return found == attempts_.end() ? std::nullopt : found->second.lease_end;
}

asio::awaitable<Result<AttemptStatus>> FakeRunner::start(AttemptSpec spec) {
  const AttemptId id = spec.id;
  if (!is_valid_attempt_id(id)) co_return Error{ErrorCode::Invalid, fmt::format("'{}' is no attempt id", id)};
  if (attempts_.contains(id)) co_return Error{ErrorCode::Invalid, fmt::format("attempt {} exists", id)};
  started_.push_back(spec);
  const Script script = script_ ? script_(spec) : Script{};
  attempts_[id] = {{id, AttemptState::Starting, 0, 0, work_folder(id), std::nullopt}, script, {}, {}, {}};
  if (script.start_takes > Clock::Duration::zero()) co_await clock_.sleep_for(script.start_takes);
  Attempt& attempt = at(id);
  if (script.start_fails) {
    attempt.status.state = AttemptState::Ended;
    attempt.status.exit = ExitRecord{.reason = "LAUNCH_FAILED", .detail = script.start_fails->message};
    co_return *script.start_fails;
  }
  attempt.status.state = AttemptState::Running;
  attempt.status.pid = next_pid_++;
  if (spec.lease.count() > 0) {
    attempt.lease_end = clock_.now() + spec.lease;
    tasks_.spawn("lease of " + id, watch_lease(id));
  }
  if (script.ends_after) tasks_.spawn("end of " + id, end_later(id, *script.ends_after, script.exit));
  co_return attempt.status;
}

asio::awaitable<Result<ExitRecord>> FakeRunner::stop(AttemptId id, std::string reason) {
  if (!attempts_.contains(id)) co_return Error{ErrorCode::NotFound, fmt::format("no attempt {}", id)};
  if (at(id).status.state != AttemptState::Ended) {
    at(id).status.state = AttemptState::Stopping;
    const Clock::Duration takes = at(id).script.stop_takes;
    if (takes > Clock::Duration::zero()) co_await clock_.sleep_for(takes);
    end(id, ExitRecord{.reason = std::move(reason), .signal = 15});
  }
  co_return *at(id).status.exit;
}

Result<void> FakeRunner::renew(const AttemptId& id, std::chrono::milliseconds duration) {
  const auto found = attempts_.find(id);
  if (found == attempts_.end() || found->second.status.state == AttemptState::Ended) {
    return Error{ErrorCode::NotFound, fmt::format("attempt {} is not running", id)};
  }
  const bool watched = found->second.lease_end.has_value();
  found->second.lease_end = clock_.now() + duration;
  if (!watched) tasks_.spawn("lease of " + id, watch_lease(id));
  return {};
}

asio::awaitable<Result<std::vector<AttemptStatus>>> FakeRunner::adopt() { co_return attempts(); }

std::vector<AttemptStatus> FakeRunner::attempts() const {
  std::vector<AttemptStatus> statuses;
  for (const auto& [id, attempt] : attempts_) statuses.push_back(attempt.status);
  return statuses;
}

Result<Usage> FakeRunner::usage(const AttemptId& id) const {
  const auto found = attempts_.find(id);
  if (found == attempts_.end()) return Error{ErrorCode::NotFound, fmt::format("no attempt {}", id)};
  return found->second.usage;
}

Result<LogChunk> FakeRunner::read_log(const AttemptId& id, std::uint64_t offset,
                                      std::size_t bytes_max) const {
  const auto found = attempts_.find(id);
  if (found == attempts_.end()) return Error{ErrorCode::NotFound, fmt::format("no attempt {}", id)};
  LogChunk chunk;
  chunk.next_offset = offset;
  std::size_t bytes = 0;
  bool complete = true;
  for (const LogChunk::Frame& frame : found->second.log) {
    if (frame.offset < offset) continue;
    if (bytes > 0 && bytes + frame.bytes.size() > bytes_max) {
      complete = false;
      break;
    }
    bytes += frame.bytes.size();
    chunk.frames.push_back(frame);
    chunk.next_offset = frame.offset + frame.bytes.size();
  }
  chunk.ended = complete && found->second.status.state == AttemptState::Ended;
  return chunk;
}

asio::awaitable<Result<void>> FakeRunner::remove(AttemptId id) {
  const auto found = attempts_.find(id);
  if (found == attempts_.end()) co_return Error{ErrorCode::NotFound, fmt::format("no attempt {}", id)};
  if (found->second.status.state != AttemptState::Ended) {
    co_return Error{ErrorCode::Refused, fmt::format("attempt {} is running; stop it first", id)};
  }
  attempts_.erase(found);
  co_return Result<void>{};
}

asio::awaitable<Result<void>> FakeRunner::remove_kept(std::string) { co_return Result<void>{}; }

}  // namespace hivemetal::runner
