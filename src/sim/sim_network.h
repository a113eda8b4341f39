// A network inside one process: nodes, links that delay and lose, partitions, deaths. With SimClock and a
// seed every run takes the same path, and hundreds of nodes fit into one test.
//
//      SimNetwork A ──┐                   ┌── SimNetwork B        each a p2p::Network
//                     └──── SimNet ───────┘                       links, faults, counters
//
// What is modelled: one-way latency per message, drawn from the link's range; loss (a unary message vanishes
// and the caller times out, a stream's bytes come 200 ms later, as if TCP had sent them again); cut links,
// where unary messages vanish and streams stall and break after 15 s. Not modelled: bandwidth, and how
// addresses are found: whoever is up is reachable by its peer id.
//
// Order of declaration in a test: loop, clock, net, networks, then what uses them; stop what uses them first.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <boost/asio/io_context.hpp>

#include "p2p/network.h"
#include "sim/sim_clock.h"

namespace hivemetal::sim {

struct Node;
struct World;

struct Link {
  Clock::Duration latency_min = std::chrono::milliseconds(1);  // one way
  Clock::Duration latency_max = std::chrono::milliseconds(5);
  double loss = 0;  // probability per message
};

struct Traffic {
  std::uint64_t calls = 0;     // unary calls started
  std::uint64_t streams = 0;   // streams opened
  std::uint64_t messages = 0;  // sent, lost ones included
  std::uint64_t lost = 0;
  std::uint64_t bytes = 0;  // of payload
};

// A peer id that belongs to no key, the same for the same number.
p2p::PeerId sim_peer_id(std::uint32_t number);

class SimNet {
 public:
  SimNet(asio::io_context& loop, SimClock& clock, std::uint64_t seed);
  ~SimNet();

  SimNet(const SimNet&) = delete;
  SimNet& operator=(const SimNet&) = delete;

  // The link of every pair, and of one pair in both directions.
  void set_link(Link link);
  void set_link(const p2p::PeerId& a, const p2p::PeerId& b, Link link);

  // Cuts all links between different groups; peers that are in none form one more group.
  void partition(const std::vector<std::vector<p2p::PeerId>>& groups);
  void heal();

  // The machine loses its cable: nothing reaches it or leaves it, and nobody is told.
  void unplug(const p2p::PeerId& peer);

  // The process dies: its handlers are cancelled, its streams reset, callers get Unavailable.
  void kill(const p2p::PeerId& peer);

  // Ends unplug() or kill(). The handlers that were registered before are there again.
  void revive(const p2p::PeerId& peer);

  Traffic traffic() const;
  Traffic traffic_of(const p2p::PeerId& peer) const;  // what this peer sent

 private:
  friend class SimNetwork;
  std::shared_ptr<World> world_;
};

class SimNetwork final : public p2p::Network {
 public:
  // Adds a node to `net`, which must outlive it; ids in use are not allowed.
  SimNetwork(SimNet& net, p2p::PeerId self);

  // Removes the node, as kill() does; its handlers are cancelled but may end later, see stop().
  ~SimNetwork() override;

  // Cancels all handlers and returns when they have ended.
  asio::awaitable<void> stop();

  const p2p::PeerId& self() const override;
  std::vector<p2p::Multiaddr> addresses() const override;
  asio::awaitable<Result<void>> connect(p2p::Multiaddr address, Clock::TimePoint deadline) override;
  asio::awaitable<Result<std::vector<p2p::PeerInfo>>> peers(Clock::TimePoint deadline) override;
  asio::awaitable<Result<Bytes>> call(p2p::PeerId peer, std::string handle, Bytes request,
                                      Clock::TimePoint deadline) override;
  asio::awaitable<Result<std::unique_ptr<p2p::Stream>>> open_stream(p2p::PeerId peer, std::string protocol,
                                                                    Clock::TimePoint deadline) override;
  asio::awaitable<Result<void>> serve(std::string handle, p2p::UnaryHandler handler) override;
  asio::awaitable<Result<void>> serve_stream(std::string protocol, p2p::StreamHandler handler) override;
  asio::awaitable<void> stop_serving(std::string handle) override;

 private:
  std::shared_ptr<World> world_;
  std::shared_ptr<Node> node_;
};

}  // namespace hivemetal::sim
