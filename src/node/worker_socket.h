// HIVEMETAL_SOCKET: where a worker says how it goes, one JSON object per line
// (docs/formats/worker-socket.md).
//
// Each attempt has a socket of its own below one folder that everybody may traverse and nobody may list.
// Workers run under uids of their own, so the socket is open to all and its name is the secret: derived from
// the node's key and the attempt's id. A restarted daemon therefore listens at the same place again, and a
// worker that reconnects goes on.
//
// Workers are hostile: a line has at most 64 KiB and 16 levels, an attempt at most 8 connections and 100
// lines per second with a burst of 400. What exceeds that is dropped and counted, and never stops the daemon
// or the worker.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include <nlohmann/json.hpp>

#include "base/asio.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/result.h"
#include "base/task_group.h"
#include "identity/keys.h"
#include "runner/runner.h"

namespace hivemetal::node {

// How many lines an attempt may send: `burst` at once and `per_second` on average.
class LineBudget {
 public:
  LineBudget(double per_second, double burst) : per_second_(per_second), burst_(burst), left_(burst) {}

  // False if the line must be dropped.
  bool take(Clock::TimePoint now);

 private:
  double per_second_;
  double burst_;
  double left_;
  Clock::TimePoint last_{};
};

// The object in one line; Invalid if it is no JSON object, too deep, or has no text in `event`.
Result<nlohmann::json> parse_worker_line(std::string_view line);

class WorkerSockets {
 public:
  // Called on the loop for every event of every worker.
  using Callback = std::function<void(const runner::AttemptId& attempt, nlohmann::json event)>;

  // `folder` is made with mode 0711.
  WorkerSockets(asio::any_io_executor executor, Clock& clock, std::filesystem::path folder,
                const identity::PrivateKey& key, Callback callback);
  ~WorkerSockets();

  // Where the attempt's worker will find its socket; the same for ever.
  std::filesystem::path path_of(const runner::AttemptId& attempt) const;

  // Listens for the attempt; again for one that is open does nothing.
  Result<void> open(const runner::AttemptId& attempt);

  // Ends the attempt's connections, after what they have sent was read, and removes its socket.
  void close(const runner::AttemptId& attempt);

  // Removes the sockets of attempts that ended while no daemon ran: all that no open() has claimed.
  void remove_others();

  asio::awaitable<void> stop();

  // Lines that were dropped, of all attempts.
  std::uint64_t dropped() const { return dropped_.count(); }

 private:
  struct Listener;

  asio::awaitable<void> accept_loop(std::shared_ptr<Listener> listener);
  asio::awaitable<void> read_loop(std::shared_ptr<Listener> listener, std::uint64_t connection);
  void take_line(Listener& listener, std::string_view line);
  void drop(const Listener& listener, std::string_view why);

  Clock& clock_;
  std::filesystem::path folder_;
  const identity::PrivateKey& key_;
  Callback callback_;
  std::map<runner::AttemptId, std::shared_ptr<Listener>> listeners_;
  log::Limited dropped_;
  TaskGroup tasks_;
};

}  // namespace hivemetal::node
