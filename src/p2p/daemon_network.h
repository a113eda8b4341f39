// The network of real nodes: libp2p as Hivemind's daemon p2pd speaks it, run as a child process.
//
//      control socket          one connection per request: connect, peers, open_stream         p2p/control.h
//      persistent connection   unary calls both ways p2p/persistent.h listener                p2pd dials it
//      for each inbound stream
//
// If p2pd dies it is started again at once (later with back-off up to 10 s) with the same identity and the
// same ports; handlers are registered again and known peers dialled. Meanwhile calls fail with Unavailable.
// p2pd exits by itself when this process is gone: nothing is left behind, whatever kills us.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <boost/asio/local/stream_protocol.hpp>

#include "base/log.h"
#include "base/notification.h"
#include "base/task_group.h"
#include "p2p/control.h"
#include "p2p/daemon_options.h"
#include "p2p/daemon_process.h"
#include "p2p/network.h"
#include "p2p/network_stats.h"
#include "p2p/persistent.h"

namespace hivemetal::p2p {

class DaemonNetwork final : public Network {
 public:
  DaemonNetwork(asio::any_io_executor executor, Clock& clock, DaemonOptions options);
  ~DaemonNetwork() override;

  // Starts p2pd and connects to the bootstrap peers. Handlers may be registered before. Fails with
  //   NotFound     p2pd or the identity file is missing
  //   Invalid      an option is wrong
  //   Unavailable  a port is taken, or none of the bootstrap peers answers (and one is required)
  //   TimedOut     p2pd was not ready at `deadline`
  // After a failure only stop() is of use.
  asio::awaitable<Result<void>> start(Clock::TimePoint deadline);

  // Cancels all handlers and ends p2pd; returns when the process is gone.
  asio::awaitable<void> stop();

  const PeerId& self() const override { return self_; }
  std::vector<Multiaddr> addresses() const override;
  asio::awaitable<Result<void>> connect(Multiaddr address, Clock::TimePoint deadline) override;
  asio::awaitable<Result<std::vector<PeerInfo>>> peers(Clock::TimePoint deadline) override;
  asio::awaitable<Result<Bytes>> call(PeerId peer, std::string handle, Bytes request,
                                      Clock::TimePoint deadline) override;
  asio::awaitable<Result<std::unique_ptr<Stream>>> open_stream(PeerId peer, std::string protocol,
                                                               Clock::TimePoint deadline) override;
  asio::awaitable<Result<void>> serve(std::string handle, UnaryHandler handler) override;
  asio::awaitable<Result<void>> serve_stream(std::string protocol, StreamHandler handler) override;
  asio::awaitable<void> stop_serving(std::string handle) override;

  // Closes all connections to a peer.
  asio::awaitable<Result<void>> disconnect(PeerId peer, Clock::TimePoint deadline);

  const NetworkStats& stats() const { return *stats_; }
  bool up() const { return up_; }
  int daemon_pid() const { return process_ ? process_->pid() : 0; }

  // p2pd's control socket: a Python process on this machine can attach to it with `P2P.replicate`.
  std::filesystem::path control_socket() const { return directory_ / "control.sock"; }

 private:
  struct StreamService {
    StreamService(asio::any_io_executor executor, StreamHandler handler)
        : handler(std::move(handler)), tasks(std::move(executor)) {}

    StreamHandler handler;
    TaskGroup tasks;
  };

  Result<void> prepare();
  Result<void> listen();
  Multiaddr listener_address() const;
  Error down() const;

  // One start of p2pd, up to the registered handlers.
  asio::awaitable<Result<void>> bring_up(std::vector<Multiaddr> hosts, bool dial_bootstrap,
                                         Clock::TimePoint deadline);
  asio::awaitable<Result<void>> start_first(Clock::TimePoint deadline);
  asio::awaitable<Result<void>> register_handlers(Clock::TimePoint deadline);
  asio::awaitable<Result<void>> restart();
  asio::awaitable<void> supervise();
  asio::awaitable<void> carry(std::shared_ptr<PersistentConnection> connection);
  asio::awaitable<void> look_after();  // health, addresses, known peers
  asio::awaitable<void> reconnect();
  asio::awaitable<void> dial_known(PeerInfo peer);
  asio::awaitable<void> accept_streams();
  asio::awaitable<void> receive_stream(std::unique_ptr<Socket> socket);
  void remember(const PeerInfo& peer);
  void drop_frame(const std::string& reason);

  asio::any_io_executor executor_;
  Clock& clock_;
  DaemonOptions options_;
  std::shared_ptr<NetworkStats> stats_ = std::make_shared<NetworkStats>();
  std::filesystem::path directory_;
  bool owns_directory_ = false;
  PeerId self_;
  std::vector<Multiaddr> listening_;  // as p2pd says, without /p2p
  std::vector<Multiaddr> pinned_;     // host addresses with the ports of the first start
  std::map<PeerId, PeerInfo> known_;  // peers to dial after a restart
  UnaryServices unary_services_;
  std::map<std::string, std::shared_ptr<StreamService>, std::less<>> stream_services_;
  Backoff backoff_;
  log::Limited limited_;
  bool up_ = false;
  bool stopping_ = false;
  std::unique_ptr<DaemonProcess> process_;
  std::optional<Control> control_;  // from start() on
  std::shared_ptr<PersistentConnection> connection_;
  asio::local::stream_protocol::acceptor acceptor_;
  Notification connection_ended_;
  TaskGroup tasks_;
};

}  // namespace hivemetal::p2p
