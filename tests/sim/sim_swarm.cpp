#include "sim_swarm.h"

#include <fmt/format.h>

namespace hivemetal::scheduler {

SimNode::SimNode(SimSwarm& swarm, std::uint32_t number, Grant capacity)
    : swarm_(swarm),
      name_("n" + std::to_string(number)),
      id_(sim::sim_peer_id(number)),
      capacity_(capacity),
      network_(swarm.net, id_),
      runner_(swarm.loop.get_executor(), swarm.clock) {}

SimNode::Daemon::Daemon(SimSwarm& swarm, SimNode& node)
    : host(swarm.loop.get_executor(), swarm.clock, node.network_, node.runner_, node.store_,
           {.node_name = node.name_,
            .version = "sim",
            .confinement = "C0",
            .capacity = node.capacity_,
            .leases = swarm.leases}),
      client(swarm.clock, node.network_,
             [this](std::string handle, PeerId from, Bytes request) {
               return host.handle(std::move(handle), std::move(from), std::move(request));
             }),
      coordinator(
          swarm.loop.get_executor(), swarm.clock, client, node.store_, node.id_,
          [&swarm] {
            std::vector<CapacityRecord> records;
            for (const auto& other : swarm.nodes()) records.push_back(other->record());
            return records;
          },
          Random(swarm.seed * 1000 + std::hash<PeerId>()(node.id_) + node.starts_), swarm.options) {}

// What the others know of it is never quite fresh: that it has died, for one.
CapacityRecord SimNode::record() const {
  return {.node = id_,
          .name = name_,
          .cpus_total = static_cast<double>(capacity_.milli_cpus) / 1000,
          .cpus_free = daemon_ ? static_cast<double>(daemon_->host.free().milli_cpus) / 1000 : 0,
          .memory_total = capacity_.memory,
          .memory_free = capacity_.memory};
}

void SimNode::start_daemon() {
  ++starts_;
  daemon_ = std::make_unique<Daemon>(swarm_, *this);
  const auto started = swarm_.clock.run(daemon_->host.start());
  if (!started) throw std::runtime_error(started.error().message);
  const auto resumed = daemon_->coordinator.start();
  if (!resumed) throw std::runtime_error(resumed.error().message);
}

void SimNode::stop_daemon() {
  if (!daemon_) return;
  swarm_.clock.run(daemon_->coordinator.stop());
  swarm_.clock.run(daemon_->host.stop());
  daemon_.reset();
}

std::vector<std::string> SimNode::alive() const {
  std::vector<std::string> alive;
  for (const auto& status : runner_.attempts()) {
    if (status.state != runner::AttemptState::Ended) alive.push_back(status.id);
  }
  return alive;
}

SimSwarm::SimSwarm(std::size_t nodes, std::uint64_t seed, Grant capacity)
    : net(loop, clock, seed), seed(seed) {
  for (std::size_t i = 0; i < nodes; ++i) {
    nodes_.push_back(std::make_unique<SimNode>(*this, static_cast<std::uint32_t>(i + 1), capacity));
  }
  for (auto& node : nodes_) node->start_daemon();
}

SimSwarm::~SimSwarm() {
  for (auto& node : nodes_) node->stop_daemon();
  for (auto& node : nodes_) clock.run(node->runner().close());
}

SimNode& SimSwarm::node(const std::string& base58) {
  for (auto& node : nodes_) {
    if (node->id().base58() == base58) return *node;
  }
  throw std::out_of_range("no node " + base58);
}

bool SimSwarm::run_until(const std::function<bool()>& condition, Clock::Duration limit) {
  const auto end = clock.now() + limit;
  while (!condition()) {
    if (clock.now() >= end) return false;
    clock.run_for(10ms);
  }
  return true;
}

std::optional<Event> SimSwarm::event(const std::string& run, const std::string& kind, std::uint64_t since) {
  const auto events = coordinator().events(run, since, 100'000).value();
  for (const Event& event : events) {
    if (event.kind == kind) return event;
  }
  return std::nullopt;
}

std::uint64_t SimSwarm::last_event(const std::string& run) {
  const auto events = coordinator().events(run, 0, 100'000).value();
  return events.empty() ? 0 : events.back().sequence;
}

std::string SimSwarm::story(const std::string& run) {
  std::string text;
  const auto events = coordinator().events(run, 0, 100'000).value();
  for (const Event& event : events) {
    text += fmt::format("{:8.3f} {:9} {}\n", event.unix_time - 1'700'000'000, event.kind, event.text);
  }
  return text;
}

std::size_t SimSwarm::living(const std::string& run, std::uint32_t worker) const {
  const std::string prefix = fmt::format("{}.{}.", run, worker);
  std::size_t count = 0;
  for (const auto& node : nodes_) {
    for (const std::string& attempt : node->alive()) count += attempt.starts_with(prefix) ? 1 : 0;
  }
  return count;
}

job::JobSpec sim_job(std::uint32_t min, std::uint32_t max) {
  job::JobSpec job;
  job.name = "fashion";
  job.nodes = {min, max};
  job.resources.memory_bytes = 512 << 20;
  job.command = {"work"};
  job.grace = 2s;
  return job;
}

}  // namespace hivemetal::scheduler
