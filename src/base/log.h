// One event, one line, for one reader: `log::info("averaging: round {}: {}/{} peers", …)`.
//
// The first word names the module. Secrets (keys, invites, tokens) are never logged. Lines that a peer can
// provoke go through `log::Limited`, so that nobody fills a disk from afar.
#pragma once

#include <cstdint>
#include <set>
#include <spdlog/spdlog.h>
#include <string>
#include <string_view>
#include <utility>

namespace hivemetal::log {

using spdlog::debug;
using spdlog::error;
using spdlog::info;
using spdlog::warn;

// Writes to stderr as `2026-11-22 17:30:01.123 info  dht: …`. `level` is debug, info, warn, error or off.
void start(std::string_view level);

// Counts events per key and logs only the first of each, up to a bound on keys.
class Limited {
 public:
  // True the first time `key` is seen; the caller logs then. `count()` tells how many events there were.
  bool first(const std::string& key);
  std::uint64_t count() const { return count_; }

 private:
  static constexpr std::size_t kKeysMax = 1024;
  std::set<std::string> keys_;
  std::uint64_t count_ = 0;
};

}  // namespace hivemetal::log
