// The swarm's DHT as the capacity board's directory: sub-keys and values are byte strings.
#pragma once

#include "dht/dht.h"
#include "scheduler/capacity_board.h"

namespace hivemetal::scheduler {

class DhtDirectory final : public Directory {
 public:
  DhtDirectory(Clock& clock, dht::Dht& dht) : clock_(clock), dht_(dht) {}

  asio::awaitable<Result<void>> store(std::string key, Bytes subkey, Bytes value, double expires_unix,
                                      Clock::TimePoint deadline) override;
  asio::awaitable<Result<std::vector<Entry>>> get(std::string key, Clock::TimePoint deadline) override;

 private:
  Clock& clock_;
  dht::Dht& dht_;
};

}  // namespace hivemetal::scheduler
