#include "p2p/daemon_network.h"

#include <cerrno>
#include <cstdlib>
#include <fmt/format.h>
#include <sys/stat.h>
#include <system_error>
#include <unistd.h>
#include <utility>

#include "base/check.h"
#include "base/deadline.h"
#include "identity/keys.h"

namespace hivemetal::p2p {

namespace {

using namespace std::chrono_literals;
namespace fs = std::filesystem;

constexpr std::size_t kSocketPathMax = 107;  // of sockaddr_un, less the zero at its end

bool port_is_taken(const Error& error) {
  return error.message.find("address already in use") != std::string::npos;
}

// Makes `directory`, or takes an existing one of ours; nobody else may enter it.
Result<void> make_private(const fs::path& directory) {
  std::error_code error;
  fs::create_directories(directory.parent_path(), error);
  if (::mkdir(directory.c_str(), 0700) != 0 && errno != EEXIST) {
    return Error{ErrorCode::Unavailable,
                 fmt::format("make {}: {}", directory.string(), std::generic_category().message(errno))};
  }
  struct stat status{};
  if (::lstat(directory.c_str(), &status) != 0 || !S_ISDIR(status.st_mode) || status.st_uid != ::geteuid() ||
      ::chmod(directory.c_str(), 0700) != 0) {
    return Error{ErrorCode::Refused,
                 fmt::format("{} is no folder of this user: remove it, or name another", directory.string())};
  }
  return {};
}

}  // namespace

DaemonNetwork::DaemonNetwork(asio::any_io_executor executor, Clock& clock, DaemonOptions options)
    : executor_(executor),
      clock_(clock),
      options_(std::move(options)),
      directory_(options_.socket_directory),
      acceptor_(executor),
      connection_ended_(executor),
      tasks_(executor) {}

DaemonNetwork::~DaemonNetwork() = default;

// Files and folders; everything that needs no process.
Result<void> DaemonNetwork::prepare() {
  if (const auto checked = check_options(options_); !checked) return checked.error();
  if (options_.binary.empty()) {
    auto found = find_p2pd();
    if (!found) return found.error();
    options_.binary = std::move(*found);
  }
  if (::access(options_.binary.c_str(), X_OK) != 0) {
    return Error{ErrorCode::NotFound,
                 fmt::format("there is no program {}: run scripts/setup, or set HIVEMETAL_P2PD",
                             options_.binary.string())};
  }
  if (options_.host_addresses.empty()) {
    options_.host_addresses.push_back(Multiaddr::parse("/ip4/127.0.0.1/tcp/0").value());
  }
  if (directory_.empty()) {
    std::string name = (fs::temp_directory_path() / "hivemetal-p2p-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) {
      return Error{ErrorCode::Unavailable,
                   fmt::format("make {}: {}", name, std::generic_category().message(errno))};
    }
    directory_ = name;
    owns_directory_ = true;
  } else if (const auto made = make_private(directory_); !made) {
    return made.error();
  }
  if (control_socket().string().size() > kSocketPathMax) {
    return Error{ErrorCode::Invalid,
                 fmt::format("the path {} is too long for a unix socket ({} bytes, at most {}): "
                             "choose a shorter socket directory",
                             control_socket().string(), control_socket().string().size(), kSocketPathMax)};
  }
  if (options_.identity_file.empty()) {
    options_.identity_file = directory_ / "identity.key";
    const auto saved = identity::PrivateKey::generate().save(options_.identity_file);
    if (!saved) return saved.error().within("a new identity");
  }
  control_.emplace(clock_, control_socket().string(), stats_);
  return listen();
}

Multiaddr DaemonNetwork::listener_address() const {
  return Multiaddr::parse(fmt::format("/unix{}", (directory_ / "streams.sock").string())).value();
}

Result<void> DaemonNetwork::listen() {
  const std::string path = (directory_ / "streams.sock").string();
  ::unlink(path.c_str());
  boost::system::error_code error;
  acceptor_.open(asio::local::stream_protocol(), error);
  if (!error) close_on_exec(acceptor_.native_handle());
  if (!error) acceptor_.bind(asio::local::stream_protocol::endpoint(path), error);
  if (!error) acceptor_.listen(asio::socket_base::max_listen_connections, error);
  if (error) return Error{ErrorCode::Unavailable, fmt::format("listen at {}: {}", path, error.message())};
  return {};
}

asio::awaitable<Result<void>> DaemonNetwork::start(Clock::TimePoint deadline) {
  const auto prepared = prepare();
  if (!prepared) co_return prepared.error();
  const auto started = co_await start_first(deadline);
  if (!started) co_return started.error();
  pinned_ = pin_ports(options_.host_addresses, listening_);
  backoff_ = Backoff();
  tasks_.spawn("p2p supervise", supervise());
  tasks_.spawn("p2p look after", look_after());
  tasks_.spawn("p2p streams", accept_streams());
  log::info("p2p: {} at {}", self_.base58(), listening_.empty() ? "no address" : listening_.front().text());
  co_return Result<void>();
}

// As Hivemind does: p2pd dials the bootstrap peers itself. A port that a dying p2pd of ours still holds is
// waited for.
asio::awaitable<Result<void>> DaemonNetwork::start_first(Clock::TimePoint deadline) {
  bool dial_bootstrap = true;
  for (int attempt = 1;; ++attempt) {
    const auto started = co_await bring_up(options_.host_addresses, dial_bootstrap, deadline);
    if (started) co_return started;
    const std::string& text = started.error().message;
    if (port_is_taken(started.error())) {
      if (attempt < 4 && clock_.now() + 500ms < deadline) {
        co_await clock_.sleep_for(500ms);
        continue;
      }
      co_return Error{ErrorCode::Unavailable,
                      fmt::format("{}: address already in use; choose another --listen ({})",
                                  options_.host_addresses.front().text(), text)};
    }
    if (dial_bootstrap && text.find("failed to connect to bootstrap peers") != std::string::npos) {
      if (options_.bootstrap_required) {
        co_return Error{
            ErrorCode::Unavailable,
            fmt::format("none of the {} bootstrap peers answers, {} the first of them",
                        options_.bootstrap_peers.size(), options_.bootstrap_peers.front().text())};
      }
      log::warn("p2p: none of the {} bootstrap peers answers; going on without",
                options_.bootstrap_peers.size());
      dial_bootstrap = false;
      continue;
    }
    co_return started;
  }
}

asio::awaitable<Result<void>> DaemonNetwork::bring_up(std::vector<Multiaddr> hosts, bool dial_bootstrap,
                                                      Clock::TimePoint deadline) {
  if (process_) co_await process_->stop(0s);
  ::unlink(control_socket().c_str());
  process_ = std::make_unique<DaemonProcess>(executor_, clock_);
  const auto started =
      co_await process_->start(command_line(options_, hosts, control_socket(), dial_bootstrap), deadline);
  if (!started) co_return started.error();
  const auto self = co_await control_->identify(deadline);
  if (!self) co_return self.error();
  if (!self_.empty() && self->peer != self_) {
    co_return Error{ErrorCode::Invalid,
                    fmt::format("p2pd came back as {} and not as {}: the identity file changed",
                                self->peer.base58(), self_.base58())};
  }
  self_ = self->peer;
  listening_ = self->addresses;
  auto socket = co_await control_->upgrade(deadline);
  if (!socket) co_return socket.error();
  connection_ = std::make_shared<PersistentConnection>(clock_, std::move(*socket), unary_services_, stats_);
  up_ = true;
  tasks_.spawn("p2pd connection", carry(connection_));
  const auto registered = co_await register_handlers(deadline);
  if (!registered) {
    up_ = false;
    std::exchange(connection_, nullptr)->close();
  }
  co_return registered;
}

asio::awaitable<Result<void>> DaemonNetwork::register_handlers(Clock::TimePoint deadline) {
  std::vector<std::string> handles;
  for (const auto& [handle, service] : unary_services_) handles.push_back(handle);
  const auto connection = connection_;
  for (const std::string& handle : handles) {
    if (!unary_services_.contains(handle)) continue;  // removed meanwhile
    const auto added = co_await connection->add_handler(handle, deadline);
    if (!added) co_return added.error().within("serve " + handle);
  }
  handles.clear();
  for (const auto& [protocol, service] : stream_services_) handles.push_back(protocol);
  for (const std::string& protocol : handles) {
    if (!stream_services_.contains(protocol)) continue;
    const auto added = co_await control_->add_stream_handler(listener_address(), protocol, deadline);
    if (!added) co_return added.error().within("serve " + protocol);
  }
  co_return Result<void>();
}

asio::awaitable<void> DaemonNetwork::carry(std::shared_ptr<PersistentConnection> connection) {
  const Error why = co_await connection->run();
  if (connection_ != connection) co_return;  // stopped, or replaced
  log::warn("p2p: the connection to p2pd ended: {}", why.message);
  up_ = false;
  connection_.reset();
  connection_ended_.notify_all();
}

asio::awaitable<void> DaemonNetwork::supervise() {
  for (;;) {
    while (up_) co_await connection_ended_.wait();
    const auto delay = backoff_.next(clock_.now());
    co_await clock_.sleep_for(delay);
    ++stats_->restarts;
    const auto restarted = co_await restart();
    if (!restarted) {
      log::warn("p2p: p2pd does not start again: {}", restarted.error().message);
      continue;
    }
    log::warn("p2p: p2pd was started again as {}", self_.base58());
    tasks_.spawn("p2p reconnect", reconnect());
  }
}

asio::awaitable<Result<void>> DaemonNetwork::restart() {
  if (process_) {
    co_await process_->stop(500ms);
    log::warn("p2p: p2pd ended with {}", process_->end());
  }
  const auto deadline = clock_.now() + 15s;
  auto started = co_await bring_up(pinned_, /*dial_bootstrap=*/false, deadline);
  if (started || !port_is_taken(started.error())) co_return started;
  co_await clock_.sleep_for(300ms);
  started = co_await bring_up(pinned_, /*dial_bootstrap=*/false, deadline);
  if (started || !port_is_taken(started.error())) co_return started;
  log::warn("p2p: {} was taken meanwhile; listening at another port, others must learn it anew",
            pinned_.front().text());
  started = co_await bring_up(options_.host_addresses, /*dial_bootstrap=*/false, deadline);
  if (started) pinned_ = pin_ports(options_.host_addresses, listening_);
  co_return started;
}

asio::awaitable<void> DaemonNetwork::stop() {
  if (std::exchange(stopping_, true)) co_return;
  up_ = false;
  boost::system::error_code ignored;
  acceptor_.close(ignored);
  if (process_) process_->expect_end();
  if (connection_) std::exchange(connection_, nullptr)->close();  // p2pd exits by itself now
  co_await tasks_.close();
  while (!unary_services_.empty() || !stream_services_.empty()) {
    const std::string handle =
        unary_services_.empty() ? stream_services_.begin()->first : unary_services_.begin()->first;
    co_await stop_serving(handle);
  }
  if (process_) co_await process_->stop(options_.stop_grace);
  if (directory_.empty()) co_return;
  for (const char* name : {"control.sock", "streams.sock"}) ::unlink((directory_ / name).c_str());
  std::error_code error;
  if (owns_directory_) fs::remove_all(directory_, error);
}

}  // namespace hivemetal::p2p
