// How p2pd is started: the options a node has, the command line they make, and when to start it again.
#pragma once

#include <chrono>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "p2p/network.h"

namespace hivemetal::p2p {

struct DaemonOptions {
  enum class Dht { Server, Client, Auto };  // libp2p's Kademlia, which finds addresses of peer ids

  std::filesystem::path binary;            // empty: what find_p2pd() finds
  std::filesystem::path identity_file;     // a libp2p key; empty: a new key for as long as the network lives
  std::filesystem::path socket_directory;  // made with mode 0700; empty: a new one in the temporary folder
  std::vector<Multiaddr> host_addresses;   // empty: /ip4/127.0.0.1/tcp/0
  std::vector<Multiaddr> announce_addresses;  // replace the advertised addresses if there are any
  std::vector<Multiaddr> bootstrap_peers;     // with /p2p
  bool bootstrap_required = true;             // start() fails if none of them answers
  Dht dht = Dht::Server;
  bool relay = true;
  bool auto_relay = false;
  std::vector<Multiaddr> trusted_relays;
  bool auto_nat = true;
  std::optional<bool> nat_port_map;  // default: unless all host addresses are loopback
  std::chrono::seconds idle_timeout{10};
  std::chrono::milliseconds stop_grace{2000};     // between TERM and KILL
  std::chrono::milliseconds health_every{5000};   // p2pd is asked for its addresses and peers, and killed
  std::chrono::milliseconds health_within{5000};  // if it does not answer within this time
};

// p2pd: $HIVEMETAL_P2PD, else the one of the virtual environment that scripts/setup makes. NotFound says what
// to do.
Result<std::filesystem::path> find_p2pd();

// Checks what a user can get wrong.
Result<void> check_options(const DaemonOptions& options);

// The command line, as Hivemind writes it. `hosts` replaces options.host_addresses; `dial_bootstrap` lets
// p2pd dial the bootstrap peers itself, and exit if none answers.
std::vector<std::string> command_line(const DaemonOptions& options, const std::vector<Multiaddr>& hosts,
                                      const std::filesystem::path& control_socket, bool dial_bootstrap);

// `hosts` with each port 0 replaced by the port that p2pd took for it, as `listening` says; so that a restart
// of p2pd keeps the addresses that others know.
std::vector<Multiaddr> pin_ports(const std::vector<Multiaddr>& hosts,
                                 const std::vector<Multiaddr>& listening);

// How long to wait before each restart: nothing before the first, then 0.2 s doubling to 10 s; nothing again
// after 30 s without a restart.
class Backoff {
 public:
  Clock::Duration next(Clock::TimePoint now);

 private:
  std::optional<Clock::TimePoint> last_;
  Clock::Duration delay_{};
};

}  // namespace hivemetal::p2p
