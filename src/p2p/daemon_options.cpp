#include "p2p/daemon_options.h"

#include <algorithm>
#include <cstdlib>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <system_error>

namespace hivemetal::p2p {

namespace {

using namespace std::chrono_literals;
namespace fs = std::filesystem;

std::vector<std::string> components(std::string_view text) {
  std::vector<std::string> parts;
  while (!text.empty()) {
    text.remove_prefix(1);  // the slash
    const auto end = std::min(text.find('/'), text.size());
    parts.emplace_back(text.substr(0, end));
    text.remove_prefix(end);
  }
  return parts;
}

std::string joined(const std::vector<Multiaddr>& addresses) {
  std::vector<std::string> texts;
  for (const Multiaddr& address : addresses) texts.push_back(address.text());
  return fmt::format("{}", fmt::join(texts, ","));
}

// True if an address with port 0, in components, may have become `other`.
bool may_become(const std::vector<std::string>& host, const std::vector<std::string>& other) {
  if (host.size() != other.size()) return false;
  for (std::size_t i = 0; i < host.size(); ++i) {
    const bool any = i == 3 || (i == 1 && (host[1] == "0.0.0.0" || host[1] == "::"));
    if (!any && host[i] != other[i]) return false;
  }
  return true;
}

}  // namespace

Result<fs::path> find_p2pd() {
  std::error_code ignored;
  const char* named = std::getenv("HIVEMETAL_P2PD");  // NOLINT(concurrency-mt-unsafe): nobody sets it
  if (named != nullptr && *named != '\0') {
    if (fs::is_regular_file(named, ignored)) return fs::path(named);
    return Error{ErrorCode::NotFound,
                 fmt::format("HIVEMETAL_P2PD names {}, and there is no such file", named)};
  }
  const fs::path libraries = fs::path(HIVEMETAL_VENV) / "lib";
  for (const auto& entry : fs::directory_iterator(libraries, ignored)) {
    const fs::path candidate = entry.path() / "site-packages/hivemind/hivemind_cli/p2pd";
    if (fs::is_regular_file(candidate, ignored)) return candidate;
  }
  return Error{ErrorCode::NotFound,
               "p2pd, the libp2p daemon of Hivemind, is not installed: run scripts/setup, or set "
               "HIVEMETAL_P2PD to it"};
}

Result<void> check_options(const DaemonOptions& options) {
  for (const Multiaddr& peer : options.bootstrap_peers) {
    if (!peer.peer()) {
      return Error{ErrorCode::Invalid,
                   fmt::format("the bootstrap peer {} does not end in /p2p/ and a peer id", peer.text())};
    }
  }
  for (const Multiaddr& address : options.announce_addresses) {
    const auto parts = components(address.text());
    if (parts.size() > 3 && parts[3] == "0") {
      return Error{ErrorCode::Invalid, fmt::format("port 0 of {} cannot be announced", address.text())};
    }
  }
  std::error_code ignored;
  if (!options.identity_file.empty() && !fs::is_regular_file(options.identity_file, ignored)) {
    return Error{ErrorCode::NotFound,
                 fmt::format("there is no identity file {}", options.identity_file.string())};
  }
  return {};
}

std::vector<std::string> command_line(const DaemonOptions& options, const std::vector<Multiaddr>& hosts,
                                      const fs::path& control_socket, bool dial_bootstrap) {
  const bool loopback =
      std::all_of(hosts.begin(), hosts.end(), [](const Multiaddr& address) { return address.is_loopback(); });
  const auto flag = [](std::string_view name, bool value) {
    return fmt::format("-{}={}", name, value ? 1 : 0);
  };
  std::vector<std::string> line = {
      options.binary.string(),
      fmt::format("-listen=/unix{}", control_socket.string()),
      fmt::format("-hostAddrs={}", joined(hosts)),
      flag("autoRelay", options.auto_relay),
      flag("autonat", options.auto_nat),
      flag("connManager", true),
      flag("natPortMap", options.nat_port_map.value_or(!loopback)),
      flag("relay", options.relay),
      "-relayHopLimit=0",
      flag("tls", true),
      fmt::format("-idleTimeout={}s", options.idle_timeout.count()),
      fmt::format("-persistentConnMaxMsgSize={}", kUnaryMessageBytesMax),
  };
  switch (options.dht) {
    case DaemonOptions::Dht::Server:
      line.emplace_back("-dhtServer=1");
      break;
    case DaemonOptions::Dht::Client:
      line.emplace_back("-dhtClient=1");
      break;
    case DaemonOptions::Dht::Auto:
      line.emplace_back("-dht=1");
      break;
  }
  if (!options.identity_file.empty()) line.push_back(fmt::format("-id={}", options.identity_file.string()));
  if (!options.announce_addresses.empty()) {
    line.push_back(fmt::format("-announceAddrs={}", joined(options.announce_addresses)));
  }
  if (!options.trusted_relays.empty()) {
    line.push_back(fmt::format("-trustedRelays={}", joined(options.trusted_relays)));
  }
  const bool bootstraps = dial_bootstrap && !options.bootstrap_peers.empty();
  line.push_back(flag("b", bootstraps));
  if (bootstraps) line.push_back(fmt::format("-bootstrapPeers={}", joined(options.bootstrap_peers)));
  return line;
}

std::vector<Multiaddr> pin_ports(const std::vector<Multiaddr>& hosts,
                                 const std::vector<Multiaddr>& listening) {
  std::vector<Multiaddr> pinned;
  for (const Multiaddr& host : hosts) {
    auto parts = components(host.text());
    pinned.push_back(host);
    if (parts.size() < 4 || parts[3] != "0") continue;
    for (const Multiaddr& address : listening) {
      const auto other = components(address.without_peer().text());
      if (!may_become(parts, other)) continue;
      parts[3] = other[3];
      const auto parsed = Multiaddr::parse(fmt::format("/{}", fmt::join(parts, "/")));
      if (parsed) pinned.back() = *parsed;
      break;
    }
  }
  return pinned;
}

Clock::Duration Backoff::next(Clock::TimePoint now) {
  if (!last_ || now - *last_ > 30s) {
    delay_ = 0s;
  } else {
    delay_ = std::clamp<Clock::Duration>(delay_ * 2, 200ms, 10s);
  }
  last_ = now + delay_;
  return delay_;
}

}  // namespace hivemetal::p2p
