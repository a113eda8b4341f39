// hivemetal-p2p-probe: one libp2p node for tests and for looking at a connection.
//
//     hivemetal-p2p-probe [ADDRESS]
//
// Connects to ADDRESS, echoes `Probe.echo` (unary) and `Probe.stream`, prints its own address, and then obeys
// lines of standard input until its end:  call HANDLE TEXT | stream PROTOCOL TEXT,  both to the peer of
// ADDRESS. `call` prints the reply, `stream` what came back for TEXT; an error is printed as `error: …`.
#include <array>
#include <iostream>
#include <optional>
#include <sstream>
#include <string>
#include <unistd.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/read_until.hpp>

#include "base/deadline.h"
#include "base/log.h"
#include "p2p/daemon_network.h"

namespace hivemetal {
namespace {

using namespace std::chrono_literals;

asio::awaitable<Result<Bytes>> echo(p2p::PeerId, Bytes request) { co_return request; }

asio::awaitable<void> echo_stream(std::unique_ptr<p2p::Stream> stream) {
  std::array<char, 65536> buffer;
  for (;;) {
    const auto count = co_await stream->read_some(buffer);
    if (!count || *count == 0) co_return;
    if (!co_await stream->write(std::string_view(buffer.data(), *count))) co_return;
  }
}

asio::awaitable<Result<Bytes>> send_and_receive(p2p::Network& network, p2p::PeerId peer, std::string protocol,
                                                std::string text, Clock::TimePoint deadline) {
  const auto stream = co_await network.open_stream(peer, protocol, deadline);
  if (!stream) co_return stream.error();
  const auto written = co_await (*stream)->write(text);
  if (!written) co_return written.error();
  co_return co_await p2p::read_exactly(**stream, text.size());
}

asio::awaitable<Result<Bytes>> obey(p2p::Network& network, Clock& clock, std::optional<p2p::PeerId> peer,
                                    std::string line) {
  std::istringstream words(line);
  std::string verb;
  std::string name;
  std::string text;
  words >> verb >> name >> text;
  const auto deadline = clock.now() + 20s;
  if (!peer) co_return Error{ErrorCode::Invalid, "no address was given"};
  if (verb == "call") co_return co_await network.call(*peer, name, text, deadline);
  if (verb != "stream") co_return Error{ErrorCode::Invalid, "commands are call and stream, not " + verb};
  co_return co_await with_deadline(clock, deadline, send_and_receive(network, *peer, name, text, deadline));
}

asio::awaitable<Result<void>> set_up(p2p::DaemonNetwork& network, Clock& clock,
                                     std::optional<p2p::Multiaddr> address) {
  const auto started = co_await network.start(clock.now() + 30s);
  if (!started) co_return started;
  const auto unary = co_await network.serve("Probe.echo", echo);
  if (!unary) co_return unary;
  const auto stream = co_await network.serve_stream("Probe.stream", echo_stream);
  if (!stream) co_return stream;
  if (address) co_return co_await network.connect(*address, clock.now() + 20s);
  co_return Result<void>();
}

asio::awaitable<void> run(std::optional<p2p::Multiaddr> address, int& status) {
  const auto executor = co_await asio::this_coro::executor;
  SystemClock clock;
  p2p::DaemonNetwork network(executor, clock, {});
  const auto ready = co_await set_up(network, clock, address);
  if (!ready) {
    std::cerr << ready.error().message << '\n';
    status = 1;
    co_return co_await network.stop();
  }
  std::cout << network.addresses().at(0).text() << std::endl;
  asio::posix::stream_descriptor input(executor, ::dup(0));
  std::string buffer;
  for (;;) {
    const auto [error, count] =
        co_await asio::async_read_until(input, asio::dynamic_buffer(buffer, 1 << 20), '\n', use_result);
    if (error) break;
    const auto peer = address ? address->peer() : std::nullopt;
    const auto reply = co_await obey(network, clock, peer, buffer.substr(0, count - 1));
    buffer.erase(0, count);
    std::cout << (reply ? *reply : "error: " + reply.error().message) << std::endl;
  }
  co_await network.stop();
}

}  // namespace
}  // namespace hivemetal

int main(int argc, char** argv) {
  using namespace hivemetal;
  log::start("warn");
  std::optional<p2p::Multiaddr> address;
  if (argc > 1) {
    auto parsed = p2p::Multiaddr::parse(argv[1]);
    if (!parsed) {
      std::cerr << parsed.error().message << '\n';
      return 2;
    }
    address = std::move(*parsed);
  }
  asio::io_context loop;
  int status = 0;
  asio::co_spawn(loop, run(address, status), [](std::exception_ptr exception) {
    if (exception) std::rethrow_exception(exception);
  });
  loop.run();
  return status;
}
