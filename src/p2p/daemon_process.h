// One run of p2pd: a child process that is watched through a pidfd and whose output is read line by line.
#pragma once

#include <deque>
#include <optional>
#include <string>
#include <vector>

#include <boost/asio/posix/stream_descriptor.hpp>

#include "base/clock.h"
#include "base/notification.h"
#include "base/task_group.h"
#include "p2p/daemon_output.h"

namespace hivemetal::p2p {

class DaemonProcess {
 public:
  DaemonProcess(asio::any_io_executor executor, Clock& clock);

  // Kills the process if it still runs; stop() is the orderly end.
  ~DaemonProcess();

  DaemonProcess(const DaemonProcess&) = delete;
  DaemonProcess& operator=(const DaemonProcess&) = delete;

  // Starts `command` and returns when it says that it is ready. NotFound if it cannot be executed,
  // Unavailable with its last words if it ends before, TimedOut at `deadline`; it is killed then.
  asio::awaitable<Result<void>> start(std::vector<std::string> command, Clock::TimePoint deadline);

  // TERM, KILL after `grace`; returns when the process is gone and reaped.
  asio::awaitable<void> stop(Clock::Duration grace);

  void kill();

  // From now on its complaints are of no interest.
  void expect_end() { stopping_ = true; }

  int pid() const { return pid_; }
  bool running() const { return pid_ > 0 && !exited_; }

  // How it ended: "exit status 1", "signal 9". Empty while it runs.
  const std::string& end() const { return end_; }

 private:
  Result<void> spawn(const std::vector<std::string>& command);
  asio::awaitable<Result<void>> wait_ready();
  asio::awaitable<Result<void>> wait_exit();
  asio::awaitable<void> read_output();
  asio::awaitable<void> watch_exit();
  void note(const DaemonLine& line);
  void reap();
  std::string last_words() const;

  Clock& clock_;
  asio::posix::stream_descriptor output_;
  asio::posix::stream_descriptor pidfd_;
  int pid_ = 0;
  bool ready_ = false;
  bool exited_ = false;
  bool stopping_ = false;
  bool output_ended_ = false;
  std::string end_;
  std::deque<std::string> lines_;  // the last few
  Notification changed_;
  TaskGroup tasks_;
};

}  // namespace hivemetal::p2p
