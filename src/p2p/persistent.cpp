#include "p2p/persistent.h"

#include <array>
#include <fmt/format.h>
#include <optional>
#include <utility>

#include <boost/asio/experimental/awaitable_operators.hpp>
#include <boost/asio/experimental/channel.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/write.hpp>

#include "base/deadline.h"
#include "base/log.h"
#include "base/notification.h"
#include "base/random.h"
#include "p2p/control.h"
#include "wire/framing.h"
#include "wire/p2pd.pb.h"
#include "wire/protobuf.h"

namespace hivemetal::p2p {

namespace {

using ToDaemon = wire::p2pd::PersistentConnectionRequest;
using FromDaemon = wire::p2pd::PersistentConnectionResponse;

constexpr std::size_t kCallIdBytes = 16;
constexpr std::size_t kMessageBytesMax = kUnaryMessageBytesMax + 1024;  // p2pd may write a longer peer id
constexpr std::size_t kUnsentBytesMax = 4 * kUnaryMessageBytesMax;      // callers wait above
constexpr std::size_t kRequestsMax = 1024;                              // handled at once
constexpr std::size_t kErrorTextMax = 4096;

// A random UUID, version 4.
Bytes new_call_id() {
  Bytes id = secure_random_bytes(kCallIdBytes);
  id[6] = static_cast<char>((id[6] & 0x0f) | 0x40);
  id[8] = static_cast<char>((id[8] & 0x3f) | 0x80);
  return id;
}

}  // namespace

Result<DaemonMessage> parse_daemon_message(std::string_view bytes) {
  auto parsed = wire::parse_message<FromDaemon>(bytes);
  if (!parsed) return parsed.error();
  using Kind = DaemonMessage::Kind;
  DaemonMessage message;
  message.call_id = std::move(*parsed->mutable_call_id());
  if (message.call_id.size() != kCallIdBytes) {
    return Error{ErrorCode::Refused, fmt::format("a call id of {} bytes", message.call_id.size())};
  }
  if (parsed->has_call_unary_response()) {
    auto& response = *parsed->mutable_call_unary_response();
    message.kind = response.has_response() ? Kind::Reply : Kind::ReplyError;
    if (response.has_response()) {
      message.data = std::move(*response.mutable_response());
    } else {
      message.data = response.has_error() ? response.error() : "a reply without a response";
    }
  } else if (parsed->has_request_handling()) {
    auto& request = *parsed->mutable_request_handling();
    auto peer = PeerId::from_bytes(request.peer());
    if (!peer) return Error{ErrorCode::Refused, peer.error().message};
    message.kind = Kind::Request;
    message.peer = std::move(*peer);
    message.handle = std::move(*request.mutable_proto());
    message.data = std::move(*request.mutable_data());
  } else if (parsed->has_daemon_error()) {
    message.kind = Kind::DaemonError;
    message.data = parsed->daemon_error().message();
  } else if (parsed->has_cancel()) {
    message.kind = Kind::Cancel;
  }
  return message;
}

// Shared by the connection and the coroutines of calls and handlers, which may outlive it.
struct PersistentConnection::State {
  State(std::unique_ptr<Socket> socket, std::shared_ptr<NetworkStats> stats)
      : socket(std::move(socket)), stats(std::move(stats)), changed(this->socket->get_executor()) {}

  struct Call {
    explicit Call(const asio::any_io_executor& executor) : answered(executor, 1) {}
    std::optional<Result<Bytes>> result;
    asio::experimental::channel<void(boost::system::error_code)> answered;
  };

  struct Handling {
    std::weak_ptr<UnaryService> service;
    TaskGroup::TaskId task = 0;
  };

  void enqueue(const ToDaemon& message) {
    if (ended) return;
    wire::append_delimited(unsent, message.SerializeAsString());
    changed.notify_all();
  }

  void answer(const Bytes& call_id, Result<Bytes> result) {
    const auto found = calls.find(call_id);
    if (found == calls.end() || found->second->result) return;  // cancelled meanwhile
    found->second->result = std::move(result);
    found->second->answered.try_send(boost::system::error_code{});
  }

  // Sends the reply of a handler; one that is too large becomes an error.
  void reply(const Bytes& call_id, Result<Bytes> result) {
    ToDaemon message;
    message.set_call_id(call_id);
    auto& response = *message.mutable_unary_response();
    if (!result) {
      response.set_error(result.error().message.substr(0, kErrorTextMax));
    } else if (unary_reply_bytes(result->size()) > kUnaryMessageBytesMax) {
      response.set_error(fmt::format("the reply of {} bytes is above the limit of {}", result->size(),
                                     kUnaryMessageBytesMax));
    } else {
      stats->bytes_out += result->size();
      response.set_response(std::move(*result));
    }
    enqueue(message);
  }

  void end(const Error& why) {
    if (std::exchange(ended, true)) return;
    boost::system::error_code ignored;
    socket->close(ignored);
    for (auto& [id, call] : calls) {
      if (call->result) continue;
      call->result = why;
      call->answered.try_send(boost::system::error_code{});
    }
    for (const auto& [id, handling] : std::exchange(handlings, {})) {
      if (const auto service = handling.service.lock()) service->tasks.cancel(handling.task);
    }
    changed.notify_all();
  }

  // Sends `message` and waits for what p2pd answers to it.
  static asio::awaitable<Result<Bytes>> exchange(std::shared_ptr<State> state, ToDaemon message);

  // Runs a handler and sends its reply.
  static asio::awaitable<void> serve(std::shared_ptr<State> state, std::shared_ptr<UnaryService> service,
                                     DaemonMessage request);

  std::unique_ptr<Socket> socket;
  std::shared_ptr<NetworkStats> stats;
  Notification changed;  // `unsent` or `ended`
  Bytes unsent;
  bool ended = false;
  std::map<Bytes, Call*> calls;         // ours, by call id
  std::map<Bytes, Handling> handlings;  // our peers'
  log::Limited limited;
};

asio::awaitable<Result<Bytes>> PersistentConnection::State::exchange(std::shared_ptr<State> state,
                                                                     ToDaemon message) {
  while (!state->ended && state->unsent.size() > kUnsentBytesMax) co_await state->changed.wait();
  if (state->ended) co_return Error{ErrorCode::Unavailable, "the connection to p2pd has ended"};
  Call call(state->socket->get_executor());
  struct Entry {  // leaves the table however the wait ends; an unanswered call is cancelled
    State& state;
    Bytes id;
    Call& call;
    bool cancels;
    ~Entry() {
      state.calls.erase(id);
      if (call.result || !cancels) return;
      ToDaemon cancel;
      cancel.set_call_id(id);
      cancel.mutable_cancel();
      state.enqueue(cancel);
    }
  } const entry{*state, message.call_id(), call, message.has_call_unary()};
  state->calls.emplace(entry.id, &call);
  state->enqueue(message);
  message.Clear();
  co_await call.answered.async_receive(asio::use_awaitable);
  co_return std::move(*call.result);
}

asio::awaitable<void> PersistentConnection::State::serve(std::shared_ptr<State> state,
                                                         std::shared_ptr<UnaryService> service,
                                                         DaemonMessage request) {
  struct Answer {  // a handler that is cancelled because it is removed answers too; one whose caller went
                   // does not
    State& state;
    Bytes id;
    std::optional<Result<Bytes>> result;
    ~Answer() {
      if (state.handlings.erase(id) == 0) return;
      state.reply(id, result ? std::move(*result) : Error{ErrorCode::Refused, "the handler was stopped"});
    }
  } answer{*state, std::move(request.call_id), std::nullopt};
  answer.result = co_await service->handler(std::move(request.peer), std::move(request.data));
}

PersistentConnection::PersistentConnection(Clock& clock, std::unique_ptr<Socket> socket,
                                           const UnaryServices& services, std::shared_ptr<NetworkStats> stats)
    : clock_(clock),
      services_(services),
      state_(std::make_shared<State>(std::move(socket), std::move(stats))) {}

PersistentConnection::~PersistentConnection() { close(); }

void PersistentConnection::close() {
  state_->end(Error{ErrorCode::Unavailable, "the connection to p2pd was closed"});
}

asio::awaitable<Error> PersistentConnection::run() {
  using namespace asio::experimental::awaitable_operators;
  const auto state = state_;
  auto first = co_await (read() || write());
  const Error why = first.index() == 0 ? std::get<0>(std::move(first)) : std::get<1>(std::move(first));
  state->end(Error{ErrorCode::Unavailable, "the connection to p2pd was lost: " + why.message});
  co_return why;
}

asio::awaitable<Error> PersistentConnection::read() {
  const auto state = state_;
  wire::DelimitedReader reader(kMessageBytesMax);
  Bytes buffer(256 * 1024, '\0');
  for (;;) {
    const auto [error, count] = co_await state->socket->async_read_some(asio::buffer(buffer), use_result);
    if (error) co_return Error{ErrorCode::Unavailable, error.message()};
    reader.feed(std::string_view(buffer).substr(0, count));
    for (;;) {
      auto bytes = reader.next();
      if (bytes && !bytes->has_value()) break;
      auto message = bytes ? parse_daemon_message(**bytes) : Result<DaemonMessage>(bytes.error());
      if (message) {
        handle(std::move(*message));
        continue;
      }
      ++state->stats->dropped_frames;
      if (state->limited.first(message.error().message)) {
        log::warn("p2p: dropped a message from p2pd: {}", message.error().message);
      }
      if (message.error().code == ErrorCode::Invalid) co_return message.error();
    }
  }
}

asio::awaitable<Error> PersistentConnection::write() {
  const auto state = state_;
  for (;;) {
    while (state->unsent.empty()) {
      if (state->ended) co_return Error{ErrorCode::Cancelled, "closed"};
      co_await state->changed.wait();
    }
    const Bytes sending = std::exchange(state->unsent, {});
    state->changed.notify_all();  // there is room again
    const auto [error, count] = co_await asio::async_write(*state->socket, asio::buffer(sending), use_result);
    if (error) co_return Error{ErrorCode::Unavailable, error.message()};
  }
}

void PersistentConnection::handle(DaemonMessage message) {
  State& state = *state_;
  switch (message.kind) {
    case DaemonMessage::Kind::Acknowledgement:
      return state.answer(message.call_id, Bytes());
    case DaemonMessage::Kind::Reply:
      state.stats->bytes_in += message.data.size();
      return state.answer(message.call_id, std::move(message.data));
    case DaemonMessage::Kind::ReplyError:
      return state.answer(message.call_id, Error{ErrorCode::Refused, message.data.substr(0, kErrorTextMax)});
    case DaemonMessage::Kind::DaemonError:
      return state.answer(message.call_id, error_from_daemon(message.data));
    case DaemonMessage::Kind::Request:
      return start_handler(std::move(message));
    case DaemonMessage::Kind::Cancel: {
      const auto found = state.handlings.find(message.call_id);
      if (found == state.handlings.end()) return;
      const auto handling = found->second;
      state.handlings.erase(found);
      if (const auto service = handling.service.lock()) service->tasks.cancel(handling.task);
      return;
    }
  }
}

void PersistentConnection::start_handler(DaemonMessage message) {
  State& state = *state_;
  ++state.stats->requests;
  state.stats->bytes_in += message.data.size();
  const auto service = services_.find(message.handle);
  if (service == services_.end()) {
    return state.reply(message.call_id,
                       Error{ErrorCode::NotFound, message.handle + " is not served any more"});
  }
  if (state.handlings.contains(message.call_id)) {  // a copy: p2pd could not tell the two answers apart
    ++state.stats->dropped_frames;
    return;
  }
  if (state.handlings.size() >= kRequestsMax || state.unsent.size() > kUnsentBytesMax) {
    return state.reply(message.call_id, Error{ErrorCode::Unavailable, "too many calls at once"});
  }
  const Bytes id = message.call_id;
  state.handlings.emplace(id, State::Handling{service->second, 0});
  const auto task =
      service->second->tasks.spawn(service->first, State::serve(state_, service->second, std::move(message)));
  const auto found = state.handlings.find(id);  // unless the handler has ended already
  if (found != state.handlings.end()) found->second.task = task;
}

asio::awaitable<Result<Bytes>> PersistentConnection::call(PeerId peer, std::string handle, Bytes request,
                                                          Clock::TimePoint deadline) {
  const std::size_t size = unary_request_bytes(peer, handle, request.size());
  if (size > kUnaryMessageBytesMax) {
    co_return Error{ErrorCode::Invalid, fmt::format("a request of {} bytes is above the limit of {}",
                                                    request.size(), kUnaryMessageBytesMax)};
  }
  ++state_->stats->calls;
  state_->stats->bytes_out += request.size();
  ToDaemon message;
  message.set_call_id(new_call_id());
  message.mutable_call_unary()->set_peer(peer.bytes());
  message.mutable_call_unary()->set_proto(std::move(handle));
  message.mutable_call_unary()->set_data(std::move(request));
  co_return co_await with_deadline(clock_, deadline, State::exchange(state_, std::move(message)));
}

asio::awaitable<Result<void>> PersistentConnection::add_handler(std::string handle,
                                                                Clock::TimePoint deadline) {
  ToDaemon message;
  message.set_call_id(new_call_id());
  message.mutable_add_unary_handler()->set_proto(std::move(handle));
  message.mutable_add_unary_handler()->set_balanced(false);
  const auto done = co_await with_deadline(clock_, deadline, State::exchange(state_, std::move(message)));
  if (!done) co_return done.error();
  co_return Result<void>();
}

asio::awaitable<Result<void>> PersistentConnection::remove_handler(std::string handle,
                                                                   Clock::TimePoint deadline) {
  ToDaemon message;
  message.set_call_id(new_call_id());
  message.mutable_remove_unary_handler()->set_proto(std::move(handle));
  const auto done = co_await with_deadline(clock_, deadline, State::exchange(state_, std::move(message)));
  if (!done) co_return done.error();
  co_return Result<void>();
}

}  // namespace hivemetal::p2p
