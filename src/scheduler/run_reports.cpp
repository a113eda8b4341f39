// RunState: what nodes report about workers, and what is kept over a restart.
#include <algorithm>
#include <fmt/format.h>

#include "scheduler/run_state.h"

namespace hivemetal::scheduler {

namespace {

constexpr std::size_t kKindLengthMax = 32;
constexpr std::size_t kNoteLengthMax = 500;
constexpr std::uint64_t kEventsRecordedMax = 50'000;  // of one worker: a node may lie, and disks are finite

// The kind under which a worker's message is recorded: its own word, if that is one, and none of ours.
std::string kind_of(const nlohmann::json& said) {
  const auto event = said.find("event");
  if (event == said.end() || !event->is_string()) return "note";
  const auto& word = event->get_ref<const std::string&>();
  const bool plain =
      !word.empty() && word.size() <= kKindLengthMax && std::all_of(word.begin(), word.end(), [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
      });
  if (!plain) return "note";
  static const std::vector<std::string> kOurs = {"submitted", "offers", "placed",   "waiting", "started",
                                                 "lost",      "ended",  "replaced", "fenced",  "resumed",
                                                 "finished",  "failed", "stopped"};
  return std::find(kOurs.begin(), kOurs.end(), word) == kOurs.end() ? word : "worker_" + word;
}

std::string text_of(const nlohmann::json& said) {
  const auto text = said.find("text");
  if (text != said.end() && text->is_string()) return text->get<std::string>().substr(0, kNoteLengthMax);
  std::string line;
  for (const auto& [name, value] : said.items()) {
    if (name == "event" || value.is_structured()) continue;
    line += (line.empty() ? "" : " ") + name + "=" +
            (value.is_string() ? value.get<std::string>() : value.dump());
    if (line.size() > kNoteLengthMax) return line.substr(0, kNoteLengthMax);
  }
  return line;
}

PeerId peer_of(const nlohmann::json& json) {
  const auto peer = PeerId::from_base58(json.get<std::string>());
  return peer ? *peer : PeerId();
}

nlohmann::json text_of_peer(const PeerId& peer) { return peer.empty() ? "" : peer.base58(); }

nlohmann::json json_of(const WorkerExit& exit) {
  nlohmann::json json{{"reason", exit.reason},
                      {"detail", exit.detail},
                      {"ended", exit.ended_unix},
                      {"memory_peak", exit.memory_peak},
                      {"cpu_s", exit.cpu_s}};
  if (exit.code) json["code"] = *exit.code;
  if (exit.signal) json["signal"] = *exit.signal;
  return json;
}

WorkerExit exit_from(const nlohmann::json& json) {
  WorkerExit exit;
  exit.reason = json.at("reason").get<std::string>();
  exit.detail = json.at("detail").get<std::string>();
  exit.ended_unix = json.at("ended").get<double>();
  exit.memory_peak = json.at("memory_peak").get<std::uint64_t>();
  exit.cpu_s = json.at("cpu_s").get<double>();
  if (json.contains("code")) exit.code = json["code"].get<int>();
  if (json.contains("signal")) exit.signal = json["signal"].get<int>();
  return exit;
}

nlohmann::json json_of(const Slot& slot) {
  nlohmann::json attempts = nlohmann::json::array();
  for (const AttemptRef& attempt : slot.attempts) {
    attempts.push_back({{"id", attempt.id}, {"node", attempt.node.base58()}, {"name", attempt.node_name}});
  }
  nlohmann::json json{{"state", static_cast<int>(slot.state)},
                      {"node", text_of_peer(slot.node)},
                      {"name", slot.node_name},
                      {"epoch", slot.epoch},
                      {"restarts", slot.restarts},
                      {"tries", slot.tries},
                      {"pid", slot.pid},
                      {"home", text_of_peer(slot.home)},
                      {"events_seen", slot.events_seen},
                      {"attempts", std::move(attempts)},
                      {"metrics", slot.metrics}};
  if (slot.exit) json["exit"] = json_of(*slot.exit);
  return json;
}

Slot slot_from(const nlohmann::json& json) {
  Slot slot;
  const int state = json.at("state").get<int>();
  if (state < 0 || state > static_cast<int>(SlotState::Dropped)) throw std::out_of_range("state of a slot");
  slot.state = static_cast<SlotState>(state);
  slot.node = peer_of(json.at("node"));
  slot.node_name = json.at("name").get<std::string>();
  slot.epoch = json.at("epoch").get<std::uint64_t>();
  slot.restarts = json.at("restarts").get<std::uint32_t>();
  slot.tries = json.at("tries").get<std::uint32_t>();
  slot.pid = json.at("pid").get<int>();
  slot.home = peer_of(json.at("home"));
  slot.events_seen = json.at("events_seen").get<std::uint64_t>();
  slot.metrics = json.at("metrics");
  for (const auto& attempt : json.at("attempts")) {
    slot.attempts.push_back({attempt.at("id").get<std::string>(), peer_of(attempt.at("node")),
                             attempt.at("name").get<std::string>()});
  }
  if (json.contains("exit")) slot.exit = exit_from(json["exit"]);
  return slot;
}

LeaseState known_of(SlotState state) {
  if (state == SlotState::Running) return LeaseState::Running;
  return state == SlotState::Stopping ? LeaseState::Stopping : LeaseState::Starting;
}

}  // namespace

std::map<PeerId, std::vector<Renewal>> RunState::renewals() const {
  std::map<PeerId, std::vector<Renewal>> renewals;
  if (is_over(phase_)) return renewals;
  for (std::uint32_t worker = 0; worker < slots_.size(); ++worker) {
    const Slot& slot = slots_[worker];
    if (lives(slot.state) || slot.state == SlotState::Stopping) {
      renewals[slot.node].push_back({worker, slot.epoch, slot.events_seen, known_of(slot.state)});
    }
  }
  // A lost worker whose slot is empty may go on if its node comes back; one whose slot is filled is not kept
  // alive.
  for (const Ghost& ghost : ghosts_) {
    if (slots_[ghost.worker].state != SlotState::Waiting) continue;
    renewals[ghost.node].push_back({ghost.worker, ghost.epoch, ghost.events_seen, LeaseState::Starting});
  }
  return renewals;
}

void RunState::renewed(Clock::TimePoint now, const PeerId& node, const std::vector<WorkerReport>& reports) {
  if (is_over(phase_)) return;
  heard_[node] = now;
  for (const WorkerReport& one : reports) {
    if (one.worker >= slots_.size()) continue;
    if (!report_of_ghost(now, node, one)) report(now, node, one);
  }
  end_if_over(now);
}

void RunState::report(Clock::TimePoint now, const PeerId& node, const WorkerReport& report) {
  Slot& slot = slots_[report.worker];
  const bool live = lives(slot.state) || slot.state == SlotState::Stopping;
  if (!live || slot.node != node) return;
  if (report.status != WorkerReport::Status::Live) {
    if (report.epoch != slot.epoch) return;  // the answer to an older question
    if (slot.state == SlotState::Stopping) return move(now, slot, SlotState::Stopped);
    const bool unknown = report.status == WorkerReport::Status::Unknown;
    return lose(now, report.worker, unknown ? "the node knows no such lease" : "the node obeys a newer epoch",
                /*ghost=*/false);
  }
  if (report.attempt == slot.attempts.back().id) alive(now, report.worker, report);
}

void RunState::alive(Clock::TimePoint now, std::uint32_t worker, const WorkerReport& report) {
  Slot& slot = slots_[worker];
  slot.cpu_seconds = report.cpu_seconds;
  slot.memory = report.memory;
  const bool ran = report.state == LeaseState::Running || (report.exit && report.pid > 0);
  if (slot.state == SlotState::Starting && ran) {
    slot.pid = report.pid;
    move(now, slot, SlotState::Running);
    if (phase_ == RunPhase::Waiting) phase_ = RunPhase::Running;
    note("started", slot.node, static_cast<int>(worker),
         fmt::format("worker {} runs on {} as process {}", worker, slot.node_name, report.pid),
         {{"pid", report.pid}, {"start_ms", report.start_ms}, {"attempt", report.attempt}});
    if (slot.gone) {
      const double after_ms = std::chrono::duration<double, std::milli>(now - *slot.gone).count();
      note("replaced", slot.node, static_cast<int>(worker),
           fmt::format("worker {} runs again, {:.2f} s after it was missed", worker, after_ms / 1e3),
           {{"after_ms", after_ms}, {"from", text_of_peer(slot.home)}, {"to", slot.node.base58()}});
      slot.gone.reset();
    }
  }
  worker_said(worker, report);
  if (report.state == LeaseState::Ended) {
    worker_ended(now, worker, report.exit.value_or(WorkerExit{.reason = "UNKNOWN_EXIT"}));
  } else if (slot.state == SlotState::Stopping && report.state != LeaseState::Stopping) {
    actions_.push_back(StopWorker{slot.node, worker, slot.epoch});  // the first word did not arrive
  }
}

void RunState::worker_said(std::uint32_t worker, const WorkerReport& report) {
  Slot& slot = slots_[worker];
  if (report.next_event <= slot.events_seen) return;
  // Answers overlap: an earlier one may have brought the first of these already.
  const std::uint64_t fresh = report.next_event - slot.events_seen;
  const std::size_t skip =
      report.events.size() > fresh ? report.events.size() - static_cast<std::size_t>(fresh) : 0;
  if (fresh > report.events.size()) {
    note("note", slot.node, static_cast<int>(worker),
         fmt::format("{} events of worker {} were dropped: it sends faster than they are fetched",
                     fresh - report.events.size(), worker));
  }
  for (std::size_t i = skip; i < report.events.size(); ++i) {
    const auto& said = report.events[i];
    if (!said.is_object()) continue;
    std::string kind = kind_of(said);
    if (kind == "metrics") slot.metrics = said;
    if (slot.events_recorded++ >= kEventsRecordedMax) continue;
    if (slot.events_recorded == kEventsRecordedMax) {
      note("note", slot.node, static_cast<int>(worker),
           "no more events of this worker are recorded: it said too much");
    }
    note(std::move(kind), slot.node, static_cast<int>(worker), text_of(said), said);
  }
  slot.events_seen = report.next_event;
}

// True if the report is about a lease that we had given up.
bool RunState::report_of_ghost(Clock::TimePoint now, const PeerId& node, const WorkerReport& report) {
  const auto found = std::find_if(ghosts_.begin(), ghosts_.end(), [&](const Ghost& ghost) {
    if (ghost.node != node || ghost.worker != report.worker) return false;
    return report.status == WorkerReport::Status::Live ? ghost.attempt == report.attempt
                                                       : ghost.epoch == report.epoch;
  });
  if (found == ghosts_.end()) return false;
  const Ghost ghost = *found;
  Slot& slot = slots_[ghost.worker];
  if (slot.state != SlotState::Waiting) return true;  // filled meanwhile; lay_ghosts() stops it
  ghosts_.erase(found);
  if (report.status != WorkerReport::Status::Live) return true;

  const auto name = std::find_if(slot.attempts.begin(), slot.attempts.end(),
                                 [&](const AttemptRef& attempt) { return attempt.id == ghost.attempt; });
  AttemptRef attempt{ghost.attempt, ghost.node,
                     name == slot.attempts.end() ? slot.node_name : name->node_name};
  std::erase_if(slot.attempts, [&](const AttemptRef& other) { return other.id == ghost.attempt; });
  slot.node = ghost.node;
  slot.node_name = attempt.node_name;
  slot.attempts.push_back(std::move(attempt));
  slot.epoch = next_epoch();
  slot.events_seen = ghost.events_seen;
  slot.avoid = {};
  slot.pid = report.pid;
  const double after_ms = slot.gone ? std::chrono::duration<double, std::milli>(now - *slot.gone).count() : 0;
  slot.gone.reset();
  move(now, slot, SlotState::Running);
  phase_ = RunPhase::Running;
  note("resumed", node, static_cast<int>(ghost.worker),
       fmt::format("{} answers again before worker {} was replaced; it goes on there", slot.node_name,
                   ghost.worker),
       {{"after_ms", after_ms}, {"attempt", ghost.attempt}, {"epoch", slot.epoch}});
  alive(now, ghost.worker, report);
  return true;
}

nlohmann::json RunState::to_json() const {
  nlohmann::json slots = nlohmann::json::array();
  for (const Slot& slot : slots_) slots.push_back(json_of(slot));
  nlohmann::json ghosts = nlohmann::json::array();
  for (const Ghost& ghost : ghosts_) {
    ghosts.push_back({{"node", ghost.node.base58()},
                      {"worker", ghost.worker},
                      {"epoch", ghost.epoch},
                      {"attempt", ghost.attempt},
                      {"events_seen", ghost.events_seen}});
  }
  return {{"phase", static_cast<int>(phase_)},
          {"outcome", static_cast<int>(outcome_)},
          {"reason", reason_},
          {"epoch", epoch_},
          {"slots", std::move(slots)},
          {"ghosts", std::move(ghosts)}};
}

Result<RunState> RunState::recover(RunSpec spec, RunRules rules, PeerId self, const nlohmann::json& json,
                                   Clock::TimePoint now) {
  RunState run(std::move(spec), rules, std::move(self), now);
  try {
    const auto phase_from = [](const nlohmann::json& value) {
      const int phase = value.get<int>();
      if (phase < 0 || phase > static_cast<int>(RunPhase::Stopped))
        throw std::out_of_range("phase of the run");
      return static_cast<RunPhase>(phase);
    };
    run.phase_ = phase_from(json.at("phase"));
    run.outcome_ = phase_from(json.at("outcome"));
    run.reason_ = json.at("reason").get<std::string>();
    run.epoch_ = json.at("epoch").get<std::uint64_t>();
    if (json.at("slots").size() != run.slots_.size()) throw std::out_of_range("number of slots");
    for (std::size_t i = 0; i < run.slots_.size(); ++i) run.slots_[i] = slot_from(json["slots"][i]);
    for (const auto& ghost : json.at("ghosts")) {
      const auto worker = ghost.at("worker").get<std::uint32_t>();
      if (worker >= run.slots_.size()) throw std::out_of_range("worker of a lost lease");
      run.ghosts_.push_back({.node = peer_of(ghost.at("node")),
                             .worker = worker,
                             .epoch = ghost.at("epoch").get<std::uint64_t>(),
                             .attempt = ghost.at("attempt").get<std::string>(),
                             .events_seen = ghost.at("events_seen").get<std::uint64_t>(),
                             .since = now,
                             .stop_at = now});
    }
  } catch (const std::exception& error) {
    return Error{ErrorCode::Invalid,
                 std::string("the kept state of the run cannot be read: ") + error.what()};
  }
  if (is_over(run.phase_)) return run;
  run.stop_by_ = now + run.spec_.grace + std::chrono::seconds(5);
  std::size_t resumed = 0;
  for (std::uint32_t worker = 0; worker < run.slots_.size(); ++worker) {
    Slot& slot = run.slots_[worker];
    slot.since = slot.not_before = now;
    // Nobody knows whether the node got our request for a lease: it answers to a renewal.
    if (slot.state == SlotState::Placing) slot.state = SlotState::Starting;
    const bool live = lives(slot.state) || slot.state == SlotState::Stopping;
    if (!live) continue;
    ++resumed;
    slot.epoch = run.next_epoch();
    run.heard_[slot.node] = now + (rules.recovery_grace - rules.lost_after);
    if (slot.state == SlotState::Stopping) run.actions_.push_back(StopWorker{slot.node, worker, slot.epoch});
  }
  run.note("resumed", {}, -1, fmt::format("the coordinator is back; {} workers are asked for", resumed),
           {{"workers", resumed}, {"epoch", run.epoch_}});
  return run;
}

}  // namespace hivemetal::scheduler
