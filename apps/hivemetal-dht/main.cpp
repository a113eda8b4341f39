// hivemetal-dht: one node of a Hivemind DHT on the command line.
//
// Starts p2pd and the node, prints a line of JSON with its addresses, and then answers commands from standard
// input (console.h) until its end, SIGTERM or Ctrl-C. Good for looking into a swarm, as a bootstrap node, and
// for tests.
#include <csignal>
#include <iostream>
#include <optional>
#include <string>
#include <unistd.h>
#include <vector>

#include <CLI/CLI.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/experimental/awaitable_operators.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/read_until.hpp>
#include <boost/asio/signal_set.hpp>

#include "base/log.h"
#include "base/notification.h"
#include "base/task_group.h"
#include "console.h"
#include "dht/progress_schema.h"
#include "dht/signed_record.h"
#include "p2p/daemon_network.h"

namespace hivemetal::console {
namespace {

using namespace std::chrono_literals;
using nlohmann::json;

constexpr std::size_t kLineBytesMax = 64 * 1024 * 1024;

struct Arguments {
  std::vector<std::string> initial_peers;
  std::vector<std::string> listen;
  std::string identity;
  std::string p2pd;
  std::vector<std::string> runs;
  bool client = false;
  bool sign = false;
  double rpc_timeout_s = 3;
  std::string log_level = "warn";
};

void print(const json& line) {
  std::cout << line.dump(-1, ' ', false, json::error_handler_t::replace) << '\n' << std::flush;
}

Result<std::vector<p2p::Multiaddr>> addresses_of(const std::vector<std::string>& texts) {
  std::vector<p2p::Multiaddr> addresses;
  for (const std::string& text : texts) {
    auto address = p2p::Multiaddr::parse(text);
    if (!address) return address.error();
    addresses.push_back(std::move(*address));
  }
  return addresses;
}

// Commands under way.
struct Running {
  explicit Running(asio::any_io_executor executor) : ended(executor), tasks(executor) {}

  std::size_t count = 0;
  Notification ended;
  TaskGroup tasks;
};

asio::awaitable<void> answer(Console& console, std::string line, Running& running) {
  print(co_await console.run(std::move(line)));
  --running.count;
  running.ended.notify_all();
}

// Reads commands until standard input ends, and waits for those under way then.
asio::awaitable<void> read_commands(Console& console, Running& running) {
  asio::posix::stream_descriptor input(running.tasks.executor(), ::dup(STDIN_FILENO));
  std::string buffer;
  for (;;) {
    const auto [error, size] =
        co_await asio::async_read_until(input, asio::dynamic_buffer(buffer, kLineBytesMax), '\n', use_result);
    if (error) break;
    std::string line = buffer.substr(0, size - 1);
    buffer.erase(0, size);
    if (line.empty()) continue;
    ++running.count;
    running.tasks.spawn("command", answer(console, std::move(line), running));
  }
  while (running.count > 0) co_await running.ended.wait();
}

asio::awaitable<void> wait_for_signal(asio::signal_set& signals) {
  (void)co_await signals.async_wait(use_result);
}

asio::awaitable<Result<void>> serve(const Arguments& arguments, p2p::DaemonNetwork& network, Clock& clock,
                                    std::vector<p2p::Multiaddr> initial_peers) {
  using namespace asio::experimental::awaitable_operators;
  const auto executor = co_await asio::this_coro::executor;
  if (const auto started = co_await network.start(clock.now() + 30s); !started) co_return started;

  dht::DhtOptions options;
  options.client_mode = arguments.client;
  options.rpc_timeout =
      std::chrono::duration_cast<Clock::Duration>(std::chrono::duration<double>(arguments.rpc_timeout_s));
  dht::Dht dht(executor, clock, network, options, seeded_by_system());
  Bytes marker;
  for (const std::string& run : arguments.runs) dht.add_validator(std::make_unique<dht::ProgressSchema>(run));
  if (arguments.sign || !arguments.runs.empty()) {
    auto validator = std::make_unique<dht::RsaSignatureValidator>(identity::RsaKey::generate());
    marker = validator->owner_marker();
    dht.add_validator(std::move(validator));
  }
  asio::signal_set signals(executor, SIGTERM, SIGINT);
  auto joined = co_await dht.start(std::move(initial_peers));
  if (joined) {
    json addresses = json::array();
    for (const auto& address : network.addresses()) addresses.push_back(address.text());
    print({{"event", "ready"},
           {"peer_id", network.self().base58()},
           {"addresses", addresses},
           {"node_id", dht.stats().node_id.hex()},
           {"owner", marker}});
    Console console(dht, clock, marker);
    Running running(executor);
    co_await (read_commands(console, running) || wait_for_signal(signals));
    co_await dht.stop();
    co_await running.tasks.close();
  } else {
    co_await dht.stop();
  }
  co_return joined;
}

asio::awaitable<void> run(const Arguments& arguments, Clock& clock, int& status) {
  const auto initial_peers = addresses_of(arguments.initial_peers);
  const auto listen = addresses_of(arguments.listen);
  for (const auto* addresses : {&initial_peers, &listen}) {
    if (*addresses) continue;
    print({{"event", "failed"}, {"error", addresses->error().message}});
    status = 2;
    co_return;
  }
  p2p::DaemonOptions options;
  options.binary = arguments.p2pd;
  options.identity_file = arguments.identity;
  options.host_addresses = *listen;
  options.bootstrap_peers = *initial_peers;
  options.bootstrap_required = false;
  if (arguments.client) options.dht = p2p::DaemonOptions::Dht::Client;
  p2p::DaemonNetwork network(co_await asio::this_coro::executor, clock, options);
  const auto served = co_await serve(arguments, network, clock, *initial_peers);
  if (!served) print({{"event", "failed"}, {"error", served.error().message}});
  co_await network.stop();
  status = served ? 0 : 1;
}

}  // namespace
}  // namespace hivemetal::console

int main(int argc, char** argv) {
  using namespace hivemetal;
  console::Arguments arguments;
  CLI::App app{
      "A node of a Hivemind DHT. Prints its addresses as a line of JSON, then answers commands on standard "
      "input, as {\"do\": \"get\", \"key\": \"k\"}, until its end."};
  app.add_option("--initial-peer", arguments.initial_peers,
                 "Multiaddress of a node to join through; may be repeated");
  app.add_option("--listen", arguments.listen,
                 "Multiaddress to listen on [/ip4/127.0.0.1/tcp/0]; may be repeated");
  app.add_option("--identity", arguments.identity,
                 "File with the libp2p key; a new one for this run by default");
  app.add_option("--p2pd", arguments.p2pd, "The p2pd binary");
  app.add_option("--run", arguments.runs,
                 "Check and sign the training progress records of this run; may be repeated");
  app.add_flag("--client", arguments.client, "Serve nobody: for machines that cannot be reached");
  app.add_flag("--sign", arguments.sign, "Check and sign records with an owner");
  app.add_option("--rpc-timeout", arguments.rpc_timeout_s, "Seconds to wait for another node")
      ->check(CLI::Range(0.1, 60.0));
  app.add_option("--log", arguments.log_level, "debug, info, warn, error or off");
  CLI11_PARSE(app, argc, argv);

  std::signal(SIGPIPE, SIG_IGN);
  log::start(arguments.log_level);
  asio::io_context loop(1);
  SystemClock clock;
  int status = 1;
  asio::co_spawn(loop, console::run(arguments, clock, status), [](const std::exception_ptr& error) {
    if (error) std::rethrow_exception(error);
  });
  loop.run();
  return status;
}
