// DaemonNetwork beside the contract: the death of p2pd, wrong options, and what strangers send to its
// sockets.
#include "p2p/daemon_network.h"

#include <arpa/inet.h>
#include <array>
#include <cstdio>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <signal.h>
#include <string>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

#include <boost/asio/write.hpp>

#include "base/deadline.h"
#include "p2p/network_worlds_test.h"

namespace hivemetal::p2p {
namespace {

using namespace std::chrono_literals;
namespace fs = std::filesystem;

asio::awaitable<Result<Bytes>> echo(PeerId, Bytes request) { co_return request; }

asio::awaitable<void> write_and_close(std::unique_ptr<Stream> stream) {
  (void)co_await stream->write("hello");
  stream->close();
}

asio::awaitable<Result<void>> wait_for_restart(DaemonNetwork& network, Clock& clock, std::uint64_t restarts) {
  while (!network.up() || network.stats().restarts < restarts) co_await clock.sleep_for(5ms);
  co_return Result<void>();
}

asio::awaitable<Result<Bytes>> call_until_answered(Network& network, PeerId peer, Clock& clock) {
  for (;;) {
    auto reply = co_await network.call(peer, "Test.echo", "hello", clock.now() + 5s);
    if (reply || reply.error().code != ErrorCode::Unavailable) co_return reply;
    co_await clock.sleep_for(20ms);
  }
}

class DaemonNetworkTest : public testing::Test {
 protected:
  // Starts one more network, stopped at the end of the test.
  Result<DaemonNetwork*> start(DaemonOptions options) {
    more_.push_back(std::make_unique<DaemonNetwork>(world_.executor(), world_.clock(), std::move(options)));
    const auto started = world_.run(more_.back()->start(in(20s)));
    if (!started) return started.error();
    return more_.back().get();
  }
  void TearDown() override {
    for (auto& network : more_) world_.run(network->stop());
  }

  DaemonNetwork& a() { return world_.daemon(0); }
  DaemonNetwork& b() { return world_.daemon(1); }
  Clock::TimePoint in(Clock::Duration duration) { return world_.clock().now() + duration; }

  DaemonWorld world_;
  std::vector<std::unique_ptr<DaemonNetwork>> more_;
};

bool exists(int pid) { return ::kill(pid, 0) == 0; }

asio::awaitable<Result<void>> wait_for_checks(DaemonNetwork& network, Clock& clock, std::uint64_t checks) {
  while (network.stats().health_checks < checks) co_await clock.sleep_for(5ms);
  co_return Result<void>();
}

// libp2p backs off from an address for 5 s after a failed dial, so the peer's next call depends on our
// dialling it.
TEST_F(DaemonNetworkTest, IsBackWithIdPortAndHandlersWithinThreeSecondsAfterP2pdIsKilled) {
  const auto started = start({.health_every = 100ms});
  ASSERT_TRUE(started) << started.error().message;
  DaemonNetwork& network = **started;
  ASSERT_TRUE(world_.run(network.serve("Test.echo", echo)));
  ASSERT_TRUE(world_.run(network.serve_stream("Test.hello", write_and_close)));
  ASSERT_TRUE(world_.run(b().connect(network.addresses().at(0), in(20s))));
  const auto checks = network.stats().health_checks + 2;  // it knows its peer then
  ASSERT_TRUE(
      world_.run(with_deadline(world_.clock(), in(20s), wait_for_checks(network, world_.clock(), checks))));
  const PeerId id = network.self();
  const auto addresses = network.addresses();
  const int pid = network.daemon_pid();

  const auto before = world_.clock().now();
  ::kill(pid, SIGKILL);
  const auto reply =
      world_.run(with_deadline(world_.clock(), in(20s), call_until_answered(b(), id, world_.clock())));
  const std::chrono::duration<double> took = world_.clock().now() - before;

  ASSERT_TRUE(reply) << reply.error().message;
  EXPECT_EQ(*reply, "hello");
  EXPECT_LE(took.count(), 3.0);
  RecordProperty("seconds", std::to_string(took.count()));
  EXPECT_NE(network.daemon_pid(), pid);
  EXPECT_EQ(network.self(), id);
  EXPECT_EQ(network.addresses(), addresses);
  EXPECT_EQ(network.stats().restarts, 1U);
  const auto stream = world_.run(b().open_stream(id, "Test.hello", in(20s)));
  ASSERT_TRUE(stream) << stream.error().message;
  EXPECT_EQ(world_.run(with_deadline(world_.clock(), in(20s), read_exactly(**stream, 5))).value(), "hello");
}

TEST_F(DaemonNetworkTest, DialsItsPeersAgainAfterARestart) {
  ASSERT_TRUE(world_.run(b().serve("Test.echo", echo)));
  ASSERT_TRUE(world_.run(a().connect(b().addresses().at(0), in(20s))));
  ::kill(a().daemon_pid(), SIGKILL);
  ASSERT_TRUE(world_.run(with_deadline(world_.clock(), in(20s), wait_for_restart(a(), world_.clock(), 1))));
  EXPECT_TRUE(world_.run(
      with_deadline(world_.clock(), in(20s), call_until_answered(a(), b().self(), world_.clock()))));
}

TEST_F(DaemonNetworkTest, SaysThatP2pdIsRestartingWhileItIsAway) {
  ::kill(a().daemon_pid(), SIGKILL);
  const auto lost = world_.run(a().call(b().self(), "Test.echo", "", in(20s)));
  ASSERT_FALSE(lost);
  EXPECT_EQ(lost.error().code, ErrorCode::Unavailable);
  const auto down = world_.run(a().call(b().self(), "Test.echo", "", in(20s)));
  ASSERT_FALSE(down);
  EXPECT_EQ(down.error().code, ErrorCode::Unavailable);
  EXPECT_NE(down.error().message.find("restarting"), std::string::npos) << down.error().message;
}

TEST_F(DaemonNetworkTest, KillsAndRestartsAP2pdThatHangs) {
  const auto network = start({.health_every = 200ms, .health_within = 500ms});
  ASSERT_TRUE(network) << network.error().message;
  const int pid = (*network)->daemon_pid();
  ::kill(pid, SIGSTOP);
  EXPECT_TRUE(
      world_.run(with_deadline(world_.clock(), in(20s), wait_for_restart(**network, world_.clock(), 1))));
  EXPECT_FALSE(exists(pid));
}

// A socket of ours that listens at a port of 127.0.0.1.
class TakenPort {
 public:
  explicit TakenPort(std::uint16_t port) : socket_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    const int yes = 1;
    ::setsockopt(socket_, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    taken_ = ::bind(socket_, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0 &&
             ::listen(socket_, 1) == 0;
    socklen_t size = sizeof address;
    ::getsockname(socket_, reinterpret_cast<sockaddr*>(&address), &size);
    port_ = ntohs(address.sin_port);
  }
  ~TakenPort() { ::close(socket_); }

  bool taken() const { return taken_; }
  std::uint16_t port() const { return port_; }

 private:
  int socket_;
  bool taken_ = false;
  std::uint16_t port_ = 0;
};

TEST_F(DaemonNetworkTest, NamesThePortThatIsTaken) {
  const TakenPort taken(0);
  const std::string address = "/ip4/127.0.0.1/tcp/" + std::to_string(taken.port());
  const auto network = start({.host_addresses = {Multiaddr::parse(address).value()}});
  ASSERT_FALSE(network);
  EXPECT_EQ(network.error().code, ErrorCode::Unavailable);
  EXPECT_NE(network.error().message.find(address + ": address already in use; choose another --listen"),
            std::string::npos)
      << network.error().message;
}

TEST_F(DaemonNetworkTest, TakesAnotherPortIfItsOwnWasTakenWhileP2pdWasAway) {
  const auto addresses = a().addresses();
  const std::string text = addresses.at(0).without_peer().text();
  const auto port = static_cast<std::uint16_t>(std::stoi(text.substr(text.rfind('/') + 1)));
  const int pid = a().daemon_pid();
  ::kill(pid, SIGKILL);
  siginfo_t info{};
  ASSERT_EQ(::waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOWAIT), 0);
  const TakenPort taken(port);
  ASSERT_TRUE(taken.taken());
  ASSERT_TRUE(world_.run(with_deadline(world_.clock(), in(20s), wait_for_restart(a(), world_.clock(), 1))));
  EXPECT_NE(a().addresses(), addresses);
  EXPECT_EQ(a().addresses().at(0).peer(), a().self());
}

TEST_F(DaemonNetworkTest, SaysHowToGetP2pdIfItIsMissing) {
  const auto network = start({.binary = "/nonexistent/p2pd"});
  ASSERT_FALSE(network);
  EXPECT_EQ(network.error().code, ErrorCode::NotFound);
  EXPECT_NE(network.error().message.find("scripts/setup"), std::string::npos) << network.error().message;
}

TEST_F(DaemonNetworkTest, RefusesASocketDirectoryWithATooLongPath) {
  const fs::path parent = fs::path(testing::TempDir()) / std::string(90, 'd');
  const auto network = start({.socket_directory = parent / "sockets"});
  ASSERT_FALSE(network);
  EXPECT_EQ(network.error().code, ErrorCode::Invalid) << network.error().message;
  fs::remove_all(parent);
}

TEST_F(DaemonNetworkTest, KeepsItsSocketsFromOtherUsersAndRemovesThem) {
  const fs::path directory = fs::path(testing::TempDir()) / ("hm-sockets-" + std::to_string(::getpid()));
  const auto network = start({.socket_directory = directory});
  ASSERT_TRUE(network) << network.error().message;
  EXPECT_EQ(fs::status(directory).permissions(), fs::perms::owner_all);
  const int pid = (*network)->daemon_pid();
  EXPECT_TRUE(exists(pid));
  world_.run((*network)->stop());
  EXPECT_FALSE(exists(pid));
  EXPECT_FALSE(fs::exists(directory / "control.sock"));
  EXPECT_FALSE(fs::exists(directory / "streams.sock"));
  fs::remove_all(directory);
}

TEST_F(DaemonNetworkTest, FindsAPeerByItsIdThroughABootstrapPeer) {
  DaemonOptions options;
  options.bootstrap_peers = {b().addresses().at(0)};
  const auto c = start(options);
  ASSERT_TRUE(c) << c.error().message;
  const auto d = start(options);
  ASSERT_TRUE(d) << d.error().message;
  ASSERT_TRUE(world_.run((*c)->serve("Test.echo", echo)));
  const auto reply = world_.run(
      with_deadline(world_.clock(), in(20s), call_until_answered(**d, (*c)->self(), world_.clock())));
  ASSERT_TRUE(reply) << reply.error().message;
  EXPECT_EQ(*reply, "hello");
}

TEST_F(DaemonNetworkTest, FailsWithoutABootstrapPeerUnlessItMayStartAlone) {
  DaemonOptions options;
  options.bootstrap_peers = {Multiaddr::parse("/ip4/127.0.0.1/tcp/1").value().with_peer(b().self())};
  const auto refused = start(options);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::Unavailable);
  EXPECT_NE(refused.error().message.find("/ip4/127.0.0.1/tcp/1"), std::string::npos)
      << refused.error().message;
  options.bootstrap_required = false;
  const auto alone = start(options);
  EXPECT_TRUE(alone) << alone.error().message;
}

asio::awaitable<Result<void>> send_raw(std::string path, Bytes bytes) {
  auto socket = co_await connect_socket(std::move(path));
  if (!socket) co_return socket.error();
  (void)co_await asio::async_write(**socket, asio::buffer(bytes), use_result);
  std::array<char, 1> end;
  (void)co_await (*socket)->async_read_some(asio::buffer(end), use_result);
  co_return Result<void>();
}

TEST_F(DaemonNetworkTest, DropsInboundStreamsThatBeginWithRubbishAndGoesOn) {
  const std::string path = (a().control_socket().parent_path() / "streams.sock").string();
  const std::array<Bytes, 3> rubbish = {
      Bytes("\xff\xff\xff\xff\x0f", 5),  // 4 GiB
      Bytes(20, '\xff'),                 // a length without an end
      Bytes("\x05hello", 6),             // no StreamInfo
  };
  for (const Bytes& bytes : rubbish) {
    EXPECT_TRUE(world_.run(with_deadline(world_.clock(), in(20s), send_raw(path, bytes))));
  }
  EXPECT_EQ(a().stats().dropped_frames, 3U);
  ASSERT_TRUE(world_.run(a().serve_stream("Test.hello", write_and_close)));
  ASSERT_TRUE(world_.run(b().connect(a().addresses().at(0), in(20s))));
  EXPECT_TRUE(world_.run(b().open_stream(a().self(), "Test.hello", in(20s))));
}

// Run in a process of its own by the next test, which kills it.
TEST(DaemonNetworkChild, DISABLED_StartsP2pdTellsItsPidAndWaits) {
  DaemonWorld world;
  std::printf("p2pd %d %d\n", world.daemon(0).daemon_pid(), world.daemon(1).daemon_pid());
  std::fflush(stdout);
  world.run(world.clock().sleep_for(1h));
}

TEST(DaemonNetworkChild, TakesP2pdAlongWhenItIsKilled) {
  std::array<int, 2> ends{};
  ASSERT_EQ(::pipe(ends.data()), 0);
  const fs::path folder = fs::path(testing::TempDir()) / ("hm-child-" + std::to_string(::getpid()));
  fs::create_directory(folder);  // what a killed process leaves behind
  const pid_t child = ::fork();  // execs at once
  if (child == 0) {
    ::setenv("TMPDIR", folder.c_str(), 1);
    ::dup2(ends[1], 1);
    ::execl("/proc/self/exe", "p2p_test", "--gtest_also_run_disabled_tests",
            "--gtest_filter=DaemonNetworkChild.DISABLED_StartsP2pdTellsItsPidAndWaits", nullptr);
    ::_exit(127);
  }
  ::close(ends[1]);
  FILE* output = ::fdopen(ends[0], "r");
  std::array<int, 2> pids{};
  std::array<char, 512> line{};
  while (pids[0] == 0 && std::fgets(line.data(), line.size(), output) != nullptr) {
    (void)std::sscanf(line.data(), "p2pd %d %d", &pids[0], &pids[1]);
  }
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  std::fclose(output);
  fs::remove_all(folder);
  ASSERT_GT(pids[0], 0);
  const auto killed = std::chrono::steady_clock::now();
  const auto gone = [&pids] { return !exists(pids[0]) && !exists(pids[1]); };
  while (!gone() && std::chrono::steady_clock::now() - killed < 10s) ::usleep(10'000);
  EXPECT_TRUE(gone());  // within a second, where the machine has nothing else to do
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - killed;
  RecordProperty("seconds", std::to_string(took.count()));
}

}  // namespace
}  // namespace hivemetal::p2p
