#include "node/control_server.h"

#include <fmt/format.h>
#include <optional>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <boost/asio/experimental/awaitable_operators.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>

#include "base/deadline.h"
#include "base/log.h"
#include "node/file.h"

namespace hivemetal::node {

namespace {

namespace beast = boost::beast;
namespace http = beast::http;
using nlohmann::json;
using Socket = asio::local::stream_protocol::socket;
using HttpRequest = http::request<http::string_body>;

constexpr std::uint32_t kHeadBytesMax = 16 * 1024;
constexpr std::uint64_t kBodyBytesMax = 64 * 1024 * 1024;
constexpr std::size_t kConnectionsMax = 64;
constexpr auto kReadTime = std::chrono::seconds(30);
constexpr auto kWriteTime = std::chrono::seconds(30);
constexpr auto kHeartbeat = std::chrono::seconds(5);

// True if the process at the other end runs as us or as root.
bool is_allowed(Socket& socket) {
  ucred credentials{};
  socklen_t size = sizeof credentials;
  if (::getsockopt(socket.native_handle(), SOL_SOCKET, SO_PEERCRED, &credentials, &size) != 0) return false;
  return credentials.uid == 0 || credentials.uid == ::geteuid();
}

json error_body(const Error& error) {
  return {{"error", {{"code", name_of(error.code)}, {"message", error.message}}}};
}

// Foreign text may hold bytes that are no UTF-8; JSON gets U+FFFD for them.
std::string text_of(const json& value) { return value.dump(-1, ' ', false, json::error_handler_t::replace); }

asio::awaitable<Result<void>> write_bytes(Socket& socket, std::string bytes) {
  const auto [error, n] = co_await asio::async_write(socket, asio::buffer(bytes), use_result);
  if (error) co_return Error{ErrorCode::Unavailable, "the reader has gone: " + error.message()};
  co_return Result<void>();
}

asio::awaitable<Result<void>> write_reply(Clock& clock, Socket& socket, unsigned status, json body,
                                          bool keep_alive) {
  http::response<http::string_body> response{static_cast<http::status>(status), 11};
  response.set(http::field::content_type, "application/json");
  response.keep_alive(keep_alive);
  response.body() = text_of(body) + "\n";
  response.prepare_payload();
  auto serialized =
      fmt::format("HTTP/1.1 {} {}\r\n", status, std::string_view(http::obsolete_reason(response.result())));
  for (const auto& field : response) {
    serialized +=
        fmt::format("{}: {}\r\n", std::string_view(field.name_string()), std::string_view(field.value()));
  }
  serialized += "\r\n" + response.body();
  co_return co_await with_deadline(clock, clock.now() + kWriteTime,
                                   write_bytes(socket, std::move(serialized)));
}

class SocketEventStream final : public EventStream {
 public:
  SocketEventStream(Clock& clock, Socket& socket) : clock_(clock), socket_(socket) {}

  asio::awaitable<Result<void>> send(std::string event, json data) override {
    return write(fmt::format("event: {}\ndata: {}\n\n", event, text_of(data)));
  }

  // Keeps the connection visibly alive between events. One system call, so that it never mixes with an event.
  void beat() {
    if (started_ && !writing_) (void)::send(socket_.native_handle(), ":\n\n", 3, MSG_DONTWAIT | MSG_NOSIGNAL);
  }

  bool started() const { return started_; }

 private:
  asio::awaitable<Result<void>> write(std::string text) {
    if (!started_) text.insert(0, kHead);
    started_ = true;
    writing_ = true;
    auto written =
        co_await with_deadline(clock_, clock_.now() + kWriteTime, write_bytes(socket_, std::move(text)));
    writing_ = false;
    co_return written;
  }

  static constexpr std::string_view kHead =
      "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-store\r\nConnection: "
      "close\r\n\r\n";

  Clock& clock_;
  Socket& socket_;
  bool started_ = false;
  bool writing_ = false;
};

// Returns when the reader closes its end; it has nothing more to say.
asio::awaitable<void> wait_for_close(Socket& socket) {
  char byte;
  for (;;) {
    const auto [error, n] = co_await socket.async_read_some(asio::buffer(&byte, 1), use_result);
    if (error) co_return;
  }
}

asio::awaitable<void> beat_forever(Clock& clock, SocketEventStream& stream) {
  for (;;) {
    co_await clock.sleep_for(kHeartbeat);
    stream.beat();
  }
}

// The next request, or nothing at the end of the connection.
struct Incoming {
  std::optional<HttpRequest> request;
  std::optional<Error> error;
};

asio::awaitable<Result<Incoming>> read_request(Socket& socket, beast::flat_buffer& buffer) {
  http::request_parser<http::string_body> parser;
  parser.header_limit(kHeadBytesMax);
  parser.body_limit(kBodyBytesMax);
  const auto [error, n] = co_await http::async_read(socket, buffer, parser, use_result);
  if (!error) co_return Incoming{parser.release(), std::nullopt};
  if (error == http::error::body_limit) {
    co_return Incoming{std::nullopt,
                       Error{ErrorCode::Invalid,
                             fmt::format("the request has more than {} MiB; make the job's files smaller",
                                         kBodyBytesMax >> 20)}};
  }
  if (error == http::error::end_of_stream || error.category() == asio::error::get_system_category() ||
      error == asio::error::eof) {
    co_return Incoming{};
  }
  co_return Incoming{std::nullopt, Error{ErrorCode::Invalid, "not an HTTP request: " + error.message()}};
}

std::vector<std::string_view> segments_of(std::string_view path) {
  std::vector<std::string_view> found;
  while (!path.empty()) {
    path.remove_prefix(1);
    const auto end = std::min(path.find('/'), path.size());
    found.push_back(path.substr(0, end));
    path.remove_prefix(end);
  }
  return found;
}

// The values of the pattern's {names} in `path`; nothing if it does not match.
std::optional<std::map<std::string, std::string>> match(std::string_view pattern, std::string_view path) {
  const auto wanted = segments_of(pattern);
  const auto given = segments_of(path);
  if (wanted.size() != given.size()) return std::nullopt;
  std::map<std::string, std::string> values;
  for (std::size_t i = 0; i < wanted.size(); ++i) {
    if (wanted[i].starts_with('{')) {
      const auto value = percent_decoded(given[i]);
      if (!value || value->empty()) return std::nullopt;
      values[std::string(wanted[i].substr(1, wanted[i].size() - 2))] = *value;
    } else if (wanted[i] != given[i]) {
      return std::nullopt;
    }
  }
  return values;
}

Result<void> read_query(std::string_view query, std::map<std::string, std::string>& into) {
  while (!query.empty()) {
    const auto end = std::min(query.find('&'), query.size());
    const auto pair = query.substr(0, end);
    query.remove_prefix(std::min(end + 1, query.size()));
    const auto equals = pair.find('=');
    const auto name = percent_decoded(pair.substr(0, equals));
    const auto value = percent_decoded(equals == std::string_view::npos ? "" : pair.substr(equals + 1));
    if (!name || !value) return Error{ErrorCode::Invalid, "the query has a broken percent escape"};
    into[*name] = *value;
  }
  return {};
}

struct Matched {
  const Route* route = nullptr;
  Request request;
};

Result<Matched> route_of(const std::vector<Route>& routes, const HttpRequest& http) {
  const std::string_view target(http.target().data(), http.target().size());
  const auto path = target.substr(0, target.find('?'));
  const auto query = path.size() < target.size() ? target.substr(path.size() + 1) : "";
  Matched matched;
  for (const auto& route : routes) {
    if (route.method != http.method_string() || !path.starts_with('/')) continue;
    if (auto values = match(route.pattern, path)) {
      matched.route = &route;
      matched.request.parameters = std::move(*values);
      break;
    }
  }
  if (matched.route == nullptr) {
    return Error{ErrorCode::NotFound,
                 fmt::format("the node has no {} {}; docs/api/openapi.yaml lists what it has",
                             std::string_view(http.method_string()), path.substr(0, 128))};
  }
  matched.request.method = matched.route->method;
  matched.request.path = path;
  if (const auto read = read_query(query, matched.request.parameters); !read) return read.error();
  if (!http.body().empty()) {
    // A depth that no reply of ours has; nlohmann's parser does not recurse, but the value's destructor does.
    const json::parser_callback_t shallow = [](int depth, json::parse_event_t, json&) { return depth <= 32; };
    matched.request.body = json::parse(http.body(), shallow, /*allow_exceptions=*/false);
    if (!matched.request.body.is_object())
      return Error{ErrorCode::Invalid, "the request's body is no JSON object"};
  }
  return matched;
}

asio::awaitable<void> serve_stream(Clock& clock, Socket& socket, const Route& route, Request request) {
  using namespace asio::experimental::awaitable_operators;
  SocketEventStream stream(clock, socket);
  auto first = co_await (route.stream(std::move(request), stream) || wait_for_close(socket) ||
                         beat_forever(clock, stream));
  if (first.index() != 0) co_return;
  const auto& result = std::get<0>(first);
  if (result) co_return;
  if (stream.started()) {
    (void)co_await stream.send("error", error_body(result.error()));
  } else {
    (void)co_await write_reply(clock, socket, status_of(result.error().code), error_body(result.error()),
                               false);
  }
}

}  // namespace

std::string Request::parameter(const std::string& name) const {
  const auto found = parameters.find(name);
  return found == parameters.end() ? std::string() : found->second;
}

unsigned status_of(ErrorCode code) {
  switch (code) {
    case ErrorCode::Invalid:
      return 400;
    case ErrorCode::NotFound:
      return 404;
    case ErrorCode::Refused:
      return 403;
    case ErrorCode::Unavailable:
      return 503;
    case ErrorCode::TimedOut:
      return 504;
    case ErrorCode::Cancelled:
      return 503;
  }
  return 500;
}

std::string percent_encoded(std::string_view text) {
  std::string out;
  for (const unsigned char c : text) {
    if (std::isalnum(c) != 0 || c == '-' || c == '.' || c == '_' || c == '~') {
      out += static_cast<char>(c);
    } else {
      out += fmt::format("%{:02X}", c);
    }
  }
  return out;
}

std::optional<std::string> percent_decoded(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      out += text[i];
      continue;
    }
    if (i + 2 >= text.size()) return std::nullopt;
    const auto byte = from_hex(text.substr(i + 1, 2));
    if (!byte || byte->size() != 1) return std::nullopt;
    out += *byte;
    i += 2;
  }
  return out;
}

ControlServer::ControlServer(asio::any_io_executor executor, Clock& clock, std::vector<Route> routes)
    : clock_(clock), routes_(std::move(routes)), acceptor_(executor), tasks_(executor) {}

Result<void> ControlServer::start(const std::filesystem::path& socket) {
  // The directory's lock is ours, so a socket that lies here belongs to nobody.
  ::unlink(socket.c_str());
  boost::system::error_code error;
  const auto failed = [&] { return system_error("cannot listen on " + socket.string(), error.value()); };
  acceptor_.open(asio::local::stream_protocol(), error);
  if (error) return failed();
  const mode_t previous = ::umask(0177);
  acceptor_.bind(asio::local::stream_protocol::endpoint(socket.string()), error);
  ::umask(previous);
  if (!error) acceptor_.listen(asio::socket_base::max_listen_connections, error);
  if (error) return failed();
  path_ = socket;
  tasks_.spawn("control accept", accept_loop());
  return {};
}

asio::awaitable<void> ControlServer::stop() {
  boost::system::error_code ignored;
  acceptor_.close(ignored);
  co_await tasks_.close();
  if (!path_.empty()) ::unlink(path_.c_str());
  path_.clear();
}

asio::awaitable<void> ControlServer::accept_loop() {
  for (;;) {
    auto [error, socket] = co_await acceptor_.async_accept(use_result);
    if (error == asio::error::operation_aborted || error == asio::error::bad_descriptor) co_return;
    if (error) {  // out of descriptors, most likely: others must close some first
      co_await clock_.sleep_for(std::chrono::milliseconds(100));
      continue;
    }
    if (tasks_.size() <= kConnectionsMax) tasks_.spawn("control connection", serve(std::move(socket)));
  }
}

asio::awaitable<void> ControlServer::serve(Socket socket) {
  if (!is_allowed(socket)) {
    log::warn("control: refused a process of another user");
    const Error refused{ErrorCode::Refused,
                        "this node belongs to another user; use sudo or that user's account"};
    (void)co_await write_reply(clock_, socket, 403, error_body(refused), false);
    co_return;
  }
  beast::flat_buffer buffer;
  for (;;) {
    auto incoming = co_await with_deadline(clock_, clock_.now() + kReadTime, read_request(socket, buffer));
    if (!incoming || (!incoming->request && !incoming->error)) co_return;
    if (incoming->error) {
      (void)co_await write_reply(clock_, socket, 400, error_body(*incoming->error), false);
      co_return;
    }
    const bool keep_alive = incoming->request->keep_alive();
    auto matched = route_of(routes_, *incoming->request);
    incoming->request.reset();
    if (matched && matched->route->stream) {
      co_await serve_stream(clock_, socket, *matched->route, std::move(matched->request));
      co_return;
    }
    auto reply = matched ? co_await matched->route->handler(std::move(matched->request))
                         : Result<json>(matched.error());
    const unsigned status = reply ? 200 : status_of(reply.error().code);
    const auto written = co_await write_reply(
        clock_, socket, status, reply ? std::move(*reply) : error_body(reply.error()), keep_alive);
    if (!written || !keep_alive) co_return;
  }
}

}  // namespace hivemetal::node
