// What the tests of the bare-metal runner share: a node folder of their own, a loop, and a look at the
// machine before and after.
#pragma once

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <optional>
#include <set>
#include <string>
#include <sys/stat.h>
#include <unistd.h>
#include <vector>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>

#include "base/check.h"
#include "base/clock.h"
#include "runner/baremetal/bare_metal_runner.h"

namespace hivemetal::runner {

using namespace std::chrono_literals;

inline std::filesystem::path guard_under_test() {
  return std::filesystem::read_symlink("/proc/self/exe").parent_path() / "../bin/hivemetal-guard";
}

inline BareMetalOptions options_for(const std::filesystem::path& folder, std::uint32_t uid_first) {
  BareMetalOptions options;
  options.directory = folder / "node";
  options.guard = guard_under_test();
  options.machine = folder / "machine";
  options.uids = {uid_first, uid_first + 999};
  return options;
}

// A range that no other process running these tests has.
inline std::uint32_t uids_of_this_process() {
  return 2'000'000'000U + static_cast<std::uint32_t>(::getpid()) * 1000U % 140'000'000U;
}

// Everything of ours that the machine holds: cgroups of the node, processes of its users, entries in shared
// folders.
inline std::set<std::string> traces(const BareMetalOptions& options) {
  std::set<std::string> found;
  const auto in_range = [&](std::uint32_t uid) {
    return uid >= options.uids.first && uid <= options.uids.last;
  };
  for (const ProcessStat& process : all_processes()) {
    if (process.state == 'Z') continue;  // of a guard that was killed: the machine's init takes its time
    struct stat status{};
    const auto path = fmt::format("/proc/{}", process.id.pid);
    if (::stat(path.c_str(), &status) == 0 && in_range(status.st_uid)) found.insert("process " + path);
    for (std::uint32_t uid = options.uids.first; uid < options.uids.first + 20; ++uid) {
      if (has_uid(process.id.pid, uid)) found.insert("process " + path);
    }
  }
  std::error_code error;
  for (const auto& folder : options.shared_folders) {
    for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
      struct stat status{};
      if (::lstat(entry.path().c_str(), &status) == 0 && in_range(status.st_uid))
        found.insert(entry.path().string());
    }
  }
  return found;
}

class RunnerTest : public testing::Test {
 protected:
  RunnerTest() {
    char name[] = "/tmp/hivemetal-test-XXXXXX";
    folder = ::mkdtemp(name);
    ::chmod(folder.c_str(), 0711);
    options = options_for(folder, uids_of_this_process());
  }

  ~RunnerTest() override {
    close();
    if (::getuid() == 0) {
      EXPECT_EQ(traces(options), std::set<std::string>());
      EXPECT_EQ(cgroups_of_node(), std::vector<std::string>());
    }
    std::filesystem::remove_all(folder);
  }

  // `open` and adopt; what adopt() found is in `adopted`.
  void open() {
    auto opened = BareMetalRunner::open(loop.get_executor(), clock, options);
    ASSERT_TRUE(opened) << opened.error().message;
    runner = std::move(*opened);
    runner->on_end([this](const AttemptStatus& status) { ended.push_back(status); });
    auto found = run(runner->adopt());
    ASSERT_TRUE(found) << found.error().message;
    adopted = *found;
  }

  void close() {
    if (!runner) return;
    run(close_runner(*runner));
    runner.reset();
  }

  // Runs the loop until `work` is done.
  template <class T>
  T run(asio::awaitable<T> work) {
    std::optional<T> result;
    asio::co_spawn(loop, std::move(work), [&](const std::exception_ptr& exception, T value) {
      HIVEMETAL_CHECK(!exception);
      result = std::move(value);
    });
    run_until([&] { return result.has_value(); });
    HIVEMETAL_CHECK(result.has_value());
    return std::move(*result);
  }

  template <class Condition>
  bool run_until(Condition condition, std::chrono::seconds limit = 90s) {
    const auto end = std::chrono::steady_clock::now() + limit;
    loop.restart();
    while (!condition() && std::chrono::steady_clock::now() < end) {
      loop.run_one_for(20ms);
      if (loop.stopped()) loop.restart();
    }
    return condition();
  }

  void require_root() {
    if (::getuid() != 0) GTEST_SKIP() << "needs root: users and cgroups";
  }

  AttemptSpec shell(AttemptId id, std::string script) {
    AttemptSpec spec;
    spec.id = std::move(id);
    spec.argv = {"sh", "-c", std::move(script)};
    spec.grace = 2s;
    return spec;
  }

  // Starts and waits for the end.
  ExitRecord run_to_end(AttemptSpec spec) {
    const AttemptId id = spec.id;
    const auto started = run(runner->start(std::move(spec)));
    if (!started) ADD_FAILURE() << started.error().message;
    EXPECT_TRUE(wait_end(id));
    return status(id).exit.value_or(ExitRecord{});
  }

  bool wait_end(const AttemptId& id) {
    return run_until([&] { return status(id).state == AttemptState::Ended; });
  }

  AttemptStatus status(const AttemptId& id) {
    for (const AttemptStatus& status : runner->attempts()) {
      if (status.id == id) return status;
    }
    return {};
  }

  // The whole log of one stream, or of all.
  std::string output(const AttemptId& id, int stream = 0) {
    std::string text;
    std::uint64_t offset = 0;
    while (true) {
      const auto chunk = runner->read_log(id, offset, 1 << 20);
      if (!chunk || chunk->frames.empty()) return text;
      for (const auto& frame : chunk->frames) {
        if (stream == 0 || frame.stream == stream) text += frame.bytes;
      }
      offset = chunk->next_offset;
    }
  }

  // The cgroups in which this node's attempts would be.
  std::vector<std::string> cgroups_of_node() {
    const auto layout = read_cgroup_layout();
    std::vector<std::string> found;
    for (const auto& path : node_folders(layout, options.cgroup_parent, node_tag(options.directory))) {
      if (path.filename() != "hivemetal" && std::filesystem::exists(path)) found.push_back(path.string());
    }
    return found;
  }

  // Runs the loop until the log holds `text`.
  bool wait_output(const AttemptId& id, const std::string& text) {
    return run_until([&] { return output(id).find(text) != std::string::npos; });
  }

  std::filesystem::path folder;
  BareMetalOptions options;
  asio::io_context loop;
  SystemClock clock;
  std::unique_ptr<BareMetalRunner> runner;
  std::vector<AttemptStatus> ended, adopted;

 private:
  static asio::awaitable<bool> close_runner(BareMetalRunner& runner) {
    co_await runner.close();
    co_return true;
  }
};

}  // namespace hivemetal::runner
