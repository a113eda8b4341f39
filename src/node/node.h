// A node: everything built from its directory, started in order and stopped in reverse.
//
//     lock → store → key, swarm → p2pd → DHT → runner → worker sockets → host → board → coordinator → control
//     API
//
// Each part gets the ones before it by reference, so none outlives what it uses. A node that cannot reach the
// swarm starts all the same, says so, and keeps trying: its workers and its runs matter more than its
// neighbours.
#pragma once

#include <chrono>
#include <memory>
#include <optional>

#include "base/clock.h"
#include "base/task_group.h"
#include "dht/dht.h"
#include "node/api.h"
#include "node/config.h"
#include "node/control_server.h"
#include "node/directory.h"
#include "node/store.h"
#include "node/swarm_files.h"
#include "node/worker_socket.h"
#include "p2p/daemon_network.h"
#include "runner/baremetal/bare_metal_runner.h"
#include "scheduler/capacity_board.h"
#include "scheduler/coordinator.h"
#include "scheduler/dht_directory.h"
#include "scheduler/host.h"
#include "scheduler/node_client.h"

namespace hivemetal::node {

inline constexpr const char* kVersion = "0.1.0";

// A clock that is off: shows in tests what a wrong system clock does. Only unix_time() differs.
class OffsetClock final : public Clock {
 public:
  OffsetClock(Clock& clock, double seconds) : clock_(clock), seconds_(seconds) {}

  TimePoint now() const override { return clock_.now(); }
  double unix_time() const override { return clock_.unix_time() + seconds_; }
  asio::awaitable<void> sleep_until(TimePoint time) override { return clock_.sleep_until(time); }

 private:
  Clock& clock_;
  double seconds_;
};

class Node {
 public:
  Node(asio::any_io_executor executor, Clock& clock, NodeDirectory directory, Config config);
  ~Node();

  // Returns when the node answers: control API up, p2pd up, swarm joined or found to be out of reach for now.
  // After a failure only stop() is of use.
  asio::awaitable<Result<void>> start();

  // Stops all parts. Workers go on; a later node in this directory finds them again.
  asio::awaitable<void> stop();

  // Multiaddresses with /p2p that others can join through.
  std::vector<std::string> addresses() const;

  const std::string& swarm_name() const { return swarm_->name; }

 private:
  Result<void> open();
  asio::awaitable<Result<void>> start_network();
  asio::awaitable<Result<void>> start_workers();
  Result<void> start_api();
  asio::awaitable<void> keep_joined();
  asio::awaitable<void> keep_peers();
  std::vector<p2p::Multiaddr> listen_addresses();
  void remember_addresses();
  std::vector<p2p::Multiaddr> initial_peers() const;
  std::vector<std::string> worker_peers() const;
  scheduler::HostOptions host_options();
  scheduler::CapacityRecord measure() const;
  Result<void> authorize(const identity::PeerId& peer, std::string_view membership) const;
  nlohmann::json about() const;
  nlohmann::json findings() const;

  asio::any_io_executor executor_;
  Clock& clock_;
  NodeDirectory directory_;
  Config config_;
  double started_unix_ = 0;
  std::string confinement_;
  std::optional<Error> join_error_;
  bool joined_ = false;

  std::optional<DirectoryLock> lock_;
  std::unique_ptr<Store> store_;
  std::optional<identity::PrivateKey> key_;
  std::optional<SwarmFiles> swarm_;
  std::optional<p2p::DaemonNetwork> network_;
  std::optional<dht::Dht> dht_;
  std::optional<scheduler::DhtDirectory> dht_directory_;
  std::unique_ptr<runner::BareMetalRunner> runner_;
  std::optional<WorkerSockets> sockets_;
  std::optional<scheduler::WorkerHost> host_;
  std::optional<scheduler::CapacityBoard> board_;
  std::optional<scheduler::NodeClient> client_;
  std::optional<scheduler::Coordinator> coordinator_;
  std::optional<Api> api_;
  std::optional<ControlServer> server_;
  Notification join_changed_;
  TaskGroup tasks_;
};

}  // namespace hivemetal::node
