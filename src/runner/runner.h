// A runner starts, watches and stops attempts on this machine. An *attempt* is one try to run one worker of a
// job here. `runner/baremetal/` runs them as processes of the host; `runner/fake/` is for the tests of
// others.
//
// An attempt outlives the daemon: what a runner knows is on disk, adopt() finds it again.
#pragma once

#include <chrono>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "base/asio.h"
#include "base/result.h"
#include "runner/attempt.h"

namespace hivemetal::runner {

class Runner {
 public:
  virtual ~Runner() = default;

  // Starts an attempt; returns when its program has been exec'ed. Fails with Refused, the step's name and
  // errno if a step of the launch fails; nothing is left behind then except the record.
  virtual asio::awaitable<Result<AttemptStatus>> start(AttemptSpec spec) = 0;

  // TERM, grace, kill of the whole cgroup; returns when no process is left. `reason` goes into the exit
  // record.
  virtual asio::awaitable<Result<ExitRecord>> stop(AttemptId id, std::string reason) = 0;

  // The lease runs until `duration` from now. NotFound if the attempt is not running.
  virtual Result<void> renew(const AttemptId& id, std::chrono::milliseconds duration) = 0;

  // Finds the attempts of an earlier daemon: running ones are watched again, ended ones reported, leftovers
  // without a record killed and removed.
  virtual asio::awaitable<Result<std::vector<AttemptStatus>>> adopt() = 0;

  // Called on the loop each time a running attempt ends, one of start() or of adopt(); not for a start that
  // failed.
  virtual void on_end(std::function<void(const AttemptStatus&)> callback) = 0;

  virtual std::vector<AttemptStatus> attempts() const = 0;

  // The folder in which the attempt's program starts; known before start(), for paths in its environment.
  virtual std::filesystem::path work_folder(const AttemptId& id) const = 0;

  virtual Result<Usage> usage(const AttemptId& id) const = 0;

  // Frames from `offset` on, at most about `bytes_max`; NotFound if the attempt is unknown here.
  virtual Result<LogChunk> read_log(const AttemptId& id, std::uint64_t offset,
                                    std::size_t bytes_max) const = 0;

  // Deletes an ended attempt's folder and record.
  virtual asio::awaitable<Result<void>> remove(AttemptId id) = 0;

  // Deletes a folder kept by AttemptSpec::keep; nothing happens if there is none.
  virtual asio::awaitable<Result<void>> remove_kept(std::string name) = 0;
};

}  // namespace hivemetal::runner
