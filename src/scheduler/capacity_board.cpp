#include "scheduler/capacity_board.h"

#include <algorithm>
#include <tuple>

#include <boost/asio/experimental/awaitable_operators.hpp>

namespace hivemetal::scheduler {

using namespace asio::experimental::awaitable_operators;

namespace {

double seconds(std::chrono::milliseconds duration) { return std::chrono::duration<double>(duration).count(); }

constexpr std::chrono::seconds kDirectoryMax{10};
constexpr double kAgeSlack = 5;  // seconds

}  // namespace

CapacityBoard::CapacityBoard(asio::any_io_executor executor, Clock& clock, Directory& directory,
                             const identity::PrivateKey& key, std::function<CapacityRecord()> measure,
                             BoardOptions options)
    : clock_(clock),
      directory_(directory),
      key_(key),
      measure_(std::move(measure)),
      options_(std::move(options)),
      self_(key.peer_id()),
      change_(executor),
      tasks_(executor) {}

void CapacityBoard::start() {
  tasks_.spawn("publish our capacity", publish_loop());
  tasks_.spawn("read capacities", read_loop());
}

asio::awaitable<void> CapacityBoard::stop() {
  co_await tasks_.close();
  // A DHT forgets only by expiry, and a record replaces another only if it expires later; hence one that says
  // "nothing free" and ends as soon as it may.
  withdrawn_ = true;
  (void)co_await publish(options_.ttl + std::chrono::seconds(1));
}

void CapacityBoard::changed() {
  dirty_ = true;
  change_.notify_all();
}

CapacityRecord CapacityBoard::own_record(std::chrono::milliseconds ttl) const {
  CapacityRecord record = measure_();
  record.node = self_;
  record.time = clock_.unix_time();
  record.expires = record.time + seconds(ttl);
  record.cpus_free = std::clamp(record.cpus_free, 0.0, record.cpus_total);
  record.memory_free = std::min(record.memory_free, record.memory_total);
  if (withdrawn_) {
    record.cpus_free = record.cpus_total = 0;
    record.memory_free = record.memory_total = 0;
  }
  return record;
}

asio::awaitable<Result<void>> CapacityBoard::publish(std::chrono::milliseconds ttl) {
  const CapacityRecord record = own_record(ttl);
  co_return co_await directory_.store(capacity_key(options_.swarm, capacity_shard(self_)), self_.bytes(),
                                      encode_capacity(record, options_.swarm, key_), record.expires,
                                      clock_.now() + kDirectoryMax);
}

asio::awaitable<void> CapacityBoard::publish_loop() {
  bool reached = true;
  for (;;) {
    dirty_ = false;
    const auto published = co_await publish(options_.ttl);
    if (!published && reached)
      log::warn("capacity: our record is not published: {}", published.error().message);
    reached = published.has_value();
    const auto next = clock_.now() + options_.refresh;
    while (!dirty_ && clock_.now() < next) co_await (change_.wait() || clock_.sleep_until(next));
    co_await clock_.sleep_for(options_.change_delay);  // what changes together is published together
  }
}

asio::awaitable<void> CapacityBoard::read_loop() {
  for (;;) {
    (void)co_await read(clock_.now() + kDirectoryMax);
    co_await clock_.sleep_for(options_.refresh);
  }
}

asio::awaitable<Result<void>> CapacityBoard::read(Clock::TimePoint deadline) {
  static_assert(kCapacityShards == 4);
  const auto results = co_await (read_shard(0, deadline) && read_shard(1, deadline) &&
                                 read_shard(2, deadline) && read_shard(3, deadline));
  forget_expired();
  bool reached = false;
  std::apply([&reached](const auto&... shard) { reached = (shard.has_value() || ...); }, results);
  if (!reached) co_return std::get<0>(results).error().within("read the nodes' capacities");
  co_return Result<void>();
}

asio::awaitable<Result<void>> CapacityBoard::read_shard(unsigned shard, Clock::TimePoint deadline) {
  const auto entries = co_await directory_.get(capacity_key(options_.swarm, shard), deadline);
  if (!entries) co_return entries.error();
  const double now = clock_.unix_time();
  for (const Directory::Entry& entry : *entries) {
    const auto node = PeerId::from_bytes(entry.subkey);
    if (!node || capacity_shard(*node) != shard) {
      (void)rejected_.first("subkey");
      continue;
    }
    if (*node == self_) continue;
    // Our clocks need not agree to the second: the directory drops what has expired, this check catches old
    // copies.
    auto record = decode_capacity(entry.value, options_.swarm, *node, now - seconds(options_.ttl));
    if (!record) {
      if (record.error().code != ErrorCode::TimedOut && rejected_.first(node->short_name())) {
        log::warn("capacity: {}", record.error().message);
      }
      continue;
    }
    const auto known = known_.find(*node);
    if (known != known_.end()) {
      if (known->second.record.time < record->time) known->second = {std::move(*record), now};
    } else if (known_.size() < options_.records_max) {
      known_.emplace(*node, Known{std::move(*record), now});
    }
  }
  co_return Result<void>();
}

void CapacityBoard::forget_expired() {
  // By the time for which we have seen nothing newer: no other clock decides who is there.
  const double oldest = clock_.unix_time() - seconds(options_.ttl);
  std::erase_if(known_, [oldest](const auto& entry) { return entry.second.seen_unix < oldest; });
}

std::vector<CapacityRecord> CapacityBoard::known() const {
  std::vector<CapacityRecord> records{own_record(options_.ttl)};
  for (const auto& [node, known] : known_) {
    if (known.record.cpus_total > 0) records.push_back(known.record);
  }
  return records;
}

double CapacityBoard::clock_ahead_s() const {
  std::vector<double> ahead;
  for (const auto& [node, known] : known_) ahead.push_back(known.seen_unix - known.record.time);
  if (ahead.empty()) return 0;
  const auto middle = ahead.begin() + static_cast<std::ptrdiff_t>(ahead.size() / 2);
  std::nth_element(ahead.begin(), middle, ahead.end());
  // A record is up to one refresh old when it is seen first, and a slow directory adds to that.
  const double age_max = seconds(options_.refresh) + kAgeSlack;
  return *middle < 0 ? *middle : std::max(0.0, *middle - age_max);
}

}  // namespace hivemetal::scheduler
