// The coordinator's view of one run: which worker is where, what is to be done next. No I/O: time, offers,
// answers and silence come in as calls, actions go out as values. coordinator.h carries them to the nodes.
//
// A run has `workers_max` *slots*, one per worker. The state keeps every slot filled as long as the rules
// allow:
//
//      Waiting ──offers──▶ Placing ──lease──▶ Starting ──▶ Running ──exit 0──▶ Finished
//         ▲ ▲                 │ refused           │            │
//         │ └─────────────────┘                   ▼            ▼ node silent, worker failed
//         └──────────────── replaced, with a back-off where it is due ──▶ Failed (restarts exhausted)
//
//   - A run starts when at least workers_min can be placed, and grows to workers_max when nodes appear.
//   - A node that has not answered for `lost_after` is lost: its workers are placed elsewhere at once. A
//   handler that
//     answers "unknown lease" loses its worker at once. Losing a node is never the worker's fault and no
//     restart.
//   - If *all* other nodes fall silent at the same moment (and there are two or more), it is more likely that
//   we are cut
//     off: they are lost only after `isolated_after`.
//   - A worker that ends with code 0 is finished. One that fails is restarted, at most restarts_max times;
//   the first
//     restart after a kill is immediate, later ones wait backoff, 2·backoff, 4·backoff, … Restarts are
//     forgotten after `restarts_forgotten` of good work.
//   - A lost node that comes back while its slot is still empty keeps its worker, under a new epoch. If the
//   slot has
//     been filled, it is told to stop.
//   - The run is finished when no slot has work left and workers_min have finished; it has failed when fewer
//   than
//     workers_min slots are left that may still run. Slots that never ran are dropped when the first worker
//     finishes.
//
// Every decision takes the next *epoch* of the run. Nodes refuse older ones.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include <nlohmann/json.hpp>

#include "base/clock.h"
#include "base/result.h"
#include "scheduler/event.h"
#include "scheduler/placement.h"

namespace hivemetal::scheduler {

struct RunSpec {
  std::string id;
  std::string name;
  std::uint32_t workers_min = 1;
  std::uint32_t workers_max = 1;
  Grant grant;
  std::uint32_t restarts_max = 3;
  std::chrono::milliseconds backoff{5'000};
  std::chrono::milliseconds grace{20'000};
};

struct RunRules {
  std::chrono::milliseconds lost_after{1'500};
  std::chrono::milliseconds isolated_after{5'000};
  std::chrono::milliseconds recovery_grace{3'000};   // for the nodes' first answer after our own restart
  std::chrono::milliseconds ask_again{1'000};        // when a worker found no place
  std::chrono::milliseconds place_patience{30'000};  // for a place, once enough others have finished
  std::chrono::milliseconds ghost_kept{
      60'000};  // how long a lost lease is looked for; more than a lease's ttl
  std::chrono::milliseconds restarts_forgotten{600'000};
};

enum class RunPhase { Waiting, Running, Stopping, Finished, Failed, Stopped };
enum class SlotState { Waiting, Placing, Starting, Running, Stopping, Finished, Failed, Stopped, Dropped };

std::string_view name_of(RunPhase phase);
std::string_view name_of(SlotState state);
inline bool is_over(RunPhase phase) { return phase >= RunPhase::Finished; }
inline bool lives(SlotState state) { return state == SlotState::Starting || state == SlotState::Running; }

// How a worker's process ended, as its node reported it.
struct WorkerExit {
  std::string reason;  // of runner::ExitRecord
  std::optional<int> code;
  std::optional<int> signal;
  std::string detail;
  double ended_unix = 0;
  std::uint64_t memory_peak = 0;
  double cpu_s = 0;

  bool finished() const { return reason == "EXIT" && code == 0; }
  std::string text() const;  // "exit code 1", "killed by signal 9", "out of memory"
};

// One attempt to run a worker: what logs need to find it again.
struct AttemptRef {
  std::string id;
  PeerId node;
  std::string node_name;
};

struct Slot {
  SlotState state = SlotState::Waiting;
  PeerId node;  // where it is or is being placed; empty while Waiting
  std::string node_name;
  std::uint64_t epoch = 0;
  std::uint32_t restarts = 0;  // counted against restarts_max
  std::uint32_t losses = 0;    // of nodes under it, in quick succession
  std::uint32_t tries = 0;     // attempts so far, refused ones too: numbers the next
  int pid = 0;
  Clock::TimePoint not_before{};         // Waiting: no earlier than this
  Clock::TimePoint since{};              // when it came into this state
  std::optional<Clock::TimePoint> gone;  // when its predecessor was noticed to be gone; until it runs again
  PeerId home;                           // where it ran last
  PeerId avoid;
  std::uint64_t events_seen = 0;  // sequence number of the last worker event of this attempt
  std::uint64_t events_recorded = 0;
  std::vector<AttemptRef> attempts;  // all of them, oldest first
  std::optional<WorkerExit> exit;    // of the last one that ended
  nlohmann::json metrics;            // the last metrics event; null if there is none
  double cpu_seconds = 0;            // usage of the current attempt
  std::uint64_t memory = 0;
};

// What a node says about one worker in its answer to a renewal.
struct WorkerReport {
  enum class Status { Live, Unknown, Fenced } status = Status::Live;
  std::uint32_t worker = 0;
  std::uint64_t epoch = 0;  // that the node holds
  LeaseState state = LeaseState::Running;
  std::string attempt;
  int pid = 0;
  double start_ms = 0;  // what the start took
  std::optional<WorkerExit> exit;
  double cpu_seconds = 0;
  std::uint64_t memory = 0;
  std::uint64_t next_event = 0;        // sequence number of the last of `events`
  std::vector<nlohmann::json> events;  // what the worker said since
  std::uint64_t events_dropped = 0;    // that did not fit into the node's queue
};

// What RunState wants done.
struct AskOffers {
  std::uint32_t slots;
};  // answer with offers()
struct TakeLease {  // answer with lease_taken() or lease_failed()
  std::uint32_t worker;
  PeerId node;
  std::uint64_t offer;
  std::uint64_t epoch;
  std::uint32_t attempt;  // 1, 2, 3, … of this worker
};
struct DeclineOffer {
  PeerId node;
  std::uint64_t offer;
};
struct StopWorker {
  PeerId node;
  std::uint32_t worker;
  std::uint64_t epoch;
};  // no answer needed: renewals tell
using Action = std::variant<AskOffers, TakeLease, DeclineOffer, StopWorker>;

// A lease to renew at a node.
struct Renewal {
  std::uint32_t worker;
  std::uint64_t epoch;
  std::uint64_t events_since;
  LeaseState known;  // as far as we know
};

class RunState {
 public:
  RunState(RunSpec spec, RunRules rules, PeerId self, Clock::TimePoint now);

  // Continues a run from to_json() after a restart of the daemon: all leases are resumed under the next
  // epoch.
  static Result<RunState> recover(RunSpec spec, RunRules rules, PeerId self, const nlohmann::json& json,
                                  Clock::TimePoint now);
  nlohmann::json to_json() const;

  // Time has passed. Call it at least ten times a second.
  void tick(Clock::TimePoint now);

  // The answer to AskOffers: everybody who offered. `asked` nodes were asked; `refusals` says why others did
  // not offer.
  void offers(Clock::TimePoint now, const std::vector<Candidate>& candidates, std::size_t asked,
              const std::vector<std::string>& refusals);

  void lease_taken(Clock::TimePoint now, std::uint32_t worker, std::uint64_t epoch,
                   const std::string& attempt);
  // `refused`: the node said no. Otherwise nobody knows whether it has started the worker.
  void lease_failed(Clock::TimePoint now, std::uint32_t worker, std::uint64_t epoch, bool refused,
                    const std::string& why);

  // A node answered a renewal.
  void renewed(Clock::TimePoint now, const PeerId& node, const std::vector<WorkerReport>& reports);

  // A node took a StopWorker.
  void stop_taken(Clock::TimePoint now, const PeerId& node, std::uint32_t worker, std::uint64_t epoch);

  // Our own network is down: nobody's silence up to now counts.
  void excuse_silence(Clock::TimePoint now);

  // There may be new candidates: what waits for a place asks at once.
  void ask_now(Clock::TimePoint now) { ask_at_ = now; }

  void stop(Clock::TimePoint now, const std::string& why);

  // What is to be renewed, by node: workers that live there, and lost ones that may come back.
  std::map<PeerId, std::vector<Renewal>> renewals() const;

  std::vector<Action> take_actions();
  std::vector<Event> take_events();
  bool take_changed();  // to_json() says something new since the last call

  const RunSpec& spec() const { return spec_; }
  RunPhase phase() const { return phase_; }
  const std::string& reason() const { return reason_; }  // why it is over, or what it waits for
  std::uint64_t epoch() const { return epoch_; }
  const std::vector<Slot>& slots() const { return slots_; }

 private:
  // A lease that we gave up because its node was silent. Its worker may live on until the lease ends there.
  struct Ghost {
    PeerId node;
    std::uint32_t worker = 0;
    std::uint64_t epoch = 0;
    std::string attempt;
    std::uint64_t events_seen = 0;
    Clock::TimePoint since{};
    Clock::TimePoint stop_at{};  // when the next attempt to stop it is due, once its slot is filled
  };

  void note(std::string kind, const PeerId& node, int worker, std::string text, nlohmann::json data = {});
  void move(Clock::TimePoint now, Slot& slot, SlotState state);
  void lose_silent_nodes(Clock::TimePoint now);
  void lay_ghosts(Clock::TimePoint now);
  void lose(Clock::TimePoint now, std::uint32_t worker, const std::string& why, bool ghost);
  void wait_again(Clock::TimePoint now, Slot& slot, std::chrono::milliseconds delay);
  void report(Clock::TimePoint now, const PeerId& node, const WorkerReport& report);
  bool report_of_ghost(Clock::TimePoint now, const PeerId& node, const WorkerReport& report);
  void alive(Clock::TimePoint now, std::uint32_t worker, const WorkerReport& report);
  void worker_said(std::uint32_t worker, const WorkerReport& report);
  void worker_ended(Clock::TimePoint now, std::uint32_t worker, const WorkerExit& exit);
  void restart(Clock::TimePoint now, std::uint32_t worker, const WorkerExit& exit);
  void finish_slot(Clock::TimePoint now, std::uint32_t worker);
  void ask_if_due(Clock::TimePoint now);
  std::vector<WorkerToPlace> due(Clock::TimePoint now) const;
  void take(Clock::TimePoint now, const Candidate& candidate, const Placement& placement);
  void wait_for_place(Clock::TimePoint now, std::string why, nlohmann::json data);
  void settle_offers();
  void end_if_over(Clock::TimePoint now);
  void stop_all(Clock::TimePoint now, RunPhase outcome, const std::string& why);
  void over(RunPhase phase);
  std::uint64_t next_epoch();
  std::size_t count(std::initializer_list<SlotState> states) const;

  RunSpec spec_;
  RunRules rules_;
  PeerId self_;
  RunPhase phase_ = RunPhase::Waiting;
  RunPhase outcome_ = RunPhase::Stopped;  // what Stopping ends in
  std::string reason_;
  std::uint64_t epoch_ = 0;
  std::vector<Slot> slots_;
  std::vector<Ghost> ghosts_;
  std::map<PeerId, Clock::TimePoint> heard_;  // last answer of nodes that hold leases
  std::map<PeerId, std::uint32_t> failures_;  // by node
  std::vector<DeclineOffer> open_offers_;     // that leases are being taken of
  bool asking_ = false;
  bool cut_off_ = false;  // all nodes are silent, and we said so
  Clock::TimePoint ask_at_{};
  Clock::TimePoint stop_by_{};
  std::vector<Action> actions_;
  std::vector<Event> events_;
  bool changed_ = true;
};

}  // namespace hivemetal::scheduler
