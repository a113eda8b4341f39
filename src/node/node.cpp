#include "node/node.h"

#include <cstdlib>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sched.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include "base/log.h"
#include "base/random.h"
#include "node/file.h"
#include "node/ports.h"
#include "runner/baremetal/confinement.h"

namespace hivemetal::node {

namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using namespace std::chrono_literals;

constexpr std::size_t kSocketPathMax = 107;
constexpr std::size_t kPeersDialled = 32;   // remembered ones, besides those of the invite
constexpr std::size_t kWorkerPeersMax = 5;  // addresses that a worker gets
constexpr auto kNetworkTime = 20s;          // for p2pd to be ready
constexpr auto kJoinTime = 5s;              // until we are ready without the swarm
constexpr auto kPeersInterval = 1s;

double cores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (::sched_getaffinity(0, sizeof set, &set) != 0) return 1;
  return CPU_COUNT(&set);
}

std::uint64_t memory_bytes() {
  struct sysinfo info{};
  if (::sysinfo(&info) != 0) return 1ULL << 30;
  return static_cast<std::uint64_t>(info.totalram) * info.mem_unit;
}

double load_now() {
  double load = 0;
  return ::getloadavg(&load, 1) == 1 ? load : 0;
}

// The folder if a socket with a name of `name_length` fits below it, else one with a short name.
fs::path folder_for_sockets(const NodeDirectory& directory, const char* name, std::size_t name_length) {
  auto folder = directory.path() / name;
  if (folder.native().size() + 1 + name_length <= kSocketPathMax) return folder;
  return directory.control_socket().replace_extension(name);
}

json finding(const char* check, bool blocks, std::string text, std::string remedy) {
  return {{"check", check}, {"blocks", blocks}, {"finding", std::move(text)}, {"remedy", std::move(remedy)}};
}

}  // namespace

Node::Node(asio::any_io_executor executor, Clock& clock, NodeDirectory directory, Config config)
    : executor_(executor),
      clock_(clock),
      directory_(std::move(directory)),
      config_(std::move(config)),
      join_changed_(executor),
      tasks_(executor) {}

Node::~Node() = default;

asio::awaitable<Result<void>> Node::start() {
  started_unix_ = clock_.unix_time();
  if (const auto opened = open(); !opened) co_return opened;
  if (const auto started = co_await start_network(); !started) co_return started;
  if (const auto started = co_await start_workers(); !started) co_return started;
  co_return start_api();
}

Result<void> Node::open() {
  auto lock = DirectoryLock::take(directory_);
  if (!lock) return lock.error();
  lock_.emplace(std::move(*lock));
  auto swarm = load_swarm(directory_);
  if (!swarm) return swarm.error();
  swarm_ = std::move(*swarm);
  auto key = load_or_make_key(directory_);
  if (!key) return key.error();
  key_ = std::move(*key);
  const auto member =
      swarm_->membership.verify(swarm_->membership.swarm(), key_->peer_id(), clock_.unix_time());
  if (!member)
    return member.error().within("this node's membership; ask a member for a new invite and join again");
  auto store = Store::open(directory_.state_file());
  if (!store) return store.error();
  store_ = std::move(*store);
  return {};
}

std::vector<p2p::Multiaddr> Node::initial_peers() const {
  std::vector<std::string> texts = swarm_->addresses;
  if (const auto remembered = store_->peer_addresses(kPeersDialled))
    texts.insert(texts.begin(), remembered->begin(), remembered->end());
  std::vector<p2p::Multiaddr> found;
  for (const auto& text : texts) {
    auto address = p2p::Multiaddr::parse(text);
    if (!address || !address->peer() || *address->peer() == key_->peer_id()) continue;
    if (std::find(found.begin(), found.end(), *address) == found.end()) found.push_back(std::move(*address));
  }
  return found;
}

// What we listen on. Port 0 becomes the port of the last time, so that the addresses others remember stay
// right.
std::vector<p2p::Multiaddr> Node::listen_addresses() {
  std::vector<std::string> texts = config_.listen;
  const auto saved = store_->get("node/listen");
  if (saved && *saved) {
    const auto last = json::parse(**saved, nullptr, /*allow_exceptions=*/false);
    const bool same = last.is_object() && last.value("config", json()) == json(config_.listen) &&
                      last.value("actual", json()).is_array() && last["actual"].size() == texts.size();
    for (std::size_t i = 0; same && i < texts.size(); ++i) {
      const auto& actual = last["actual"][i];
      if (actual.is_string() && port_is_free(actual.get_ref<const std::string&>()))
        texts[i] = actual.get<std::string>();
    }
  }
  std::vector<p2p::Multiaddr> found;
  for (const auto& text : texts) {
    if (auto address = p2p::Multiaddr::parse(text)) found.push_back(std::move(*address));
  }
  return found;
}

void Node::remember_addresses() {
  std::vector<p2p::Multiaddr> hosts;
  for (const auto& text : config_.listen) {
    if (auto address = p2p::Multiaddr::parse(text)) hosts.push_back(std::move(*address));
  }
  std::vector<p2p::Multiaddr> own;
  for (const auto& address : network_->addresses()) own.push_back(address.without_peer());
  std::vector<std::string> actual;
  for (const auto& address : p2p::pin_ports(hosts, own)) actual.push_back(address.text());
  const json listen{{"config", config_.listen}, {"actual", actual}};
  const auto saved = store_->put("node/listen", listen.dump());
  const auto addresses_saved = store_->put("node/addresses", json(addresses()).dump());
  if (!saved || !addresses_saved) log::warn("node: {}", (saved ? addresses_saved : saved).error().message);
}

asio::awaitable<Result<void>> Node::start_network() {
  auto p2pd = config_.p2pd.empty() ? p2p::find_p2pd() : Result<fs::path>(config_.p2pd);
  if (!p2pd) co_return p2pd.error();
  p2p::DaemonOptions options;
  options.binary = std::move(*p2pd);
  options.identity_file = directory_.identity_file();
  options.socket_directory = folder_for_sockets(directory_, "p2p", 16);
  options.host_addresses = listen_addresses();
  for (const auto& text : config_.announce) {
    if (auto address = p2p::Multiaddr::parse(text)) options.announce_addresses.push_back(std::move(*address));
  }
  options.bootstrap_peers = initial_peers();
  options.bootstrap_required = false;
  network_.emplace(executor_, clock_, std::move(options));
  if (const auto started = co_await network_->start(clock_.now() + kNetworkTime); !started)
    co_return started.error();
  remember_addresses();

  dht_.emplace(executor_, clock_, *network_, dht::DhtOptions{}, seeded_by_system());
  if (const auto started = co_await dht_->start({}); !started) co_return started.error();
  dht_directory_.emplace(clock_, *dht_);
  tasks_.spawn("node join", keep_joined());
  co_return Result<void>();
}

asio::awaitable<void> Node::keep_joined() {
  for (;;) {
    const auto peers = initial_peers();
    if (!peers.empty() && dht_->stats().known_nodes == 0) {
      const auto joined = co_await dht_->join(peers);
      if (!joined && join_error_ != joined.error())
        log::warn("node: not in the swarm yet: {}", joined.error().message);
      if (joined && join_error_) log::info("node: in the swarm now");
      join_error_ = joined ? std::optional<Error>() : joined.error();
      joined_ = joined.has_value();
    } else {
      joined_ = true;
      join_error_.reset();
    }
    join_changed_.notify_all();
    co_await clock_.sleep_for(5s);
  }
}

scheduler::HostOptions Node::host_options() {
  scheduler::HostOptions options;
  options.node_name = config_.name;
  options.version = kVersion;
  options.confinement = confinement_;
  options.capacity.milli_cpus = static_cast<std::uint64_t>(1000 * config_.cpus.value_or(cores()));
  options.capacity.memory = config_.memory_bytes.value_or(memory_bytes() / 4 * 3);
  options.environments = config_.environments;
  options.authorize = [this](const identity::PeerId& peer, std::string_view membership) {
    return authorize(peer, membership);
  };
  options.membership = [this] { return swarm_->membership.bytes(); };
  options.initial_peers = [this] { return worker_peers(); };
  options.prepare = [this](runner::AttemptSpec& spec, const scheduler::LeaseKey&) -> Result<void> {
    if (const auto opened = sockets_->open(spec.id); !opened) return opened;
    spec.environment["HIVEMETAL_SOCKET"] = sockets_->path_of(spec.id).string();
    return {};
  };
  options.attempt_ended = [this](const runner::AttemptStatus& status) { sockets_->close(status.id); };
  options.load = load_now;
  return options;
}

asio::awaitable<Result<void>> Node::start_workers() {
  runner::BareMetalOptions options;
  options.directory = directory_.path();
  const auto guard = find_guard(config_);
  if (!guard) co_return guard.error();
  options.guard = *guard;
  confinement_ = "C0";  // the full confinement is built later
  auto opened = runner::BareMetalRunner::open(executor_, clock_, options);
  if (!opened) co_return opened.error();
  runner_ = std::move(*opened);
  sockets_.emplace(executor_, clock_, folder_for_sockets(directory_, "s", 24), *key_,
                   [this](const runner::AttemptId& attempt, json event) {
                     if (const auto taken = host_->worker_event(attempt, event); !taken) {
                       log::debug("worker: {}: {}", attempt, taken.error().message);
                     }
                   });
  host_.emplace(executor_, clock_, *network_, *runner_, *store_, host_options());
  if (const auto started = co_await host_->start(); !started) co_return started.error();
  for (const auto& attempt : runner_->attempts()) {
    if (attempt.state == runner::AttemptState::Ended) continue;
    if (const auto reopened = sockets_->open(attempt.id); !reopened)
      log::warn("node: {}", reopened.error().message);
  }
  sockets_->remove_others();

  scheduler::BoardOptions board;
  board.swarm = swarm_->membership.swarm().base58();
  board_.emplace(executor_, clock_, *dht_directory_, *key_, [this] { return measure(); }, board);
  host_->on_change([this] { board_->changed(); });
  // The first record should reach the swarm and not only ourselves.
  const auto patience = clock_.now() + kJoinTime;
  while (!joined_ && !join_error_ && clock_.now() < patience) co_await clock_.sleep_for(20ms);
  board_->start();

  client_.emplace(clock_, *network_, [this](std::string handle, identity::PeerId from, Bytes request) {
    return host_->handle(std::move(handle), std::move(from), std::move(request));
  });
  scheduler::CoordinatorOptions coordinator;
  coordinator.membership = [this] { return swarm_->membership.bytes(); };
  coordinator.authorize = [this](const identity::PeerId& peer, std::string_view membership) {
    return authorize(peer, membership);
  };
  coordinator.network_up = [this] { return network_->up(); };
  coordinator_.emplace(
      executor_, clock_, *client_, *store_, key_->peer_id(), [this] { return board_->known(); },
      seeded_by_system(), coordinator);
  if (const auto started = coordinator_->start(); !started) co_return started.error();
  tasks_.spawn("node peers", keep_peers());
  co_return Result<void>();
}

// Tells the coordinator of nodes that came, and remembers where they are.
asio::awaitable<void> Node::keep_peers() {
  std::set<identity::PeerId> seen;
  for (;;) {
    std::set<identity::PeerId> now;
    for (const auto& record : board_->known()) {
      now.insert(record.node);
      if (seen.contains(record.node) || record.node == key_->peer_id() || record.addresses.empty()) continue;
      const auto kept =
          store_->remember_peer(record.node.base58(), record.addresses.front(), clock_.unix_time());
      if (!kept) log::warn("node: {}", kept.error().message);
    }
    const bool more = !std::includes(seen.begin(), seen.end(), now.begin(), now.end());
    seen = std::move(now);
    if (more) coordinator_->candidates_changed();
    co_await clock_.sleep_for(kPeersInterval);
  }
}

Result<void> Node::start_api() {
  ApiParts parts;
  parts.clock = &clock_;
  parts.coordinator = &*coordinator_;
  parts.host = &*host_;
  parts.board = &*board_;
  parts.self = key_->peer_id();
  parts.about = [this] { return about(); };
  parts.findings = [this] { return findings(); };
  api_.emplace(std::move(parts));
  server_.emplace(executor_, clock_, api_->routes());
  return server_->start(directory_.control_socket());
}

asio::awaitable<void> Node::stop() {
  if (server_) co_await server_->stop();
  co_await tasks_.close();
  if (coordinator_) co_await coordinator_->stop();
  if (board_) co_await board_->stop();
  if (host_) co_await host_->stop();
  if (sockets_) co_await sockets_->stop();
  if (runner_) co_await runner_->close();
  if (dht_) co_await dht_->stop();
  if (network_) co_await network_->stop();
}

std::vector<std::string> Node::addresses() const {
  std::vector<std::string> found;
  for (const auto& address : network_->addresses()) found.push_back(address.text());
  return found;
}

std::vector<std::string> Node::worker_peers() const {
  std::vector<std::string> found = addresses();
  if (found.size() > kWorkerPeersMax) found.resize(kWorkerPeersMax);
  for (const auto& record : board_->known()) {
    if (found.size() >= kWorkerPeersMax) break;
    if (record.node != key_->peer_id() && !record.addresses.empty())
      found.push_back(record.addresses.front());
  }
  return found;
}

scheduler::CapacityRecord Node::measure() const {
  scheduler::CapacityRecord record;
  record.name = config_.name;
  record.version = kVersion;
  record.cpus_total = static_cast<double>(host_->capacity().milli_cpus) / 1000;
  record.cpus_free = static_cast<double>(host_->free().milli_cpus) / 1000;
  record.load = load_now();
  record.memory_total = host_->capacity().memory;
  record.memory_free = host_->free().memory;
  record.workers = static_cast<std::uint32_t>(host_->workers());
  for (const auto& [name, folder] : config_.environments) record.environments.push_back(name);
  record.confinement = confinement_;
  record.addresses = addresses();
  return record;
}

Result<void> Node::authorize(const identity::PeerId& peer, std::string_view bytes) const {
  const auto membership = identity::Membership::from_bytes(bytes);
  if (!membership) return membership.error();
  return membership->verify(swarm_->membership.swarm(), peer, clock_.unix_time());
}

json Node::about() const {
  const auto& stats = network_->stats();
  const auto dht = dht_->stats();
  return {
      {"name", config_.name},
      {"peer", key_->peer_id().base58()},
      {"swarm", {{"name", swarm_->name}, {"id", swarm_->membership.swarm().base58()}, {"joined", joined_}}},
      {"addresses", addresses()},
      {"directory", directory_.path().string()},
      {"version", kVersion},
      {"pid", ::getpid()},
      {"started", started_unix_},
      {"network",
       {{"up", network_->up()},
        {"pid", network_->daemon_pid()},
        {"restarts", stats.restarts},
        {"calls", stats.calls},
        {"requests", stats.requests},
        {"bytes_in", stats.bytes_in},
        {"bytes_out", stats.bytes_out},
        {"dropped_frames", stats.dropped_frames}}},
      {"dht",
       {{"nodes", dht.known_nodes},
        {"entries", dht.stored_entries},
        {"bytes", dht.stored_bytes},
        {"requests_served", dht.requests_served}}},
      {"rejected_requests", host_->rejected()},
      {"rejected_records", board_->rejected()},
      {"dropped_worker_lines", sockets_->dropped()},
      {"clock_ahead_s", board_->clock_ahead_s()}};
}

json Node::findings() const {
  json found = json::array();
  if (!network_->up())
    found.push_back(finding("network", true, "p2pd is down and is being restarted",
                            "wait some seconds; if it stays down, see the node's log"));
  const double ahead = dht_->stats().clock_offset_s.value_or(board_->clock_ahead_s());
  if (std::abs(ahead) > 3) {
    found.push_back(finding(
        "clock", true,
        fmt::format(
            "this machine's clock is {:.0f} s {} of the swarm's, so DHT records expire at the wrong time",
            std::abs(ahead), ahead > 0 ? "ahead" : "behind"),
        "set the clock, for example with: timedatectl set-ntp true"));
  } else if (join_error_) {
    found.push_back(
        finding("swarm", true, "the swarm cannot be reached: " + join_error_->message,
                "check that its other nodes run and that their addresses can be reached from here"));
  }
  if (network_->stats().dropped_frames > 0) {
    found.push_back(finding("peers", false,
                            fmt::format("peers sent {} frames that were no messages; they were dropped",
                                        network_->stats().dropped_frames),
                            "nothing to do; the log names the first of them"));
  }
  return found;
}

}  // namespace hivemetal::node
