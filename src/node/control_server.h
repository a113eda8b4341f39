// The control API's transport: HTTP/1.1 over a unix socket, JSON bodies, server-sent events for what goes on.
//
// The socket is the only door, and the kernel says who knocks: a process of our own uid or of root. What it
// may ask is a list of routes (node/api.h), described by docs/api/openapi.yaml; a test compares the two.
//
// A request has at most 16 KiB of head and 64 MiB of body (a job with its files) and 30 s to arrive; 64
// connections are served at once. Every reply is JSON; an error is {"error": {"code": "invalid", "message":
// "…"}}.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include <boost/asio/local/stream_protocol.hpp>
#include <nlohmann/json.hpp>

#include "base/asio.h"
#include "base/clock.h"
#include "base/result.h"
#include "base/task_group.h"

namespace hivemetal::node {

struct Request {
  std::string method;
  std::string path;
  std::map<std::string, std::string> parameters;  // of the path's {names} and of the query
  nlohmann::json body;                            // null if there was none

  // The parameter's text, or the empty string.
  std::string parameter(const std::string& name) const;
};

// One reply that goes on: `event: NAME`, `data: JSON`. The response's head goes out with the first event.
class EventStream {
 public:
  virtual ~EventStream() = default;

  // Returns when the kernel has taken the bytes, so that a slow reader slows its sender and no queue grows.
  // Unavailable once the reader has gone.
  virtual asio::awaitable<Result<void>> send(std::string event, nlohmann::json data) = 0;
};

using Handler = std::function<asio::awaitable<Result<nlohmann::json>>(Request)>;

// Ends the stream by returning; an error is sent as the reply, or as an event named `error` if others went
// before. Cancelled when the reader goes away.
using StreamHandler = std::function<asio::awaitable<Result<void>>(Request, EventStream&)>;

struct Route {
  std::string method;
  std::string pattern;  // "/v1/runs/{id}"
  Handler handler;      // one of the two
  StreamHandler stream;
};

// The status that says what an error's code says.
unsigned status_of(ErrorCode code);

// Percent-encoding of one path segment or query value, and back; nullopt on a broken escape.
std::string percent_encoded(std::string_view text);
std::optional<std::string> percent_decoded(std::string_view text);

class ControlServer {
 public:
  ControlServer(asio::any_io_executor executor, Clock& clock, std::vector<Route> routes);

  // Listens; a socket left by a daemon that died is replaced. Unavailable if the path cannot be bound.
  Result<void> start(const std::filesystem::path& socket);

  // Stops listening, ends every connection and removes the socket.
  asio::awaitable<void> stop();

  const std::vector<Route>& routes() const { return routes_; }

 private:
  using Socket = asio::local::stream_protocol::socket;

  asio::awaitable<void> accept_loop();
  asio::awaitable<void> serve(Socket socket);

  Clock& clock_;
  std::vector<Route> routes_;
  std::filesystem::path path_;
  asio::local::stream_protocol::acceptor acceptor_;
  TaskGroup tasks_;
};

}  // namespace hivemetal::node
