// Two nodes with their own p2pd on loopback: what a unary call and a stream through both daemons cost.
#include <array>
#include <benchmark/benchmark.h>
#include <exception>
#include <memory>
#include <optional>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>

#include "base/check.h"
#include "p2p/daemon_network.h"

namespace hivemetal::p2p {
namespace {

using namespace std::chrono_literals;

asio::awaitable<Result<Bytes>> echo(PeerId, Bytes request) { co_return request; }

asio::awaitable<void> discard(std::unique_ptr<Stream> stream) {
  Bytes buffer(1 << 20, '\0');
  std::size_t unacknowledged = 0;
  for (;;) {
    const auto count = co_await stream->read_some(buffer);
    if (!count || *count == 0) co_return;
    unacknowledged += *count;
    for (; unacknowledged >= (64U << 20); unacknowledged -= 64U << 20) {
      if (!co_await stream->write("k")) co_return;
    }
  }
}

asio::awaitable<void> send_64_mebibytes(Stream& stream, const Bytes& piece) {
  for (int i = 0; i < 64; ++i) HIVEMETAL_CHECK(co_await stream.write(piece));
  HIVEMETAL_CHECK(co_await read_exactly(stream, 1));
}

asio::awaitable<void> call_once(Network& network, PeerId peer, Bytes request, Clock::TimePoint deadline) {
  HIVEMETAL_CHECK(co_await network.call(std::move(peer), "Bench.echo", std::move(request), deadline));
}

class Nodes {
 public:
  Nodes() : a_(loop_.get_executor(), clock_, {}), b_(loop_.get_executor(), clock_, {}) {
    HIVEMETAL_CHECK(run(a_.start(clock_.now() + 20s)));
    HIVEMETAL_CHECK(run(b_.start(clock_.now() + 20s)));
    HIVEMETAL_CHECK(run(b_.serve("Bench.echo", echo)));
    HIVEMETAL_CHECK(run(b_.serve_stream("Bench.discard", discard)));
    HIVEMETAL_CHECK(run(a_.connect(b_.addresses().at(0), clock_.now() + 20s)));
  }
  ~Nodes() {
    stop(a_);
    stop(b_);
  }

  template <class T>
  T run(asio::awaitable<T> work) {
    std::optional<T> result;
    asio::co_spawn(loop_, std::move(work), [&result](std::exception_ptr exception, T value) {
      HIVEMETAL_CHECK(!exception);
      result.emplace(std::move(value));
    });
    while (!result) step();
    return std::move(*result);
  }

  void run_all(std::vector<asio::awaitable<void>> works) {
    std::size_t left = works.size();
    for (auto& work : works) {
      asio::co_spawn(loop_, std::move(work), [&left](std::exception_ptr exception) {
        HIVEMETAL_CHECK(!exception);
        --left;
      });
    }
    while (left > 0) step();
  }

  asio::awaitable<void> call(std::size_t size) {
    return call_once(a_, b_.self(), Bytes(size, 'x'), clock_.now() + 20s);
  }
  std::unique_ptr<Stream> open() {
    return std::move(run(a_.open_stream(b_.self(), "Bench.discard", clock_.now() + 20s)).value());
  }

 private:
  void stop(DaemonNetwork& network) {
    std::vector<asio::awaitable<void>> works;
    works.push_back(network.stop());
    run_all(std::move(works));
  }
  void step() {
    loop_.restart();
    loop_.run_one();
  }

  asio::io_context loop_;
  SystemClock clock_;
  DaemonNetwork a_;
  DaemonNetwork b_;
};

void unary_round_trip(benchmark::State& state) {
  Nodes nodes;
  for (auto _ : state) {
    std::vector<asio::awaitable<void>> works;
    for (int i = 0; i < state.range(1); ++i)
      works.push_back(nodes.call(static_cast<std::size_t>(state.range(0))));
    nodes.run_all(std::move(works));
  }
  state.SetItemsProcessed(state.iterations() * state.range(1));
}
BENCHMARK(unary_round_trip)
    ->ArgNames({"bytes", "in_flight"})
    ->Args({100, 1})
    ->Args({100, 64})
    ->Args({1 << 20, 1})
    ->Unit(benchmark::kMicrosecond)
    ->UseRealTime();

void stream_64_mebibytes(benchmark::State& state) {
  Nodes nodes;
  const auto stream = nodes.open();
  const Bytes piece(1 << 20, 'x');
  for (auto _ : state) {
    std::vector<asio::awaitable<void>> works;
    works.push_back(send_64_mebibytes(*stream, piece));
    nodes.run_all(std::move(works));
  }
  state.SetBytesProcessed(state.iterations() * (64 << 20));
}
BENCHMARK(stream_64_mebibytes)->Unit(benchmark::kMillisecond)->UseRealTime();

}  // namespace
}  // namespace hivemetal::p2p
