#include "node/worker_socket.h"

#include <array>
#include <fmt/format.h>
#include <sys/stat.h>
#include <system_error>
#include <unistd.h>

#include <boost/asio/local/stream_protocol.hpp>

#include "node/file.h"

namespace hivemetal::node {

namespace {

using nlohmann::json;
using Socket = asio::local::stream_protocol::socket;

constexpr std::size_t kLineBytesMax = 64 * 1024;
constexpr int kDepthMax = 16;
constexpr std::size_t kConnectionsMax = 8;
constexpr double kLinesPerSecond = 100;
constexpr double kLinesBurst = 400;

}  // namespace

bool LineBudget::take(Clock::TimePoint now) {
  if (last_ != Clock::TimePoint{})
    left_ = std::min(burst_, left_ + per_second_ * std::chrono::duration<double>(now - last_).count());
  last_ = now;
  if (left_ < 1) return false;
  left_ -= 1;
  return true;
}

Result<json> parse_worker_line(std::string_view line) {
  if (line.size() > kLineBytesMax) return Error{ErrorCode::Invalid, "a line of more than 64 KiB"};
  bool too_deep = false;
  const json::parser_callback_t shallow = [&too_deep](int depth, json::parse_event_t, json&) {
    too_deep = too_deep || depth > kDepthMax;
    return !too_deep;
  };
  auto value = json::parse(line, shallow, /*allow_exceptions=*/false);
  if (too_deep) return Error{ErrorCode::Invalid, "a line with more than 16 levels"};
  if (!value.is_object()) return Error{ErrorCode::Invalid, "a line that is no JSON object"};
  const auto event = value.find("event");
  if (event == value.end() || !event->is_string())
    return Error{ErrorCode::Invalid, "a line without \"event\""};
  return value;
}

struct WorkerSockets::Listener {
  Listener(const asio::any_io_executor& executor, runner::AttemptId id)
      : attempt(std::move(id)), acceptor(executor) {}

  runner::AttemptId attempt;
  std::filesystem::path path;
  asio::local::stream_protocol::acceptor acceptor;
  LineBudget budget{kLinesPerSecond, kLinesBurst};
  std::map<std::uint64_t, Socket> connections;
  std::uint64_t next_connection = 0;
};

WorkerSockets::WorkerSockets(asio::any_io_executor executor, Clock& clock, std::filesystem::path folder,
                             const identity::PrivateKey& key, Callback callback)
    : clock_(clock),
      folder_(std::move(folder)),
      key_(key),
      callback_(std::move(callback)),
      tasks_(executor) {}

WorkerSockets::~WorkerSockets() = default;

std::filesystem::path WorkerSockets::path_of(const runner::AttemptId& attempt) const {
  // Ed25519 signatures are deterministic, and nobody without the key can guess one.
  return folder_ / to_hex(key_.sign("hivemetal worker socket " + attempt).substr(0, 12));
}

Result<void> WorkerSockets::open(const runner::AttemptId& attempt) {
  if (listeners_.contains(attempt)) return {};
  if (::mkdir(folder_.c_str(), 0711) != 0 && errno != EEXIST)
    return system_error("cannot make " + folder_.string(), errno);
  ::chmod(folder_.c_str(), 0711);
  auto listener = std::make_shared<Listener>(tasks_.executor(), attempt);
  listener->path = path_of(attempt);
  ::unlink(listener->path.c_str());
  boost::system::error_code error;
  const auto failed = [&] {
    return system_error("cannot listen for the worker at " + listener->path.string(), error.value());
  };
  listener->acceptor.open(asio::local::stream_protocol(), error);
  if (!error) listener->acceptor.bind(asio::local::stream_protocol::endpoint(listener->path.string()), error);
  if (!error) listener->acceptor.listen(16, error);
  if (error) return failed();
  ::chmod(listener->path.c_str(), 0666);
  listeners_[attempt] = listener;
  tasks_.spawn("worker socket", accept_loop(listener));
  return {};
}

void WorkerSockets::close(const runner::AttemptId& attempt) {
  const auto found = listeners_.find(attempt);
  if (found == listeners_.end()) return;
  // The worker has ended, so each connection reads what is left and then the end of the stream.
  boost::system::error_code ignored;
  found->second->acceptor.close(ignored);
  ::unlink(found->second->path.c_str());
  listeners_.erase(found);
}

void WorkerSockets::remove_others() {
  std::set<std::filesystem::path> claimed;
  for (const auto& [attempt, listener] : listeners_) claimed.insert(listener->path);
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder_, error)) {
    if (!claimed.contains(entry.path())) ::unlink(entry.path().c_str());
  }
}

asio::awaitable<void> WorkerSockets::stop() {
  while (!listeners_.empty()) {
    const runner::AttemptId attempt = listeners_.begin()->first;
    // The socket's file stays: a running worker finds the next daemon behind it.
    boost::system::error_code ignored;
    listeners_.begin()->second->acceptor.close(ignored);
    listeners_.erase(attempt);
  }
  co_await tasks_.close();
}

asio::awaitable<void> WorkerSockets::accept_loop(std::shared_ptr<Listener> listener) {
  for (;;) {
    auto [error, socket] = co_await listener->acceptor.async_accept(use_result);
    if (error == asio::error::operation_aborted || error == asio::error::bad_descriptor) co_return;
    if (error) {
      co_await clock_.sleep_for(std::chrono::milliseconds(100));
      continue;
    }
    if (listener->connections.size() >= kConnectionsMax) {
      drop(*listener, "more than 8 connections");
      continue;
    }
    const auto number = listener->next_connection++;
    listener->connections.emplace(number, std::move(socket));
    tasks_.spawn("worker connection", read_loop(listener, number));
  }
}

asio::awaitable<void> WorkerSockets::read_loop(std::shared_ptr<Listener> listener, std::uint64_t connection) {
  Socket& socket = listener->connections.at(connection);
  std::string pending;
  bool skipping = false;  // inside a line that is too long
  std::array<char, 8192> buffer;
  for (;;) {
    const auto [error, n] = co_await socket.async_read_some(asio::buffer(buffer), use_result);
    if (error) break;
    std::string_view bytes(buffer.data(), n);
    while (!bytes.empty()) {
      const auto end = bytes.find('\n');
      if (!skipping) pending.append(bytes.substr(0, end));
      if (pending.size() > kLineBytesMax) {
        drop(*listener, "a line of more than 64 KiB");
        pending.clear();
        skipping = true;
      }
      if (end == std::string_view::npos) break;
      if (!skipping) take_line(*listener, pending);
      pending.clear();
      skipping = false;
      bytes.remove_prefix(end + 1);
    }
  }
  listener->connections.erase(connection);
}

void WorkerSockets::take_line(Listener& listener, std::string_view line) {
  if (line.empty()) return;
  if (!listener.budget.take(clock_.now())) return drop(listener, "more than 100 lines per second");
  auto event = parse_worker_line(line);
  if (!event) return drop(listener, event.error().message);
  callback_(listener.attempt, std::move(*event));
}

void WorkerSockets::drop(const Listener& listener, std::string_view why) {
  if (dropped_.first(listener.attempt))
    log::warn("worker: {}: dropped {}; more of its lines may be dropped silently", listener.attempt, why);
}

}  // namespace hivemetal::node
