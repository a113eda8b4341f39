// `hivemetal node run`: the daemon, in the foreground, for systemd or a terminal.
#include <cstdio>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <signal.h>
#include <spdlog/sinks/rotating_file_sink.h>
#include <sys/stat.h>
#include <unistd.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/signal_set.hpp>

#include "base/log.h"
#include "node/commands.h"
#include "node/node.h"

namespace hivemetal::node {

namespace {

using nlohmann::json;

// What the run of a daemon came to.
struct Outcome {
  std::optional<Error> error;
};

void announce(const Common& common, const Node& node) {
  if (common.json) {
    fmt::print("{}\n", json{{"ready", true},
                            {"pid", ::getpid()},
                            {"swarm", node.swarm_name()},
                            {"addresses", node.addresses()}}
                           .dump());
  } else {
    fmt::print("ready {}\n", fmt::join(node.addresses(), " "));
  }
  std::fflush(stdout);
}

// Starts the node, waits for a signal, stops it. A second signal ends the process at once: workers and their
// guards do not need us.
asio::awaitable<void> live(Node& node, const Common& common, asio::signal_set& signals, Outcome& outcome) {
  using namespace asio::experimental::awaitable_operators;
  auto started = co_await (node.start() || signals.async_wait(use_result));
  if (started.index() == 0) {
    const auto& result = std::get<0>(started);
    if (result) {
      announce(common, node);
      log::info("node: ready");
      co_await signals.async_wait(use_result);
      log::info("node: stopping");
    } else {
      outcome.error = result.error();
    }
  }
  signals.async_wait([](const boost::system::error_code& error, int) {
    if (!error) ::_exit(1);
  });
  co_await node.stop();
  signals.cancel();
}

// The log on stderr, and the same in the directory for later: three files of 8 MiB.
void start_log(const Config& config, const std::filesystem::path& file) {
  log::start(config.log_level);
  const mode_t previous = ::umask(0077);
  try {
    auto sink = std::make_shared<spdlog::sinks::rotating_file_sink_mt>(file.string(), 8 << 20, 2);
    sink->set_pattern("%Y-%m-%d %H:%M:%S.%e %-5l %v");
    spdlog::default_logger()->sinks().push_back(std::move(sink));
    spdlog::flush_on(spdlog::level::info);
  } catch (const spdlog::spdlog_ex& error) {
    log::warn("node: no log in the directory: {}", error.what());
  }
  ::umask(previous);
}

int failed(const Common& common, const Error& error) {
  if (common.json) {
    fmt::print("{}\n", json{{"error", {{"code", name_of(error.code)}, {"message", error.message}}}}.dump());
  } else {
    fmt::print(stderr, "hivemetal: {}\n", error.message);
  }
  return error.code == ErrorCode::Invalid ? 2 : 1;
}

}  // namespace

int node_run(const Common& common, const NodeRunOptions& options) {
  const auto directory = NodeDirectory::open(common.directory);
  if (!directory) return failed(common, directory.error());
  const auto saved = load_config(directory->config_file());
  if (!saved) return failed(common, saved.error());
  const auto config = parse_config(options.settings, "command line", *saved);
  if (!config) return failed(common, config.error());
  start_log(*config, directory->path() / "log");
  ::signal(SIGPIPE, SIG_IGN);

  asio::io_context loop(1);
  SystemClock system;
  OffsetClock clock(system, common.clock_offset_s);
  Node node(loop.get_executor(), clock, *directory, *config);
  asio::signal_set signals(loop, SIGINT, SIGTERM);
  Outcome outcome;
  asio::co_spawn(loop, live(node, common, signals, outcome), [](const std::exception_ptr& exception) {
    if (exception) std::rethrow_exception(exception);
  });
  loop.run();
  return outcome.error ? failed(common, *outcome.error) : 0;
}

}  // namespace hivemetal::node
