// What a node remembers: an SQLite file in its directory. Kept are the scheduler's values and events, and the
// addresses of peers met, which a restarted node dials before it asks its bootstrap addresses.
//
// Write-ahead logging without a sync per write: what a call has written survives a kill of the daemon; the
// last moments before a power failure may be lost, and the swarm then tells us what it knows.
#pragma once

#include <filesystem>
#include <memory>

#include "scheduler/run_store.h"

struct sqlite3;

namespace hivemetal::node {

class Store final : public scheduler::RunStore {
 public:
  // Fails with Unavailable (disk full, file broken) or Refused (permission, a newer schema), with a remedy.
  static Result<std::unique_ptr<Store>> open(const std::filesystem::path& file);
  ~Store() override;

  Result<void> put(const std::string& name, const Bytes& value) override;
  Result<std::optional<Bytes>> get(const std::string& name) const override;
  Result<void> erase(const std::string& name) override;
  Result<std::vector<std::string>> names(const std::string& prefix) const override;
  Result<void> append(const scheduler::Event& event) override;
  Result<std::vector<scheduler::Event>> events(const std::string& run, std::uint64_t since,
                                               std::size_t limit) const override;
  Result<std::uint64_t> last_sequence(const std::string& run) const override;
  Result<void> erase_events(const std::string& run) override;

  // Peers are kept by id with their latest address; at most 256, the most recently seen.
  Result<void> remember_peer(const std::string& peer, const std::string& address, double unix_time);
  Result<std::vector<std::string>> peer_addresses(std::size_t limit) const;

 private:
  class Statement;

  Store(sqlite3* database, std::filesystem::path file);

  Result<void> prepare();
  Result<void> execute(const char* sql);
  Error error(std::string_view doing) const;

  sqlite3* database_;
  std::filesystem::path file_;
};

}  // namespace hivemetal::node
