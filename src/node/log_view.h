// Turns the frames of a run's logs into lines for a terminal, and remembers how far each worker has been
// shown.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include <nlohmann/json.hpp>

namespace hivemetal::node {

class LogView {
 public:
  // `prefixed` puts the worker's number before each line; `json` gives one JSON object per frame instead.
  LogView(bool json, bool prefixed) : json_(json), prefixed_(prefixed) {}

  // What to print for one `log` event; nothing for one that was shown before (after a reconnection).
  std::string take(const nlohmann::json& frame);

  // Lines that have not ended.
  std::string rest();

  // Where to go on, as GET /v1/runs/{id}/logs takes it in `from`.
  std::string cursors() const;

  bool started() const { return !workers_.empty(); }

 private:
  struct Worker {
    std::uint64_t attempt = 0;
    std::uint64_t last_offset = 0;  // of the last frame shown
    std::string line;               // begun and not ended
    std::string cursor;             // after the last page that was complete
  };

  std::string line(std::uint64_t worker, const std::string& text) const;

  bool json_;
  bool prefixed_;
  std::map<std::uint64_t, Worker> workers_;
};

}  // namespace hivemetal::node
