#include "scheduler/run_state.h"

#include <algorithm>
#include <fmt/format.h>
#include <set>

#include "base/check.h"

namespace hivemetal::scheduler {

using std::chrono::milliseconds;

namespace {

constexpr milliseconds kDelayMax{60'000};
constexpr milliseconds kGhostStopEvery{1'000};
constexpr milliseconds kLossesForgotten{60'000};
constexpr milliseconds kStopSlack{5'000};  // for the node's own kill after the grace, and its answer

double ms_between(Clock::TimePoint from, Clock::TimePoint to) {
  return std::chrono::duration<double, std::milli>(to - from).count();
}

// 1×, 2×, 4×, … of `base` for n = 1, 2, 3, …
milliseconds doubled(milliseconds base, std::uint32_t n) {
  return std::min(kDelayMax, base * (std::int64_t{1} << std::min<std::uint32_t>(n > 0 ? n - 1 : 0, 16)));
}

// Ends that say nothing about the worker's program.
bool is_loss(const WorkerExit& exit) {
  static const std::set<std::string, std::less<>> kLosses = {"LEASE_EXPIRED", "LOST_GUARD", "LOST_REBOOT",
                                                             "OWNER",         "STOPPED",    "UNKNOWN_EXIT"};
  return kLosses.contains(exit.reason);
}

}  // namespace

std::string_view name_of(RunPhase phase) {
  switch (phase) {
    case RunPhase::Waiting:
      return "waiting";
    case RunPhase::Running:
      return "running";
    case RunPhase::Stopping:
      return "stopping";
    case RunPhase::Finished:
      return "finished";
    case RunPhase::Failed:
      return "failed";
    case RunPhase::Stopped:
      return "stopped";
  }
  return "unknown";
}

std::string_view name_of(SlotState state) {
  switch (state) {
    case SlotState::Waiting:
      return "waiting";
    case SlotState::Placing:
      return "placing";
    case SlotState::Starting:
      return "starting";
    case SlotState::Running:
      return "running";
    case SlotState::Stopping:
      return "stopping";
    case SlotState::Finished:
      return "finished";
    case SlotState::Failed:
      return "failed";
    case SlotState::Stopped:
      return "stopped";
    case SlotState::Dropped:
      return "dropped";
  }
  return "unknown";
}

std::string WorkerExit::text() const {
  const std::string more = detail.empty() ? "" : ": " + detail;
  if (reason == "EXIT") return fmt::format("exit code {}", code.value_or(-1)) + more;
  if (reason == "SIGNAL") return fmt::format("killed by signal {}", signal.value_or(0)) + more;
  if (reason == "OOM") return "out of memory; raise resources.memory" + more;
  if (reason == "DISK_FULL") return "no space left for its files; raise resources.disk" + more;
  if (reason == "LAUNCH_FAILED" || reason == "EXEC_FAILED") return "could not be started" + more;
  if (reason == "OWNER") return "stopped by the owner of the machine" + more;
  return reason + more;
}

RunState::RunState(RunSpec spec, RunRules rules, PeerId self, Clock::TimePoint now)
    : spec_(std::move(spec)), rules_(rules), self_(std::move(self)), slots_(spec_.workers_max), ask_at_(now) {
  HIVEMETAL_CHECK(spec_.workers_min >= 1 && spec_.workers_min <= spec_.workers_max);
  for (Slot& slot : slots_) slot.since = slot.not_before = now;
}

void RunState::tick(Clock::TimePoint now) {
  if (is_over(phase_)) return;
  lose_silent_nodes(now);
  lay_ghosts(now);
  for (Slot& slot : slots_) {
    if (slot.state != SlotState::Running) continue;
    if (now - slot.since >= kLossesForgotten) slot.losses = 0;
    if (now - slot.since >= rules_.restarts_forgotten) slot.restarts = 0;
  }
  if (phase_ == RunPhase::Stopping && now >= stop_by_) return over(outcome_);
  ask_if_due(now);
  end_if_over(now);
}

// Time and silence

void RunState::lose_silent_nodes(Clock::TimePoint now) {
  std::set<PeerId> others;
  for (const Slot& slot : slots_) {
    if (lives(slot.state) && slot.node != self_) others.insert(slot.node);
  }
  const auto silent_for = [&](const PeerId& node) { return now - heard_[node]; };
  // Answers are not in step, so "at the same moment" has some width.
  const bool all_silent =
      others.size() >= 2 && std::all_of(others.begin(), others.end(), [&](const PeerId& node) {
        return silent_for(node) >= rules_.lost_after * 2 / 3;
      });
  const auto limit = all_silent ? rules_.isolated_after : rules_.lost_after;
  if (!all_silent) cut_off_ = false;
  for (std::uint32_t worker = 0; worker < slots_.size(); ++worker) {
    Slot& slot = slots_[worker];
    if (!lives(slot.state)) continue;
    const auto silence = silent_for(slot.node);
    if (silence >= limit) {
      lose(now, worker,
           fmt::format("no answer from the node for {:.1f} s",
                       ms_between({}, Clock::TimePoint(silence)) / 1e3),
           /*ghost=*/true);
    } else if (all_silent && !cut_off_ && silence >= rules_.lost_after) {
      cut_off_ = true;
      note("note", {}, -1,
           fmt::format("all {} other nodes fell silent together: this node may be cut off; waiting {:.0f} s "
                       "before they "
                       "count as lost",
                       others.size(), ms_between({}, Clock::TimePoint(rules_.isolated_after)) / 1e3));
    }
  }
}

void RunState::lay_ghosts(Clock::TimePoint now) {
  std::erase_if(ghosts_, [&](const Ghost& ghost) { return now - ghost.since >= rules_.ghost_kept; });
  for (Ghost& ghost : ghosts_) {
    const SlotState state = slots_[ghost.worker].state;
    if (state == SlotState::Waiting || state == SlotState::Placing || now < ghost.stop_at) continue;
    ghost.stop_at = now + kGhostStopEvery;
    actions_.push_back(StopWorker{ghost.node, ghost.worker, ghost.epoch});
  }
}

void RunState::stop_taken(Clock::TimePoint, const PeerId& node, std::uint32_t worker, std::uint64_t epoch) {
  const auto erased = std::erase_if(ghosts_, [&](const Ghost& ghost) {
    return ghost.node == node && ghost.worker == worker && ghost.epoch == epoch;
  });
  if (erased == 0) return;
  note("fenced", node, static_cast<int>(worker),
       fmt::format("{} is back; its worker {} has been replaced and is stopped there", node.short_name(),
                   worker));
}

void RunState::excuse_silence(Clock::TimePoint now) {
  for (auto& [node, heard] : heard_) heard = std::max(heard, now);
}

// Losing and restarting

void RunState::wait_again(Clock::TimePoint now, Slot& slot, milliseconds delay) {
  slot.home = slot.node;
  slot.node = {};
  slot.pid = 0;
  slot.cpu_seconds = 0;
  slot.memory = 0;
  slot.not_before = now + delay;
  move(now, slot, SlotState::Waiting);
  ask_at_ = std::min(ask_at_, slot.not_before);
}

void RunState::lose(Clock::TimePoint now, std::uint32_t worker, const std::string& why, bool ghost) {
  Slot& slot = slots_[worker];
  const PeerId node = slot.node;
  ++failures_[node];
  if (ghost) {
    ghosts_.push_back({.node = node,
                       .worker = worker,
                       .epoch = slot.epoch,
                       .attempt = slot.attempts.back().id,
                       .events_seen = slot.events_seen,
                       .since = now,
                       .stop_at = now});
  }
  note("lost", node, static_cast<int>(worker),
       fmt::format("worker {} is lost with {}: {}", worker, slot.node_name, why),
       {{"why", why}, {"attempt", slot.attempts.back().id}, {"silent_ms", ms_between(heard_[node], now)}});
  if (!slot.gone) slot.gone = now;
  slot.avoid = node;
  ++slot.losses;
  wait_again(now, slot, slot.losses <= 1 ? milliseconds(0) : doubled(milliseconds(1'000), slot.losses - 1));
}

void RunState::worker_ended(Clock::TimePoint now, std::uint32_t worker, const WorkerExit& exit) {
  Slot& slot = slots_[worker];
  const PeerId node = slot.node;
  slot.exit = exit;
  actions_.push_back(StopWorker{node, worker, next_epoch()});  // the node may forget it
  nlohmann::json data{{"reason", exit.reason},
                      {"attempt", slot.attempts.back().id},
                      {"detail", exit.detail},
                      {"memory_peak", exit.memory_peak},
                      {"cpu_s", exit.cpu_s}};
  if (exit.code) data["code"] = *exit.code;
  if (exit.signal) data["signal"] = *exit.signal;
  note("ended", node, static_cast<int>(worker),
       fmt::format("worker {} ended on {}: {}", worker, slot.node_name, exit.text()), std::move(data));
  if (exit.finished()) return finish_slot(now, worker);
  if (phase_ == RunPhase::Stopping) return move(now, slot, SlotState::Stopped);
  if (is_loss(exit)) return lose(now, worker, exit.text(), /*ghost=*/false);
  restart(now, worker, exit);
}

void RunState::restart(Clock::TimePoint now, std::uint32_t worker, const WorkerExit& exit) {
  Slot& slot = slots_[worker];
  if (slot.restarts >= spec_.restarts_max) {
    note("note", slot.node, static_cast<int>(worker),
         fmt::format("worker {} is given up after {} restarts: {}", worker, slot.restarts, exit.text()));
    slot.home = slot.node;
    return move(now, slot, SlotState::Failed);
  }
  ++slot.restarts;
  // A kill from outside says little about the program or the node.
  const bool killed = exit.reason == "SIGNAL" && slot.restarts == 1;
  if (!killed) ++failures_[slot.node];
  slot.gone = now;
  slot.avoid = {};
  wait_again(now, slot, killed ? milliseconds(0) : doubled(spec_.backoff, slot.restarts));
}

void RunState::finish_slot(Clock::TimePoint now, std::uint32_t worker) {
  slots_[worker].gone.reset();
  slots_[worker].pid = 0;
  move(now, slots_[worker], SlotState::Finished);
  if (phase_ == RunPhase::Stopping) return;
  // The work is coming to its end: who has never had a place is not needed any more.
  auto needed = slots_.size() - count({SlotState::Dropped, SlotState::Failed});
  for (Slot& slot : slots_) {
    if (needed <= spec_.workers_min) break;
    if (slot.state != SlotState::Waiting || !slot.attempts.empty()) continue;
    move(now, slot, SlotState::Dropped);
    --needed;
  }
}

// The end

void RunState::stop(Clock::TimePoint now, const std::string& why) {
  if (is_over(phase_) || phase_ == RunPhase::Stopping) return;
  stop_all(now, RunPhase::Stopped, why);
}

void RunState::stop_all(Clock::TimePoint now, RunPhase outcome, const std::string& why) {
  phase_ = RunPhase::Stopping;
  outcome_ = outcome;
  reason_ = why;
  stop_by_ = now + spec_.grace + kStopSlack;
  for (std::uint32_t worker = 0; worker < slots_.size(); ++worker) {
    Slot& slot = slots_[worker];
    if (slot.state == SlotState::Waiting) move(now, slot, SlotState::Stopped);
    if (!lives(slot.state)) continue;
    slot.epoch = next_epoch();
    actions_.push_back(StopWorker{slot.node, worker, slot.epoch});
    move(now, slot, SlotState::Stopping);
  }
  changed_ = true;
  end_if_over(now);
}

void RunState::end_if_over(Clock::TimePoint now) {
  if (is_over(phase_)) return;
  const auto busy = count(
      {SlotState::Waiting, SlotState::Placing, SlotState::Starting, SlotState::Running, SlotState::Stopping});
  if (phase_ == RunPhase::Stopping) {
    if (busy == 0) over(outcome_);
    return;
  }
  const auto finished = count({SlotState::Finished});
  if (busy + finished < spec_.workers_min) {
    std::string why =
        fmt::format("only {} of at least {} workers can still finish", busy + finished, spec_.workers_min);
    for (const Slot& slot : slots_) {
      if (slot.state == SlotState::Failed && slot.exit) why += "; the last failure: " + slot.exit->text();
      if (slot.state == SlotState::Failed) break;
    }
    return stop_all(now, RunPhase::Failed, why);
  }
  // The others are done; a place for the rest may never come.
  if (finished >= spec_.workers_min && busy == count({SlotState::Waiting})) {
    for (Slot& slot : slots_) {
      if (slot.state != SlotState::Waiting || now - slot.since < rules_.place_patience) continue;
      move(now, slot, SlotState::Dropped);
      return end_if_over(now);
    }
  }
  if (busy == 0) {
    reason_ = fmt::format("{} of {} workers finished", finished, slots_.size());
    over(RunPhase::Finished);
  }
}

void RunState::over(RunPhase phase) {
  for (const Ghost& ghost : ghosts_) actions_.push_back(StopWorker{ghost.node, ghost.worker, ghost.epoch});
  for (Slot& slot : slots_) {
    if (slot.state == SlotState::Stopping || slot.state == SlotState::Placing)
      slot.state = SlotState::Stopped;
  }
  phase_ = phase;
  note(std::string(name_of(phase)), {}, -1,
       fmt::format("the run has {}: {}", phase == RunPhase::Stopped ? "been stopped" : name_of(phase),
                   reason_));
}

// Small things

void RunState::note(std::string kind, const PeerId& node, int worker, std::string text, nlohmann::json data) {
  Event event;
  event.kind = std::move(kind);
  if (!node.empty()) event.node = node.base58();
  event.worker = worker;
  event.text = std::move(text);
  if (!data.is_null()) event.data = std::move(data);
  events_.push_back(std::move(event));
  changed_ = true;
}

void RunState::move(Clock::TimePoint now, Slot& slot, SlotState state) {
  slot.state = state;
  slot.since = now;
  changed_ = true;
}

std::uint64_t RunState::next_epoch() {
  changed_ = true;
  return ++epoch_;
}

std::size_t RunState::count(std::initializer_list<SlotState> states) const {
  return static_cast<std::size_t>(std::count_if(slots_.begin(), slots_.end(), [&](const Slot& slot) {
    return std::find(states.begin(), states.end(), slot.state) != states.end();
  }));
}

std::vector<Action> RunState::take_actions() { return std::exchange(actions_, {}); }
std::vector<Event> RunState::take_events() { return std::exchange(events_, {}); }
bool RunState::take_changed() { return std::exchange(changed_, false); }

}  // namespace hivemetal::scheduler
