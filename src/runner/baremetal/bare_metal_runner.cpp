#include "runner/baremetal/bare_metal_runner.h"

#include <algorithm>
#include <fmt/format.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <boost/asio/buffer.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/read_until.hpp>

#include "base/deadline.h"
#include "base/log.h"
#include "runner/attempt/log_frames.h"
#include "runner/baremetal/environment.h"

namespace hivemetal::runner {

namespace {

using namespace std::chrono_literals;

constexpr auto kLaunchMax = 60s;
constexpr auto kGuardEndMax = 5s;  // between the end of what it says and its own end
constexpr auto kKillMax = 40s;     // the guard gives up after 30 s of killing
constexpr std::size_t kLineMax = kMessageSizeMax;

template <class Work>
asio::awaitable<std::invoke_result_t<Work>> call(Work work) {
  co_return work();
}

asio::awaitable<Result<bool>> wait_for_change(Notification& changed) {
  co_await changed.wait();
  co_return true;
}

asio::awaitable<Result<bool>> wait_readable(asio::posix::stream_descriptor& descriptor) {
  const auto [error] = co_await descriptor.async_wait(asio::posix::stream_descriptor::wait_read, use_result);
  if (error) co_return Error{ErrorCode::Cancelled, error.message()};
  co_return true;
}

ExitRecord ended_without_record(std::string reason, std::string detail) {
  ExitRecord exit;
  exit.reason = std::move(reason);
  exit.detail = std::move(detail);
  exit.ended_unix = unix_time_now();
  return exit;
}

ExitRecord fallback_of(Adoption action) {
  switch (action) {
    case Adoption::LostReboot:
      return ended_without_record("LOST_REBOOT", "the machine was restarted");
    case Adoption::UnknownExit:
      return ended_without_record("UNKNOWN_EXIT", "its guard is gone and left no record");
    case Adoption::Undo:
      return ended_without_record("LAUNCH_FAILED", "the node went down during the launch");
    default:
      return ended_without_record("LOST_GUARD", "its guard was killed");
  }
}

Error not_found(const AttemptId& id) {
  return {ErrorCode::NotFound, fmt::format("no attempt {} on this node", id)};
}

std::uint64_t number_after(const std::string& text, std::string_view key) {
  const std::size_t at = text.find(key);
  return at == std::string::npos ? 0 : std::strtoull(text.c_str() + at + key.size(), nullptr, 10);
}

}  // namespace

BareMetalRunner::BareMetalRunner(asio::any_io_executor executor, Clock& clock, std::unique_ptr<Host> host)
    : executor_(executor), clock_(clock), host_(std::move(host)), tasks_(executor) {}

BareMetalRunner::~BareMetalRunner() { blocking_.join(); }

Result<std::unique_ptr<BareMetalRunner>> BareMetalRunner::open(asio::any_io_executor executor, Clock& clock,
                                                               BareMetalOptions options) {
  auto host = Host::open(std::move(options));
  if (!host) return host.error();
  return std::unique_ptr<BareMetalRunner>(new BareMetalRunner(std::move(executor), clock, std::move(*host)));
}

template <class Work>
asio::awaitable<std::invoke_result_t<Work>> BareMetalRunner::blocking(Work work) {
  return asio::co_spawn(blocking_, call(std::move(work)), asio::use_awaitable);
}

asio::awaitable<void> BareMetalRunner::close() {
  co_await tasks_.close();
  co_await blocking([host = host_.get()] {
    host->remove_empty_cgroups();
    return true;
  });
}

BareMetalRunner::AttemptPtr BareMetalRunner::insert(const AttemptId& id) {
  auto attempt = std::make_shared<Attempt>(executor_);
  attempt->status.id = id;
  attempt->status.state = AttemptState::Starting;
  attempt->status.work = host_->work_of(id);
  attempts_[id] = attempt;
  return attempt;
}

BareMetalRunner::AttemptPtr BareMetalRunner::find(const AttemptId& id) const {
  const auto found = attempts_.find(id);
  return found == attempts_.end() ? nullptr : found->second;
}

void BareMetalRunner::attach(Attempt& attempt, GuardHandle guard) {
  boost::system::error_code ignored;
  attempt.socket.assign(asio::local::stream_protocol(), guard.socket.release(), ignored);
  if (guard.pidfd) attempt.pidfd.assign(guard.pidfd.release(), ignored);
  attempt.status.uid = attempt.record.uid.value_or(static_cast<std::uint32_t>(::geteuid()));
}

bool BareMetalRunner::say(Attempt& attempt, const Command& command) {
  if (!attempt.socket.is_open()) return false;
  const std::string line = encode(command) + "\n";
  const ssize_t sent =
      ::send(attempt.socket.native_handle(), line.data(), line.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  return sent == static_cast<ssize_t>(line.size());
}

// --- start ---

asio::awaitable<Result<AttemptStatus>> BareMetalRunner::start(AttemptSpec spec) {
  if (auto checked = check(spec); !checked) co_return checked.error();
  if (attempts_.contains(spec.id)) {
    co_return Error{ErrorCode::Invalid,
                    fmt::format("attempt {} exists; remove it, or take another id", spec.id)};
  }
  for (const auto& [id, other] : attempts_) {
    if (!spec.keep.empty() && other->keep == spec.keep && other->status.state != AttemptState::Ended) {
      co_return Error{ErrorCode::Refused,
                      fmt::format("attempt {} still uses the kept folder {}", id, spec.keep)};
    }
  }
  const AttemptId id = spec.id;
  const AttemptPtr attempt = insert(id);
  attempt->keep = spec.keep;
  attempt->grace = spec.grace;
  tasks_.spawn("attempt " + id, launch(attempt, std::move(spec)));

  const auto deadline = clock_.now() + kLaunchMax;
  while (!attempt->ran && !attempt->settled) {
    const auto changed = co_await with_deadline(clock_, deadline, wait_for_change(attempt->changed));
    if (!changed && clock_.now() >= deadline) {
      if (attempt->record.guard.pid > 0) ::kill(attempt->record.guard.pid, SIGKILL);
      co_return Error{ErrorCode::TimedOut,
                      fmt::format("attempt {} did not start within {} s", id, kLaunchMax.count())};
    }
  }
  if (attempt->ran) co_return attempt->status;
  if (attempt->failure) co_return attempt->failure->within("start " + id);
  const ExitRecord& exit = *attempt->status.exit;
  co_return Error{ErrorCode::Refused, fmt::format("start {}: {}: {}", id, exit.reason, exit.detail)};
}

asio::awaitable<void> BareMetalRunner::launch(AttemptPtr attempt, AttemptSpec spec) {
  auto prepared =
      co_await blocking([host = host_.get(), spec = std::move(spec)] { return host->prepare(spec); });
  if (!prepared) {
    attempt->failure = prepared.error();
    attempt->status.state = AttemptState::Ended;
    attempt->status.exit = ended_without_record("LAUNCH_FAILED", prepared.error().message);
    attempt->settled = true;
    attempt->changed.notify_all();
    co_return;
  }
  attempt->record = std::move(prepared->record);
  attach(*attempt, std::move(prepared->guard));
  if (!say(*attempt, {Command::Kind::Go, "", -1}))
    log::warn("runner: guard of {} does not listen", attempt->status.id);
  co_await watch(attempt);
}

// --- while it runs ---

asio::awaitable<void> BareMetalRunner::watch(AttemptPtr attempt) {
  co_await listen(attempt);
  co_await await_guard(attempt);
  co_await settle(attempt, attempt->said.value_or(fallback_of(Adoption::LostGuard)));
}

// Ends when the guard closes its side.
asio::awaitable<void> BareMetalRunner::listen(AttemptPtr attempt) {
  std::string input;
  while (true) {
    const auto [error, size] = co_await asio::async_read_until(
        attempt->socket, asio::dynamic_buffer(input, kLineMax), '\n', use_result);
    if (error == asio::error::operation_aborted) throw boost::system::system_error(error);
    if (error) co_return;
    const auto state = decode_guard_state(std::string_view(input).substr(0, size));
    input.erase(0, size);
    if (!state) {
      log::error("runner: guard of {}: {}", attempt->status.id, state.error().message);
      co_return;
    }
    // On disk before anybody hears of it: were guard and daemon to die now, the attempt has run all the same.
    if (state->phase == GuardState::Phase::Running && !attempt->ran) {
      attempt->record.state = AttemptRecord::State::Running;
      attempt->record.worker = state->worker;
      co_await blocking([host = host_.get(), record = attempt->record] {
        return static_cast<bool>(host->save(record, Durability::Cached));
      });
    }
    hear(*attempt, *state);
  }
}

void BareMetalRunner::hear(Attempt& attempt, const GuardState& state) {
  if (state.phase == GuardState::Phase::Ended) {
    attempt.said = state.exit;
    return;
  }
  if (state.phase == GuardState::Phase::Waiting) return;
  const bool stopping = state.phase == GuardState::Phase::Stopping || attempt.stop_asked;
  attempt.status.state = stopping ? AttemptState::Stopping : AttemptState::Running;
  attempt.status.pid = state.worker.pid;
  attempt.record.worker = state.worker;
  if (attempt.record.state == AttemptRecord::State::Launching)
    attempt.record.state = AttemptRecord::State::Running;
  attempt.ran = true;
  attempt.changed.notify_all();
}

asio::awaitable<void> BareMetalRunner::await_guard(AttemptPtr attempt) {
  if (!attempt->pidfd.is_open()) co_return;
  const auto gone =
      co_await with_deadline(clock_, clock_.now() + kGuardEndMax, wait_readable(attempt->pidfd));
  if (!gone) {
    if (is_alive(attempt->record.guard)) ::kill(attempt->record.guard.pid, SIGKILL);
    static_cast<void>(
        co_await with_deadline(clock_, clock_.now() + kGuardEndMax, wait_readable(attempt->pidfd)));
  }
  siginfo_t info{};
  ::waitid(P_PIDFD, static_cast<id_t>(attempt->pidfd.native_handle()), &info,
           WEXITED | WNOHANG);  // ours or adopted
}

asio::awaitable<void> BareMetalRunner::settle(AttemptPtr attempt, ExitRecord fallback) {
  attempt->settling = true;
  attempt->record =
      co_await blocking([host = host_.get(), record = attempt->record, fallback = std::move(fallback)] {
        return host->conclude(record, fallback);
      });
  boost::system::error_code ignored;
  attempt->socket.close(ignored);
  attempt->pidfd.close(ignored);
  attempt->status.state = AttemptState::Ended;
  attempt->status.exit = attempt->record.exit;
  attempt->settled = true;
  attempt->changed.notify_all();
  if (attempt->ran && on_end_) on_end_(AttemptStatus(attempt->status));
}

Result<void> BareMetalRunner::renew(const AttemptId& id, std::chrono::milliseconds duration) {
  const AttemptPtr attempt = find(id);
  if (!attempt || attempt->status.state == AttemptState::Ended) return not_found(id);
  if (duration.count() <= 0) return Error{ErrorCode::Invalid, "a lease must be longer than 0 ms"};
  if (!say(*attempt, {Command::Kind::Renew, "", duration.count()})) {
    return Error{ErrorCode::Unavailable, fmt::format("the guard of {} does not listen", id)};
  }
  return {};
}

// --- stop ---

asio::awaitable<bool> BareMetalRunner::settled(AttemptPtr attempt, Clock::TimePoint deadline) {
  while (!attempt->settled) {
    const auto changed = co_await with_deadline(clock_, deadline, wait_for_change(attempt->changed));
    if (!changed && clock_.now() >= deadline) co_return attempt->settled;
  }
  co_return true;
}

asio::awaitable<Result<ExitRecord>> BareMetalRunner::stop(AttemptId id, std::string reason) {
  const AttemptPtr attempt = find(id);
  if (!attempt) co_return not_found(id);
  if (!attempt->settled && !attempt->settling && !attempt->stop_asked) {
    attempt->stop_asked = true;
    tasks_.spawn("stop " + id, ask_to_stop(attempt, std::move(reason)));
  }
  if (!co_await settled(attempt, clock_.now() + kLaunchMax + attempt->grace + 2 * kKillMax)) {
    co_return Error{ErrorCode::TimedOut, fmt::format("attempt {} cannot be killed", id)};
  }
  if (attempt->failure) co_return attempt->failure->within("start " + id);
  co_return *attempt->status.exit;
}

// The intention is durable before the first signal: a daemon that starts in between carries on.
asio::awaitable<void> BareMetalRunner::ask_to_stop(AttemptPtr attempt, std::string reason) {
  while (!attempt->ran && !attempt->settled) co_await attempt->changed.wait();
  if (attempt->settled || attempt->settling) co_return;
  attempt->record.state = AttemptRecord::State::Stopping;
  attempt->record.reason = reason;
  attempt->status.state = AttemptState::Stopping;
  const bool saved = co_await blocking(
      [host = host_.get(), record = attempt->record] { return static_cast<bool>(host->save(record)); });
  if (!saved) log::warn("runner: {}: the wish to stop could not be written down", attempt->status.id);
  if (!attempt->settling) co_await insist(attempt);
}

// What cannot be said to a guard that is ending needs no saying; a guard that hangs is killed when it is
// late.
asio::awaitable<void> BareMetalRunner::insist(AttemptPtr attempt) {
  say(*attempt, {Command::Kind::Stop, attempt->record.reason, -1});
  if (co_await settled(attempt, clock_.now() + attempt->grace + kKillMax)) co_return;
  log::error("runner: the guard of {} does not stop it; killing the guard", attempt->status.id);
  if (is_alive(attempt->record.guard)) ::kill(attempt->record.guard.pid, SIGKILL);
}

// --- adoption ---

asio::awaitable<Result<std::vector<AttemptStatus>>> BareMetalRunner::adopt() {
  if (!attempts_.empty()) co_return Error{ErrorCode::Invalid, "adopt() comes before the first start()"};
  auto cases = co_await blocking([host = host_.get()] { return host->scan(); });
  std::vector<AttemptId> known;
  for (Host::Case& found : cases) {
    const AttemptPtr attempt = insert(found.record.attempt);
    attempt->record = std::move(found.record);
    attempt->keep = attempt->record.keep;
    attempt->status.uid = attempt->record.uid.value_or(static_cast<std::uint32_t>(::geteuid()));
    attempt->status.pid = attempt->record.worker.pid;
    if (found.action == Adoption::Resume) {
      known.push_back(attempt->status.id);
      attach(*attempt, std::move(found.guard));
      attempt->stop_asked = attempt->record.state == AttemptRecord::State::Stopping;
      if (!attempt->stop_asked) attempt->record.state = AttemptRecord::State::Running;
      hear(*attempt, found.state);
      if (attempt->stop_asked) tasks_.spawn("stop " + attempt->status.id, insist(attempt));
      tasks_.spawn("attempt " + attempt->status.id, watch(attempt));
      continue;
    }
    if (found.action != Adoption::Load) {
      attempt->record = co_await blocking(
          [host = host_.get(), record = attempt->record, fallback = fallback_of(found.action)] {
            return host->conclude(record, fallback);
          });
      log::info("runner: {} ended while no node ran: {}", attempt->status.id, attempt->record.exit->reason);
    }
    if (attempt->record.state != AttemptRecord::State::Cleaned) known.push_back(attempt->status.id);
    attempt->status.state = AttemptState::Ended;
    attempt->status.exit = attempt->record.exit.value_or(ended_without_record("UNKNOWN_EXIT", ""));
    attempt->settled = true;
  }
  co_await blocking([host = host_.get(), known = std::move(known)] {
    host->remove_leftovers(known);
    return true;
  });
  co_return attempts();
}

// --- questions ---

std::vector<AttemptStatus> BareMetalRunner::attempts() const {
  std::vector<AttemptStatus> statuses;
  for (const auto& [id, attempt] : attempts_) statuses.push_back(attempt->status);
  return statuses;
}

Result<Usage> BareMetalRunner::usage(const AttemptId& id) const {
  const AttemptPtr attempt = find(id);
  if (!attempt) return not_found(id);
  Usage usage;
  const AttemptRecord& record = attempt->record;
  if (attempt->status.state == AttemptState::Ended) {
    if (record.exit) usage.cpu_seconds = static_cast<double>(record.exit->cpu_usec) * 1e-6;
    return usage;
  }
  if (!record.memory_usage.empty() && !record.cgroup2.empty()) {
    const auto cpu = read_file(record.cgroup2 + "/cpu.stat").value_or("");
    usage.cpu_seconds = static_cast<double>(number_after(cpu, "usage_usec ")) * 1e-6;
    usage.memory_bytes = number_after(read_file(record.memory_usage).value_or(""), "");
    usage.processes = static_cast<std::uint32_t>(pids_in_cgroup(record.cgroup2).size());
    return usage;
  }
  for (const ProcessStat& process : descendants_of(record.guard.pid, all_processes())) {
    usage.cpu_seconds += static_cast<double>(process.cpu_ticks) / static_cast<double>(::sysconf(_SC_CLK_TCK));
    usage.memory_bytes += process.rss_pages * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
    usage.processes += 1;
  }
  return usage;
}

Result<LogChunk> BareMetalRunner::read_log(const AttemptId& id, std::uint64_t offset,
                                           std::size_t bytes_max) const {
  const AttemptPtr attempt = find(id);
  if (!attempt) return not_found(id);
  const auto folder = host_->folder_of(id) / "log";
  auto chunk = read_log_folder(folder, offset, bytes_max);
  if (!chunk || attempt->status.state != AttemptState::Ended) return chunk;
  const auto rest = read_log_folder(folder, chunk->next_offset, 1);
  chunk->ended = rest && rest->frames.empty();
  return chunk;
}

asio::awaitable<Result<void>> BareMetalRunner::remove(AttemptId id) {
  const AttemptPtr attempt = find(id);
  if (!attempt) co_return not_found(id);
  if (!attempt->settled)
    co_return Error{ErrorCode::Refused, fmt::format("attempt {} is running; stop it first", id)};
  if (attempt->record.state == AttemptRecord::State::Ended) {
    co_return Error{ErrorCode::Refused, fmt::format("attempt {} has processes that cannot be killed", id)};
  }
  attempts_.erase(id);
  co_return co_await blocking([host = host_.get(), id] { return host->remove(id); });
}

asio::awaitable<Result<void>> BareMetalRunner::remove_kept(std::string name) {
  for (const auto& [id, attempt] : attempts_) {
    if (attempt->keep == name && attempt->status.state != AttemptState::Ended) {
      co_return Error{ErrorCode::Refused, fmt::format("attempt {} still uses the kept folder {}", id, name)};
    }
  }
  co_return co_await blocking([host = host_.get(), name] { return host->remove_kept(name); });
}

}  // namespace hivemetal::runner
