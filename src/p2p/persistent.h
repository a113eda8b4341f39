// The persistent connection to p2pd: all unary calls, ours and our peers', matched by 16-byte call ids.
//
//      we call       callUnary →            ← callUnaryResponse | daemonError
//      we serve      addUnaryHandler →      ← acknowledgement | daemonError
//                    ← requestHandling      unaryResponse →
//      either way    cancel: the caller has gone; the handler ends and answers nothing
//
// p2pd exits when its last persistent connection ends, and closes one that carries a message above its limit.
// Hence sizes are checked here before anything is sent, and every request gets an answer.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "base/task_group.h"
#include "p2p/network.h"
#include "p2p/network_stats.h"
#include "p2p/socket.h"

namespace hivemetal::p2p {

// A message of p2pd, checked.
struct DaemonMessage {
  enum class Kind { Acknowledgement, Reply, ReplyError, DaemonError, Request, Cancel };

  Kind kind = Kind::Acknowledgement;
  Bytes call_id;
  Bytes data;          // of a reply or a request; the text of an error
  PeerId peer;         // who requests
  std::string handle;  // what is requested
};

// Fails with Invalid if the bytes are no message of p2pd; with Refused if they are one, but fields that a
// remote peer may have chosen are wrong: the connection is sound then, and the message is to be dropped.
Result<DaemonMessage> parse_daemon_message(std::string_view bytes);

// A handler and what runs for its callers.
struct UnaryService {
  UnaryService(asio::any_io_executor executor, UnaryHandler handler)
      : handler(std::move(handler)), tasks(std::move(executor)) {}

  UnaryHandler handler;
  TaskGroup tasks;
};

using UnaryServices = std::map<std::string, std::shared_ptr<UnaryService>, std::less<>>;

class PersistentConnection {
 public:
  // `services` outlives the connection; handlers are looked up in it as requests come.
  PersistentConnection(Clock& clock, std::unique_ptr<Socket> socket, const UnaryServices& services,
                       std::shared_ptr<NetworkStats> stats);
  ~PersistentConnection();

  // Carries messages until the connection ends, and returns why. Calls in progress fail with Unavailable
  // then, and handlers in progress are cancelled.
  asio::awaitable<Error> run();

  // Ends the connection: run() returns, calls fail, handlers are cancelled.
  void close();

  // As Network::call.
  asio::awaitable<Result<Bytes>> call(PeerId peer, std::string handle, Bytes request,
                                      Clock::TimePoint deadline);

  // Tells p2pd that `handle` is served here, or no longer.
  asio::awaitable<Result<void>> add_handler(std::string handle, Clock::TimePoint deadline);
  asio::awaitable<Result<void>> remove_handler(std::string handle, Clock::TimePoint deadline);

 private:
  struct State;

  asio::awaitable<Error> read();
  asio::awaitable<Error> write();
  void handle(DaemonMessage message);
  void start_handler(DaemonMessage message);

  Clock& clock_;
  const UnaryServices& services_;
  std::shared_ptr<State> state_;
};

}  // namespace hivemetal::p2p
