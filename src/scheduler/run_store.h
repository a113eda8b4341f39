// What the scheduler keeps over a restart of the daemon. node/ implements it in SQLite, tests in memory.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "scheduler/event.h"

namespace hivemetal::scheduler {

// A small table of named values and one list of events per run. Called on the loop; an operation returns when
// the value would survive a kill of the daemon.
class RunStore {
 public:
  virtual ~RunStore() = default;

  // Names are `run/<id>/state`, `run/<id>/job`, `host/leases`; values up to 8 MiB. put() replaces.
  virtual Result<void> put(const std::string& name, const Bytes& value) = 0;
  virtual Result<std::optional<Bytes>> get(const std::string& name) const = 0;
  virtual Result<void> erase(const std::string& name) = 0;

  // All names that start with `prefix`, sorted.
  virtual Result<std::vector<std::string>> names(const std::string& prefix) const = 0;

  // Events of one run come with rising sequence numbers; one that is there already is not written again.
  virtual Result<void> append(const Event& event) = 0;

  // Events of `run` with a sequence number above `since`, in order, at most `limit`.
  virtual Result<std::vector<Event>> events(const std::string& run, std::uint64_t since,
                                            std::size_t limit) const = 0;

  // The highest sequence number of `run`, 0 if it has none.
  virtual Result<std::uint64_t> last_sequence(const std::string& run) const = 0;

  virtual Result<void> erase_events(const std::string& run) = 0;
};

class MemoryRunStore final : public RunStore {
 public:
  Result<void> put(const std::string& name, const Bytes& value) override;
  Result<std::optional<Bytes>> get(const std::string& name) const override;
  Result<void> erase(const std::string& name) override;
  Result<std::vector<std::string>> names(const std::string& prefix) const override;
  Result<void> append(const Event& event) override;
  Result<std::vector<Event>> events(const std::string& run, std::uint64_t since,
                                    std::size_t limit) const override;
  Result<std::uint64_t> last_sequence(const std::string& run) const override;
  Result<void> erase_events(const std::string& run) override;

 private:
  std::map<std::string, Bytes> values_;
  std::map<std::string, std::vector<Event>> events_;
};

}  // namespace hivemetal::scheduler
