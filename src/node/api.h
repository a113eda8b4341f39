// What the control API can be asked: one route per question, as docs/api/openapi.yaml describes them.
//
// The handlers read what the parts of the node know and pass orders on; they decide nothing.
#pragma once

#include <functional>
#include <vector>

#include <nlohmann/json.hpp>

#include "base/clock.h"
#include "node/control_server.h"
#include "scheduler/capacity_board.h"
#include "scheduler/coordinator.h"
#include "scheduler/host.h"

namespace hivemetal::node {

// The parts of a node that answer; all outlive the server.
struct ApiParts {
  Clock* clock = nullptr;
  scheduler::Coordinator* coordinator = nullptr;
  scheduler::WorkerHost* host = nullptr;
  scheduler::CapacityBoard* board = nullptr;
  identity::PeerId self;
  std::function<nlohmann::json()> about;     // GET /v1/node
  std::function<nlohmann::json()> findings;  // GET /v1/doctor: what only a running node can see
};

class Api {
 public:
  explicit Api(ApiParts parts) : parts_(std::move(parts)) {}

  // They refer to this object.
  std::vector<Route> routes();

 private:
  using Json = nlohmann::json;

  asio::awaitable<Result<Json>> node(Request request);
  asio::awaitable<Result<Json>> nodes(Request request);
  asio::awaitable<Result<Json>> doctor(Request request);
  asio::awaitable<Result<Json>> runs(Request request);
  asio::awaitable<Result<Json>> submit(Request request);
  asio::awaitable<Result<Json>> run(Request request);
  asio::awaitable<Result<Json>> stop_run(Request request);
  asio::awaitable<Result<Json>> remove_run(Request request);
  asio::awaitable<Result<Json>> events(Request request);
  asio::awaitable<Result<void>> follow_events(Request request, EventStream& stream);
  asio::awaitable<Result<void>> logs(Request request, EventStream& stream);
  asio::awaitable<Result<void>> top(Request request, EventStream& stream);

  Json nodes_now() const;

  ApiParts parts_;
};

// A log cursor per worker, `0:1:4096,1:0:77` (worker, attempt, offset), as readers pass it back after an
// interruption. Invalid if it is anything else.
Result<std::map<std::uint32_t, scheduler::LogCursor>> parse_cursors(std::string_view text);

}  // namespace hivemetal::node
