// How long a start takes: /bin/true by plain posix_spawn and under a guard with user, cgroups and records.
//
//     bench-start FOLDER [COUNT]
//
// Prints one JSON object with the times in milliseconds. The two kinds take turns in blocks of ten in random
// order, so that a busy neighbour meets both.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <random>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <nlohmann/json.hpp>

#include "base/check.h"
#include "base/clock.h"
#include "base/log.h"
#include "runner/baremetal/bare_metal_runner.h"

namespace {

using namespace hivemetal;
using Steady = std::chrono::steady_clock;

double ms_since(Steady::time_point begin) {
  return std::chrono::duration<double, std::milli>(Steady::now() - begin).count();
}

struct Times {
  std::vector<double> spawned, spawned_ended, guarded, guarded_ended;
};

void spawn_plain(Times& times) {
  char path[] = "/bin/true";
  char* const argv[] = {path, nullptr};
  const auto begin = Steady::now();
  pid_t pid = 0;
  HIVEMETAL_CHECK(::posix_spawn(&pid, path, nullptr, nullptr, argv, environ) == 0);
  times.spawned.push_back(ms_since(begin));
  ::waitpid(pid, nullptr, 0);
  times.spawned_ended.push_back(ms_since(begin));
}

asio::awaitable<void> start_guarded(runner::BareMetalRunner& runner, Times& times, int number) {
  runner::AttemptSpec spec;
  spec.id = "bench.0." + std::to_string(number);
  spec.argv = {"/bin/true"};
  const auto begin = Steady::now();
  const auto started = co_await runner.start(spec);
  times.guarded.push_back(ms_since(begin));
  if (!started) std::fprintf(stderr, "%s\n", started.error().message.c_str());
  HIVEMETAL_CHECK(started.has_value());
  static_cast<void>(co_await runner.stop(spec.id, "STOPPED"));  // it ends by itself; this waits for it
  times.guarded_ended.push_back(ms_since(begin));
  static_cast<void>(co_await runner.remove(spec.id));
}

asio::awaitable<void> measure(runner::BareMetalRunner& runner, Times& times, int count) {
  static_cast<void>(co_await runner.adopt());
  std::vector<bool> blocks;
  for (int i = 0; i < count; i += 10) blocks.insert(blocks.end(), {true, false});
  std::mt19937 random(1);
  std::shuffle(blocks.begin(), blocks.end(), random);
  int number = 0;
  for (const bool guarded : blocks) {
    for (int i = 0; i < 10; ++i) {
      if (guarded) {
        co_await start_guarded(runner, times, number++);
      } else {
        spawn_plain(times);
      }
    }
  }
  co_await runner.close();
}

nlohmann::json summary(std::vector<double> times) {
  std::sort(times.begin(), times.end());
  const auto at = [&](double share) {
    return times[static_cast<std::size_t>(share * static_cast<double>(times.size() - 1))];
  };
  return {{"median", at(0.5)}, {"p10", at(0.1)}, {"p90", at(0.9)}, {"count", times.size()}};
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2 || argc > 3) {
    std::fputs("usage: bench-start FOLDER [COUNT]\n", stderr);
    return 2;
  }
  log::start("warn");
  runner::BareMetalOptions options;
  options.directory = std::string(argv[1]) + "/node";
  asio::io_context loop;
  SystemClock clock;
  auto opened = runner::BareMetalRunner::open(loop.get_executor(), clock, options);
  if (!opened) {
    std::fprintf(stderr, "bench-start: %s\n", opened.error().message.c_str());
    return 1;
  }
  Times times;
  asio::co_spawn(loop, measure(**opened, times, argc == 3 ? std::atoi(argv[2]) : 200),
                 [](const std::exception_ptr& thrown) { HIVEMETAL_CHECK(!thrown); });
  loop.run();
  const nlohmann::json result{{"spawn_ms", summary(times.spawned)},
                              {"spawn_to_end_ms", summary(times.spawned_ended)},
                              {"guard_ms", summary(times.guarded)},
                              {"guard_to_end_ms", summary(times.guarded_ended)},
                              {"privileged", options.privileged}};
  std::puts(result.dump().c_str());
  return 0;
}
