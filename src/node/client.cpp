#include "node/client.h"

#include <csignal>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/socket.h>
#include <unistd.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/experimental/awaitable_operators.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>

#include "base/deadline.h"
#include "node/directory.h"

namespace hivemetal::node {

namespace {

namespace beast = boost::beast;
namespace http = beast::http;
namespace fs = std::filesystem;
using nlohmann::json;
using namespace asio::experimental::awaitable_operators;
using Socket = asio::local::stream_protocol::socket;
using OnEvent = std::function<Next(const ServerEvent&)>;

constexpr auto kCallTime = std::chrono::seconds(60);
constexpr auto kSilenceMax = std::chrono::seconds(20);  // a node sends a heartbeat every 5 s
constexpr std::size_t kEventBytesMax = 16 * 1024 * 1024;
constexpr std::uint64_t kReplyBytesMax = 64 * 1024 * 1024;

Error not_running(const fs::path& directory) {
  return Error{ErrorCode::Unavailable,
               fmt::format("no node is running in {}; start it with: hivemetal node run --dir {}",
                           directory.string(), directory.string())};
}

// A fallback socket lies in a folder that others may write to: whoever listens must be us or root.
bool is_trusted(Socket& socket) {
  ucred credentials{};
  socklen_t size = sizeof credentials;
  if (::getsockopt(socket.native_handle(), SOL_SOCKET, SO_PEERCRED, &credentials, &size) != 0) return false;
  return credentials.uid == 0 || credentials.uid == ::geteuid() || ::geteuid() == 0;
}

asio::awaitable<Result<Socket>> connect_to(fs::path directory) {
  Socket socket(co_await asio::this_coro::executor);
  const auto path = control_socket_of(directory);
  const auto [error] =
      co_await socket.async_connect(asio::local::stream_protocol::endpoint(path.string()), use_result);
  if (error == boost::system::errc::permission_denied) {
    co_return Error{
        ErrorCode::Refused,
        fmt::format("{} belongs to another user; use sudo or that user's account", path.string())};
  }
  if (error) co_return not_running(directory);
  if (!is_trusted(socket))
    co_return Error{ErrorCode::Refused,
                    fmt::format("{} is held by a process of another user", path.string())};
  co_return socket;
}

Error error_of(const json& body, unsigned status) {
  const auto error = body.is_object() ? body.value("error", json::object()) : json::object();
  const auto code = error.is_object() ? error.value("code", "") : "";
  const auto message = error.is_object() ? error.value("message", "") : "";
  for (const auto known : {ErrorCode::Invalid, ErrorCode::NotFound, ErrorCode::Refused,
                           ErrorCode::Unavailable, ErrorCode::TimedOut, ErrorCode::Cancelled}) {
    if (name_of(known) == code) return Error{known, message};
  }
  return Error{ErrorCode::Unavailable, fmt::format("the node answered with status {}", status)};
}

asio::awaitable<Result<void>> send_request(Socket& socket, const std::string& method,
                                           const std::string& target, const json& body) {
  http::request<http::string_body> request{http::string_to_verb(method), target, 11};
  request.set(http::field::host, "node");
  request.set(http::field::connection, "close");
  if (!body.is_null()) {
    request.set(http::field::content_type, "application/json");
    request.body() = body.dump(-1, ' ', false, json::error_handler_t::replace);
  }
  request.prepare_payload();
  const auto [error, n] = co_await http::async_write(socket, request, use_result);
  // A node that refuses a request may answer before it has read all of it.
  if (error && error != asio::error::broken_pipe)
    co_return Error{ErrorCode::Unavailable, "the node closed the connection: " + error.message()};
  co_return Result<void>();
}

asio::awaitable<Result<json>> exchange(fs::path directory, std::string method, std::string target,
                                       json body) {
  auto socket = co_await connect_to(directory);
  if (!socket) co_return socket.error();
  if (const auto sent = co_await send_request(*socket, method, target, body); !sent) co_return sent.error();
  beast::flat_buffer buffer;
  http::response_parser<http::string_body> parser;
  parser.body_limit(kReplyBytesMax);
  const auto [error, n] = co_await http::async_read(*socket, buffer, parser, use_result);
  if (error)
    co_return Error{ErrorCode::Unavailable, "the node went away while it was asked: " + error.message()};
  auto reply = json::parse(parser.get().body(), nullptr, /*allow_exceptions=*/false);
  if (reply.is_discarded())
    co_return Error{ErrorCode::Unavailable,
                    "the node's answer is no JSON; is another program listening there?"};
  if (parser.get().result_int() != 200) co_return error_of(reply, parser.get().result_int());
  co_return reply;
}

// The error that a stream's reply carries instead of events.
asio::awaitable<Result<void>> read_refusal(Socket& socket, beast::flat_buffer& buffer,
                                           http::response_parser<http::string_body>& parser) {
  (void)co_await http::async_read(socket, buffer, parser, use_result);
  const auto reply = json::parse(parser.get().body(), nullptr, /*allow_exceptions=*/false);
  co_return error_of(reply, parser.get().result_int());
}

asio::awaitable<Result<std::size_t>> read_some(Socket& socket, std::span<char> into) {
  const auto [error, n] = co_await socket.async_read_some(asio::buffer(into.data(), into.size()), use_result);
  if (error == asio::error::eof) co_return std::size_t{0};
  if (error) co_return Error{ErrorCode::Unavailable, "the node went away: " + error.message()};
  co_return n;
}

asio::awaitable<Result<void>> follow(fs::path directory, std::string target, OnEvent& on_event) {
  SystemClock clock;
  auto socket = co_await connect_to(directory);
  if (!socket) co_return socket.error();
  if (const auto sent = co_await send_request(*socket, "GET", target, nullptr); !sent) co_return sent.error();
  beast::flat_buffer buffer;
  http::response_parser<http::string_body> parser;
  parser.body_limit(kReplyBytesMax);
  const auto [error, n] = co_await http::async_read_header(*socket, buffer, parser, use_result);
  if (error)
    co_return Error{ErrorCode::Unavailable, "the node went away while it was asked: " + error.message()};
  if (parser.get().result_int() != 200) co_return co_await read_refusal(*socket, buffer, parser);

  EventParser events;
  bool ended = false;
  std::string bytes(static_cast<const char*>(buffer.data().data()), buffer.size());
  std::vector<char> chunk(65536);
  for (;;) {
    auto found = events.feed(bytes);
    if (!found) co_return found.error();
    for (const auto& event : *found) {
      if (event.name == "error") co_return error_of(event.data, 0);
      ended = event.name == "end";
      if (ended || on_event(event) == Next::Stop) co_return Result<void>();
    }
    const auto got = co_await with_deadline(clock, clock.now() + kSilenceMax, read_some(*socket, chunk));
    if (!got && got.error().code == ErrorCode::TimedOut)
      co_return Error{ErrorCode::TimedOut, "the node has been silent for 20 s; see its log"};
    if (!got) co_return got.error();
    if (*got == 0) co_return Error{ErrorCode::Unavailable, "the node went away"};
    bytes.assign(chunk.data(), *got);
  }
}

asio::awaitable<void> wait_for_signal() {
  asio::signal_set signals(co_await asio::this_coro::executor, SIGINT, SIGTERM);
  co_await signals.async_wait(use_result);
}

// Returns when the user presses q; never if there is no terminal.
asio::awaitable<void> wait_for_q(bool keys) {
  SystemClock clock;
  // Opened anew: Asio makes a descriptor non-blocking, and the shell shares the one we were given.
  const int fd =
      keys && ::isatty(STDIN_FILENO) != 0 ? ::open("/dev/tty", O_RDONLY | O_CLOEXEC | O_NOCTTY) : -1;
  if (fd < 0) {
    for (;;) co_await clock.sleep_for(std::chrono::hours(24));
  }
  asio::posix::stream_descriptor terminal(co_await asio::this_coro::executor, fd);
  char key = 0;
  while (key != 'q' && key != 'Q') {
    const auto [error, n] = co_await terminal.async_read_some(asio::buffer(&key, 1), use_result);
    if (error) co_return;
  }
}

asio::awaitable<Result<void>> follow_until_stopped(fs::path directory, std::string target, bool keys,
                                                   OnEvent& on_event) {
  auto first = co_await (follow(directory, target, on_event) || wait_for_signal() || wait_for_q(keys));
  if (first.index() == 0) co_return std::get<0>(std::move(first));
  co_return Error{ErrorCode::Cancelled, "stopped"};
}

// Runs a coroutine to its end on a loop of its own.
template <class T>
Result<T> run(asio::awaitable<Result<T>> work) {
  asio::io_context loop(1);
  std::optional<Result<T>> result;
  asio::co_spawn(loop, std::move(work), [&result](const std::exception_ptr& exception, Result<T> value) {
    if (!exception) result = std::move(value);
  });
  loop.run();
  return result ? std::move(*result) : Result<T>(Error{ErrorCode::Cancelled, "stopped"});
}

}  // namespace

Result<std::vector<ServerEvent>> EventParser::feed(std::string_view bytes) {
  pending_.append(bytes);
  std::vector<ServerEvent> events;
  for (;;) {
    const auto end = pending_.find("\n\n");
    if (end == std::string::npos) break;
    const std::string block = pending_.substr(0, end);
    pending_.erase(0, end + 2);
    ServerEvent event;
    std::string data;
    for (std::size_t begin = 0; begin <= block.size();) {
      const auto line_end = std::min(block.find('\n', begin), block.size());
      const std::string_view line(block.data() + begin, line_end - begin);
      if (line.starts_with("event: ")) event.name = line.substr(7);
      if (line.starts_with("data: ")) data += line.substr(6);
      begin = line_end + 1;
    }
    if (data.empty()) continue;
    event.data = json::parse(data, nullptr, /*allow_exceptions=*/false);
    if (event.data.is_discarded()) return Error{ErrorCode::Invalid, "an event of the node is no JSON"};
    events.push_back(std::move(event));
  }
  if (pending_.size() > kEventBytesMax)
    return Error{ErrorCode::Invalid, "an event of the node has more than 16 MiB"};
  return events;
}

Result<json> Client::call(std::string method, const std::string& target, json body) {
  SystemClock clock;
  return run(with_deadline(clock, clock.now() + kCallTime,
                           exchange(directory_, std::move(method), target, std::move(body))));
}

Result<void> Client::stream(const std::string& target, bool keys,
                            std::function<Next(const ServerEvent&)> on_event) {
  return run(follow_until_stopped(directory_, target, keys, on_event));
}

}  // namespace hivemetal::node
