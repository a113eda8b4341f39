// Nodes with everything but processes: host, coordinator and runner on simulated time and network.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include <boost/asio/io_context.hpp>

#include "job/job.h"
#include "runner/fake/fake_runner.h"
#include "scheduler/coordinator.h"
#include "scheduler/host.h"
#include "sim/sim_clock.h"
#include "sim/sim_network.h"

namespace hivemetal::scheduler {

using namespace std::chrono_literals;

class SimSwarm;

// One machine. Its runner and its store survive the death of the daemon, as processes and disks do.
class SimNode {
 public:
  SimNode(SimSwarm& swarm, std::uint32_t number, Grant capacity);

  void start_daemon();
  void stop_daemon();  // workers go on
  bool up() const { return daemon_ != nullptr; }

  const PeerId& id() const { return id_; }
  runner::FakeRunner& runner() { return runner_; }
  MemoryRunStore& store() { return store_; }
  WorkerHost& host() { return daemon_->host; }
  Coordinator& coordinator() { return daemon_->coordinator; }
  CapacityRecord record() const;

  // Attempts that live on this machine, whether anybody knows of them or not.
  std::vector<std::string> alive() const;

 private:
  struct Daemon {
    Daemon(SimSwarm& swarm, SimNode& node);
    WorkerHost host;
    NodeClient client;
    Coordinator coordinator;
  };

  SimSwarm& swarm_;
  std::string name_;
  PeerId id_;
  Grant capacity_;
  sim::SimNetwork network_;
  runner::FakeRunner runner_;
  MemoryRunStore store_;
  std::unique_ptr<Daemon> daemon_;
  std::uint32_t starts_ = 0;
};

class SimSwarm {
 public:
  explicit SimSwarm(std::size_t nodes, std::uint64_t seed = 1,
                    Grant capacity = {2000, std::uint64_t{4} << 30});
  ~SimSwarm();

  SimNode& node(std::size_t index) { return *nodes_[index]; }
  SimNode& node(const std::string& base58);
  std::vector<std::unique_ptr<SimNode>>& nodes() { return nodes_; }
  Coordinator& coordinator() { return node(0).coordinator(); }

  void run_for(Clock::Duration duration) { clock.run_for(duration); }

  // Lets time pass until `condition` holds; false if it does not within `limit`. Steps of 10 ms.
  bool run_until(const std::function<bool()>& condition, Clock::Duration limit);

  // The first event of this kind after `since`.
  std::optional<Event> event(const std::string& run, const std::string& kind, std::uint64_t since = 0);
  std::uint64_t last_event(const std::string& run);
  std::string story(const std::string& run);  // all events, one per line

  // How many attempts of this worker live on all machines together.
  std::size_t living(const std::string& run, std::uint32_t worker) const;

  asio::io_context loop;
  sim::SimClock clock{loop};
  sim::SimNet net;
  const std::uint64_t seed;
  CoordinatorOptions options;
  LeaseTableOptions leases;

 private:
  std::vector<std::unique_ptr<SimNode>> nodes_;
};

// A job of `min` to `max` workers with one core each.
job::JobSpec sim_job(std::uint32_t min, std::uint32_t max);

}  // namespace hivemetal::scheduler
