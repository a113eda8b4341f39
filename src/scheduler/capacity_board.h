// Keeps our own capacity record in the DHT and reads everybody's.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/log.h"
#include "base/notification.h"
#include "base/task_group.h"
#include "scheduler/capacity.h"

namespace hivemetal::scheduler {

// The part of a DHT that the board uses: dictionaries with expiring entries. scheduler/dht_directory.h is the
// real one.
class Directory {
 public:
  virtual ~Directory() = default;

  struct Entry {
    Bytes subkey;
    Bytes value;
  };

  virtual asio::awaitable<Result<void>> store(std::string key, Bytes subkey, Bytes value, double expires_unix,
                                              Clock::TimePoint deadline) = 0;

  // The latest entries of `key`; an empty list if there are none.
  virtual asio::awaitable<Result<std::vector<Entry>>> get(std::string key, Clock::TimePoint deadline) = 0;
};

struct BoardOptions {
  std::string swarm;
  std::chrono::milliseconds refresh{5'000};     // publish and read this often
  std::chrono::milliseconds ttl{15'000};        // of our record
  std::chrono::milliseconds change_delay{100};  // changes within this time are published together
  std::size_t records_max = 4096;               // known at a time; the rest of a shard is ignored
};

class CapacityBoard {
 public:
  // `measure` returns our record now; node, time and expires are filled in here. What is passed by reference
  // outlives the board.
  CapacityBoard(asio::any_io_executor executor, Clock& clock, Directory& directory,
                const identity::PrivateKey& key, std::function<CapacityRecord()> measure,
                BoardOptions options);

  // Publishes and reads from now on, in the background.
  void start();

  // Withdraws our record, as well as a DHT can: by one that offers nothing.
  asio::awaitable<void> stop();

  // Our capacity has changed: it is published soon and not only at the next refresh.
  void changed();

  // Reads all shards now. Fails only if no shard could be read; known() has the news afterwards.
  asio::awaitable<Result<void>> read(Clock::TimePoint deadline);

  // Valid records, by node, ours among them (fresh from `measure`).
  std::vector<CapacityRecord> known() const;

  // By how many seconds our clock is ahead of the others' at least (behind if negative): the median over the
  // records of other nodes, less what their age may explain; 0 if all is well or we know nobody.
  double clock_ahead_s() const;

  std::uint64_t rejected() const { return rejected_.count(); }  // entries that were no valid records

 private:
  asio::awaitable<void> publish_loop();
  asio::awaitable<void> read_loop();
  asio::awaitable<Result<void>> publish(std::chrono::milliseconds ttl);
  asio::awaitable<Result<void>> read_shard(unsigned shard, Clock::TimePoint deadline);
  CapacityRecord own_record(std::chrono::milliseconds ttl) const;
  void forget_expired();

  Clock& clock_;
  Directory& directory_;
  const identity::PrivateKey& key_;
  std::function<CapacityRecord()> measure_;
  BoardOptions options_;
  PeerId self_;
  struct Known {
    CapacityRecord record;
    double seen_unix;  // when we saw it first, by our clock
  };
  std::map<PeerId, Known> known_;
  log::Limited rejected_;
  bool dirty_ = false;
  bool withdrawn_ = false;  // we are leaving
  Notification change_;
  TaskGroup tasks_;
};

}  // namespace hivemetal::scheduler
