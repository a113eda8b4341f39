// Drives the runs that were submitted at this node: asks for offers, takes and renews leases, replaces what
// is lost, and writes down why. The decisions are RunState's; this class carries them over the network and
// into the RunStore.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "base/clock.h"
#include "base/random.h"
#include "base/task_group.h"
#include "runner/runner.h"
#include "scheduler/capacity.h"
#include "scheduler/event.h"
#include "scheduler/node_client.h"
#include "scheduler/run_state.h"
#include "scheduler/run_store.h"

namespace hivemetal::job {
struct JobSpec;
}

namespace hivemetal::scheduler {

struct CoordinatorOptions {
  RunRules rules;
  std::chrono::milliseconds tick{100};
  std::chrono::milliseconds renew_every{500};
  std::chrono::milliseconds renew_wait{450};    // how long a node may hold its answer
  std::chrono::milliseconds lease_ttl{20'000};  // a worker lives this long without us
  std::chrono::milliseconds offer_window{300};  // after the first offer
  std::chrono::milliseconds offer_deadline{1'000};
  std::size_t candidates_max = 64;    // asked at a time
  std::function<Bytes()> membership;  // our proof, for other nodes
  // Whether a node that offers may have our job and its files; `membership` is its proof. Anybody can write a
  // capacity record, so set it. Not asked for ourselves.
  std::function<Result<void>(const PeerId& node, std::string_view membership)> authorize;
  std::function<bool()> network_up;  // false while p2pd is down; may be empty
};

// What `ps`, `top` and the API show of a run.
struct WorkerView {
  std::uint32_t worker = 0;
  std::string state;
  std::string node;  // base58
  std::string node_name;
  std::string attempt;  // the current or last one; empty before the first
  int pid = 0;
  std::uint32_t restarts = 0;
  std::string exit;        // "exit code 1"; empty if no attempt has ended
  nlohmann::json metrics;  // the last ones the worker sent, or null
  double cpu_seconds = 0;
  std::uint64_t memory = 0;
};

struct RunView {
  std::string id;
  std::string name;
  std::string state;  // waiting running stopping finished failed stopped
  std::string reason;
  double submitted_unix = 0;
  double ended_unix = 0;  // 0 while it runs
  std::uint64_t epoch = 0;
  std::uint32_t workers_min = 0;
  std::uint32_t workers_max = 0;
  std::vector<WorkerView> workers;
};

nlohmann::json to_json(const RunView& run);

// Where a reader is in a worker's log, over all its attempts.
struct LogCursor {
  std::uint32_t attempt = 0;  // index, oldest first
  std::uint64_t offset = 0;
};

struct LogPage {
  struct Frame {
    std::uint32_t attempt = 0;
    std::string node_name;
    runner::LogChunk::Frame frame;
  };
  std::vector<Frame> frames;
  LogCursor next;
  bool ended = false;  // nothing will follow
};

class Coordinator {
 public:
  // `candidates` returns the nodes that may be asked: CapacityBoard::known(). What is passed by reference
  // outlives us.
  Coordinator(asio::any_io_executor executor, Clock& clock, NodeClient& nodes, RunStore& store, PeerId self,
              std::function<std::vector<CapacityRecord>()> candidates, Random random,
              CoordinatorOptions options);
  ~Coordinator();

  // Resumes the runs of an earlier daemon.
  Result<void> start();

  // Drives no more. Workers live on until their leases end.
  asio::awaitable<void> stop();

  // Accepts a job and returns the run's id, such as `fashion-7k3q`. Placement follows in the background.
  // Invalid if the job cannot run here at all: too many files, a runtime that does not exist.
  Result<std::string> submit(const job::JobSpec& job, std::vector<runner::AttemptFile> files);

  std::vector<RunView> runs() const;  // newest first, those that are over included
  std::optional<RunView> run(const std::string& id) const;

  // Returns at once; the run is over when its state says so. NotFound for an unknown run; nothing happens to
  // one that is over.
  Result<void> stop_run(const std::string& id);

  // Forgets a run that is over, with its events. Refused while it runs.
  Result<void> remove_run(const std::string& id);

  // Events after `since`, oldest first.
  Result<std::vector<Event>> events(const std::string& id, std::uint64_t since, std::size_t limit) const;

  // Calls `callback` on the loop for every new event of `id` (of all runs if empty), until the returned
  // object goes.
  using Subscription = std::shared_ptr<void>;
  Subscription subscribe(std::string id, std::function<void(const Event&)> callback);

  // A worker's output from `from` on, at most about `bytes_max`; waits up to `wait` for the first byte. A
  // part that is out of reach, because its node is gone, is replaced by one note (stream 3).
  asio::awaitable<Result<LogPage>> read_log(std::string id, std::uint32_t worker, LogCursor from,
                                            std::size_t bytes_max, std::chrono::milliseconds wait);

  // A node has joined or has more to give: runs that wait for a place ask at once.
  void candidates_changed();

 private:
  struct Run;
  struct OfferRound;

  asio::awaitable<void> run_loop(std::string id);
  asio::awaitable<void> ask_offers(std::string id, std::uint32_t slots);
  asio::awaitable<void> ask_node(std::string id, CapacityRecord node, std::shared_ptr<OfferRound> round);
  asio::awaitable<void> take_lease(std::string id, TakeLease action);
  asio::awaitable<void> stop_worker(std::string id, StopWorker action);
  asio::awaitable<void> decline(DeclineOffer action);
  asio::awaitable<void> renew_node(std::string id, PeerId node, std::vector<Renewal> leases);

  Run* find(const std::string& id) const;
  void drive(Run& run);
  void act(Run& run, const Action& action);
  void pump(Run& run);
  void record(Run& run, Event event);
  void persist(Run& run);
  Result<void> resume(const std::string& id);
  void forget_old();
  std::string new_id(const std::string& name);
  RunView view_of(const Run& run) const;

  Clock& clock_;
  NodeClient& nodes_;
  RunStore& store_;
  PeerId self_;
  std::function<std::vector<CapacityRecord>()> candidates_;
  Random random_;
  CoordinatorOptions options_;
  std::map<std::string, std::unique_ptr<Run>> runs_;
  std::map<std::uint64_t, std::pair<std::string, std::function<void(const Event&)>>> subscribers_;
  std::uint64_t next_subscriber_ = 1;
  std::shared_ptr<Coordinator*> alive_;  // lets a subscription outlive us
  TaskGroup tasks_;
};

}  // namespace hivemetal::scheduler
