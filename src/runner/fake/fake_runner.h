// A runner without processes, for tests of what stands above: attempts end when the test says so, or after a
// time on the test's clock.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/task_group.h"
#include "runner/runner.h"

namespace hivemetal::runner {

class FakeRunner final : public Runner {
 public:
  // What becomes of an attempt. The default runs until it is stopped.
  struct Script {
    Clock::Duration start_takes{0};
    std::optional<Error> start_fails;
    std::optional<Clock::Duration> ends_after;  // counted from the end of the start
    ExitRecord exit{.reason = "EXIT", .code = 0};
    Clock::Duration stop_takes{0};
  };

  FakeRunner(asio::any_io_executor executor, Clock& clock) : clock_(clock), tasks_(std::move(executor)) {}

  // Asked for at each start; without one every attempt runs until it is stopped.
  void script(std::function<Script(const AttemptSpec&)> script) { script_ = std::move(script); }

  // Ends a running attempt now, as if its program had.
  void end(const AttemptId& id, ExitRecord exit);

  // Appends to the attempt's log.
  void print(const AttemptId& id, std::uint8_t stream, Bytes bytes);

  void set_usage(const AttemptId& id, Usage usage) { at(id).usage = usage; }

  // Every spec that start() was called with, in that order.
  const std::vector<AttemptSpec>& started() const { return started_; }

  // When the lease of a running attempt ends; empty without one.
  std::optional<Clock::TimePoint> lease_end(const AttemptId& id) const;

  // Ends the timers of attempts; await it before the runner goes.
  asio::awaitable<void> close() { co_await tasks_.close(); }

  asio::awaitable<Result<AttemptStatus>> start(AttemptSpec spec) override;
  asio::awaitable<Result<ExitRecord>> stop(AttemptId id, std::string reason) override;
  Result<void> renew(const AttemptId& id, std::chrono::milliseconds duration) override;

  // The attempts that this object knows: a fake stands for the disk as well.
  asio::awaitable<Result<std::vector<AttemptStatus>>> adopt() override;
  void on_end(std::function<void(const AttemptStatus&)> callback) override { on_end_ = std::move(callback); }
  std::vector<AttemptStatus> attempts() const override;
  std::filesystem::path work_folder(const AttemptId& id) const override { return "/fake/" + id + "/work"; }
  Result<Usage> usage(const AttemptId& id) const override;
  Result<LogChunk> read_log(const AttemptId& id, std::uint64_t offset, std::size_t bytes_max) const override;
  asio::awaitable<Result<void>> remove(AttemptId id) override;
  asio::awaitable<Result<void>> remove_kept(std::string name) override;

 private:
  struct Attempt {
    AttemptStatus status;
    Script script;
    Usage usage;
    std::vector<LogChunk::Frame> log;
    std::optional<Clock::TimePoint> lease_end;
  };

  Attempt& at(const AttemptId& id);
  asio::awaitable<void> end_later(AttemptId id, Clock::Duration delay, ExitRecord exit);
  asio::awaitable<void> watch_lease(AttemptId id);

  Clock& clock_;
  std::function<Script(const AttemptSpec&)> script_;
  std::function<void(const AttemptStatus&)> on_end_;
  std::vector<AttemptSpec> started_;
  std::map<AttemptId, Attempt> attempts_;
  int next_pid_ = 1000;
  TaskGroup tasks_;
};

}  // namespace hivemetal::runner
