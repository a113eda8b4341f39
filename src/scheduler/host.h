// The side that lends: answers the calls of coordinators, runs their workers through a Runner, and stops them
// when nobody renews their lease.
//
// Everything that must be remembered over a restart of the daemon is in the RunStore (`host/leases`): a lease
// whose worker the runner finds again goes on with a full ttl, so that a short absence of the daemon costs
// nothing.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "base/clock.h"
#include "base/log.h"
#include "base/notification.h"
#include "base/task_group.h"
#include "p2p/network.h"
#include "runner/runner.h"
#include "scheduler/lease_table.h"
#include "scheduler/messages.h"
#include "scheduler/run_store.h"

namespace hivemetal::scheduler {

struct HostOptions {
  std::string node_name;
  std::string version;
  std::string confinement;  // level that workers get, for offers
  Grant capacity;           // what the owner lends
  std::map<std::string, std::string>
      environments;  // name → folder of a virtual environment, or "" for the system's
  LeaseTableOptions leases;

  // Whether `peer` may run something here; `membership` is what it sent. Not asked for ourselves.
  std::function<Result<void>(const PeerId& peer, std::string_view membership)> authorize;

  // Our own proof, for coordinators that want to know whom they send their files to. May be empty.
  std::function<Bytes()> membership;

  // Multiaddresses for HIVEMETAL_INITIAL_PEERS, at the start of a worker.
  std::function<std::vector<std::string>()> initial_peers;

  // The node's part of an attempt, before it starts: opens HIVEMETAL_SOCKET and puts it into
  // spec.environment. An error is a failed launch. May be empty.
  std::function<Result<void>(runner::AttemptSpec& spec, const LeaseKey& key)> prepare;

  // An attempt has ended: the node closes its socket. May be empty.
  std::function<void(const runner::AttemptStatus& status)> attempt_ended;

  std::function<double()> load;  // processes that run or wait now

  std::size_t events_kept_max = 256;   // of one worker
  std::size_t attempts_kept_max = 64;  // ended ones whose logs can still be read
};

class WorkerHost {
 public:
  // What is passed by reference outlives the host.
  WorkerHost(asio::any_io_executor executor, Clock& clock, p2p::Network& network, runner::Runner& runner,
             RunStore& store, HostOptions options);

  // Loads the leases, adopts the runner's attempts, then serves the handles.
  asio::awaitable<Result<void>> start();

  // Serves no more. Workers go on; they end when their leases do, unless a daemon comes back.
  asio::awaitable<void> stop();

  // Ends all workers (reason OWNER) and takes no more: for a node that leaves. Their coordinators hear of it
  // if they ask within the time it takes.
  asio::awaitable<void> drain();

  // A line that a worker sent over HIVEMETAL_SOCKET: one JSON object. Invalid if it is none or too long;
  // NotFound if no such attempt lives here.
  Result<void> worker_event(const runner::AttemptId& attempt, const nlohmann::json& event);

  // Capacity for the node's record; `on_change` is called on the loop whenever it may differ from before.
  Grant capacity() const { return table_.capacity(); }
  Grant free() const { return table_.free(); }
  std::size_t workers() const { return table_.live(); }
  void set_capacity(Grant capacity);
  void on_change(std::function<void()> callback) { on_change_ = std::move(callback); }

  // For the control API.
  struct Hosted {
    Lease lease;
    runner::AttemptId attempt;
    int pid = 0;
  };
  std::vector<Hosted> hosted() const;

  // Answers a call as if it had come over the network from `from`: for NodeClient's calls to ourselves.
  asio::awaitable<Result<Bytes>> handle(std::string handle, PeerId from, Bytes request);

  std::uint64_t rejected() const { return rejected_.count(); }  // malformed or refused requests

 private:
  // What belongs to a lease beyond the table's promise.
  struct Work {
    runner::AttemptId attempt;
    int pid = 0;
    double start_ms = 0;
    bool launching = false;                  // start() of the runner has not returned
    bool ending = false;                     // stop() has been called
    std::string end_reason;                  // for a stop that came while it was launching
    std::optional<runner::ExitRecord> exit;  // set once it has ended
    std::deque<std::string> events;          // JSON, the latest
    std::uint64_t next_event = 0;            // sequence number of the last
    std::uint64_t first_epoch = 0;
  };
  // Who may read an attempt's log, for as long as it is kept.
  struct Archive {
    runner::AttemptId attempt;
    PeerId holder;
    bool ended = false;
  };

  Result<Bytes> offer(const PeerId& peer, const proto::OfferRequest& request);
  Result<Bytes> lease(const PeerId& peer, const proto::LeaseRequest& request);
  asio::awaitable<Result<Bytes>> renew(PeerId peer, proto::RenewRequest request);
  Result<Bytes> stop_worker(const PeerId& peer, const proto::StopRequest& request);
  asio::awaitable<Result<Bytes>> log(PeerId peer, proto::LogRequest request);

  asio::awaitable<void> launch(LeaseKey key, std::uint64_t first_epoch, runner::AttemptSpec spec);
  asio::awaitable<void> end(LeaseKey key, std::uint64_t first_epoch, std::string reason);
  asio::awaitable<void> expiry_loop();
  asio::awaitable<void> tidy();

  Result<void> allowed(const PeerId& peer, std::string_view membership) const;
  void attempt_ended(const runner::AttemptStatus& status);
  bool has_news(const PeerId& peer, const proto::RenewRequest& request) const;
  void describe(const PeerId& peer, const LeaseKey& key, const proto::RenewRequest::Lease& asked,
                proto::RenewReply::Worker& answer, std::size_t& event_bytes);
  Work* work_of(const LeaseKey& key, std::uint64_t first_epoch);
  std::optional<LeaseKey> key_of(const runner::AttemptId& attempt) const;
  void changed();
  void persist();
  asio::awaitable<Result<void>> restore();
  void restore_lease(const nlohmann::json& json,
                     const std::map<runner::AttemptId, runner::AttemptStatus>& found);

  Clock& clock_;
  p2p::Network& network_;
  runner::Runner& runner_;
  RunStore& store_;
  HostOptions options_;
  LeaseTable table_;
  std::map<LeaseKey, Work> work_;
  std::deque<Archive> archive_;
  bool draining_ = false;
  std::function<void()> on_change_;
  log::Limited rejected_;
  Notification news_;  // a worker's state may have changed
  TaskGroup tasks_;
};

}  // namespace hivemetal::scheduler
