// The other end of the control API: what the CLI, and later the Python package, ask a node with.
#pragma once

#include <filesystem>
#include <functional>
#include <string>

#include <nlohmann/json.hpp>

#include "base/result.h"

namespace hivemetal::node {

struct ServerEvent {
  std::string name;
  nlohmann::json data;
};

// Takes the bytes of an event stream as they come and gives whole events.
class EventParser {
 public:
  // Invalid if an event has more than 16 MiB or is no JSON; comments (heartbeats) give no event.
  Result<std::vector<ServerEvent>> feed(std::string_view bytes);

 private:
  std::string pending_;
};

enum class Next { Continue, Stop };

// Blocking; one call at a time. Each call opens a connection of its own.
class Client {
 public:
  // Talks to the node in `directory`.
  explicit Client(std::filesystem::path directory) : directory_(std::move(directory)) {}

  // Unavailable, saying how to start it, if no node runs there. Errors of the node come as they are.
  Result<nlohmann::json> get(const std::string& target) { return call("GET", target, nullptr); }
  Result<nlohmann::json> post(const std::string& target, nlohmann::json body) {
    return call("POST", target, std::move(body));
  }

  // Calls `on_event` for each event until it says Stop, the node ends the stream (ok), goes away
  // (Unavailable) or the user presses Ctrl-C, or `q` if stdin is a terminal and `keys` is set (Cancelled).
  Result<void> stream(const std::string& target, bool keys, std::function<Next(const ServerEvent&)> on_event);

 private:
  Result<nlohmann::json> call(std::string method, const std::string& target, nlohmann::json body);

  std::filesystem::path directory_;
};

}  // namespace hivemetal::node
