// Runs attempts as processes of the host, each under a guard of its own that outlives this daemon.
//
//     daemon ──fd 3──> guard ──> program and its descendants      by user, cgroup and log pipes
//        └─ later: <attempt>/guard.sock
#pragma once

#include <map>
#include <memory>
#include <string>

#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/thread_pool.hpp>

#include "base/clock.h"
#include "base/notification.h"
#include "base/task_group.h"
#include "runner/baremetal/host.h"
#include "runner/runner.h"

namespace hivemetal::runner {

class BareMetalRunner final : public Runner {
 public:
  // Fails if the node folder or the guard cannot be used. Await adopt() before the first start().
  static Result<std::unique_ptr<BareMetalRunner>> open(asio::any_io_executor executor, Clock& clock,
                                                       BareMetalOptions options);
  ~BareMetalRunner() override;

  // Stops watching; attempts run on under their guards. Await it before the runner goes.
  asio::awaitable<void> close();

  // A start or stop whose awaiter is cancelled goes on by itself.
  asio::awaitable<Result<AttemptStatus>> start(AttemptSpec spec) override;
  asio::awaitable<Result<ExitRecord>> stop(AttemptId id, std::string reason) override;
  Result<void> renew(const AttemptId& id, std::chrono::milliseconds duration) override;
  asio::awaitable<Result<std::vector<AttemptStatus>>> adopt() override;
  void on_end(std::function<void(const AttemptStatus&)> callback) override { on_end_ = std::move(callback); }
  std::vector<AttemptStatus> attempts() const override;
  std::filesystem::path work_folder(const AttemptId& id) const override { return host_->work_of(id); }
  Result<Usage> usage(const AttemptId& id) const override;
  Result<LogChunk> read_log(const AttemptId& id, std::uint64_t offset, std::size_t bytes_max) const override;
  asio::awaitable<Result<void>> remove(AttemptId id) override;
  asio::awaitable<Result<void>> remove_kept(std::string name) override;

 private:
  struct Attempt {
    explicit Attempt(const asio::any_io_executor& executor)
        : socket(executor), pidfd(executor), changed(executor) {}

    AttemptStatus status;
    AttemptRecord record;
    std::string keep;
    std::chrono::milliseconds grace{60'000};
    asio::local::stream_protocol::socket socket;  // to the guard
    asio::posix::stream_descriptor pidfd;         // of the guard
    std::optional<Error> failure;                 // of the preparation
    std::optional<ExitRecord> said;               // by the guard, in case its disk was full
    bool ran = false;                             // its program was exec'ed
    bool stop_asked = false;
    bool settling = false;  // the guard is gone; the record on disk is being finished
    bool settled = false;   // all that will ever be known is known
    Notification changed;
  };

  // Shared with the coroutines that wait for it: remove() may come first.
  using AttemptPtr = std::shared_ptr<Attempt>;

  BareMetalRunner(asio::any_io_executor executor, Clock& clock, std::unique_ptr<Host> host);

  AttemptPtr find(const AttemptId& id) const;
  AttemptPtr insert(const AttemptId& id);
  void attach(Attempt& attempt, GuardHandle guard);
  bool say(Attempt& attempt, const Command& command);
  void hear(Attempt& attempt, const GuardState& state);

  // Runs `work` on the thread for what blocks.
  template <class Work>
  asio::awaitable<std::invoke_result_t<Work>> blocking(Work work);

  asio::awaitable<void> launch(AttemptPtr attempt, AttemptSpec spec);
  asio::awaitable<void> watch(AttemptPtr attempt);
  asio::awaitable<void> listen(AttemptPtr attempt);
  asio::awaitable<void> await_guard(AttemptPtr attempt);
  asio::awaitable<void> settle(AttemptPtr attempt, ExitRecord fallback);
  asio::awaitable<void> ask_to_stop(AttemptPtr attempt, std::string reason);
  asio::awaitable<void> insist(AttemptPtr attempt);

  // Waits for the attempt to be settled; false at `deadline`.
  asio::awaitable<bool> settled(AttemptPtr attempt, Clock::TimePoint deadline);

  asio::any_io_executor executor_;
  Clock& clock_;
  std::unique_ptr<Host> host_;
  std::map<AttemptId, AttemptPtr> attempts_;
  std::function<void(const AttemptStatus&)> on_end_;
  asio::thread_pool blocking_{1};
  TaskGroup tasks_;
};

}  // namespace hivemetal::runner
