// What network.h promises, proved on both implementations: the simulation and two real p2pd on loopback.
#include <cstring>
#include <gtest/gtest.h>
#include <string>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>

#include "base/deadline.h"
#include "base/task_group.h"
#include "p2p/network.h"
#include "p2p/network_worlds_test.h"

namespace hivemetal::p2p {
namespace {

using namespace std::chrono_literals;

template <class World>
class NetworkContract : public testing::Test {
 protected:
  NetworkContract() { EXPECT_TRUE(run(a().connect(b().addresses().at(0), in(20s)))); }

  Network& a() { return world_.network(0); }
  Network& b() { return world_.network(1); }
  Clock& clock() { return world_.clock(); }
  Clock::TimePoint in(Clock::Duration duration) { return clock().now() + duration; }

  template <class T>
  T run(asio::awaitable<T> work) {
    return world_.run(std::move(work));
  }

  Result<Bytes> call(std::string handle, Bytes request, Clock::Duration limit = 20s) {
    return run(a().call(b().self(), std::move(handle), std::move(request), in(limit)));
  }

  World world_;
};

using Worlds = testing::Types<SimWorld, DaemonWorld>;
TYPED_TEST_SUITE(NetworkContract, Worlds);

// Handlers.

asio::awaitable<Result<Bytes>> echo(PeerId, Bytes request) { co_return request; }

asio::awaitable<Result<Bytes>> name_caller(PeerId peer, Bytes) { co_return peer.base58(); }

asio::awaitable<Result<Bytes>> refuse(PeerId, Bytes) {
  co_return Error{ErrorCode::Invalid, "AssertionError: 3 is no even number"};
}

asio::awaitable<Result<Bytes>> reply_with_too_much(PeerId, Bytes) {
  co_return Bytes(kUnaryMessageBytesMax, 'x');
}

// Runs for an hour and counts those that began and those that ended.
struct Sleepers {
  Clock& clock;
  int began = 0;
  int ended = 0;
};

struct Ended {
  Sleepers& sleepers;
  ~Ended() { ++sleepers.ended; }
};

asio::awaitable<Result<Bytes>> sleep_an_hour(Sleepers& sleepers) {
  ++sleepers.began;
  const Ended ended{sleepers};
  co_await sleepers.clock.sleep_for(1h);
  co_return Bytes();
}

UnaryHandler sleeper(Sleepers& sleepers) {
  return [&sleepers](PeerId, Bytes) { return sleep_an_hour(sleepers); };
}

asio::awaitable<Result<void>> wait_until(Clock& clock, const int& value, int wanted) {
  while (value < wanted) co_await clock.sleep_for(1ms);
  co_return Result<void>();
}

// Unary calls.

TYPED_TEST(NetworkContract, ReturnsWhatTheHandlerReplied) {
  ASSERT_TRUE(this->run(this->b().serve("Test.echo", echo)));
  EXPECT_EQ(this->call("Test.echo", "hello").value(), "hello");
}

TYPED_TEST(NetworkContract, TakesAnEmptyReplyForAReply) {
  ASSERT_TRUE(this->run(this->b().serve("Test.echo", echo)));
  EXPECT_EQ(this->call("Test.echo", "").value(), "");
}

TYPED_TEST(NetworkContract, TellsTheHandlerWhoCalls) {
  ASSERT_TRUE(this->run(this->b().serve("Test.who", name_caller)));
  EXPECT_EQ(this->call("Test.who", "").value(), this->a().self().base58());
}

TYPED_TEST(NetworkContract, SaysNotFoundForAHandleThatNobodyServes) {
  const auto reply = this->call("Test.nothing", "");
  ASSERT_FALSE(reply);
  EXPECT_EQ(reply.error().code, ErrorCode::NotFound) << reply.error().message;
}

TYPED_TEST(NetworkContract, PassesTheTextOfAHandlersErrorOn) {
  ASSERT_TRUE(this->run(this->b().serve("Test.refuse", refuse)));
  const auto reply = this->call("Test.refuse", "");
  ASSERT_FALSE(reply);
  EXPECT_EQ(reply.error().code, ErrorCode::Refused);
  EXPECT_NE(reply.error().message.find("3 is no even number"), std::string::npos) << reply.error().message;
}

TYPED_TEST(NetworkContract, SaysUnavailableForAPeerThatNobodyKnows) {
  const auto reply = this->run(this->a().call(this->world_.stranger(), "Test.echo", "", this->in(20s)));
  ASSERT_FALSE(reply);
  EXPECT_EQ(reply.error().code, ErrorCode::Unavailable) << reply.error().message;
}

TYPED_TEST(NetworkContract, SaysUnavailableForACallOfItself) {
  ASSERT_TRUE(this->run(this->a().serve("Test.echo", echo)));
  const auto reply = this->run(this->a().call(this->a().self(), "Test.echo", "", this->in(20s)));
  ASSERT_FALSE(reply);
  EXPECT_EQ(reply.error().code, ErrorCode::Unavailable) << reply.error().message;
}

TYPED_TEST(NetworkContract, CarriesTheLargestMessageAndRefusesOneByteMore) {
  ASSERT_TRUE(this->run(this->b().serve("Test.echo", echo)));
  std::size_t size = kUnaryMessageBytesMax;
  while (unary_request_bytes(this->b().self(), "Test.echo", size) > kUnaryMessageBytesMax) --size;
  const Bytes largest(size, 'x');
  const auto reply = this->call("Test.echo", largest);
  ASSERT_TRUE(reply) << reply.error().message;
  EXPECT_TRUE(*reply == largest);
  const auto refused = this->call("Test.echo", largest + 'x');
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::Invalid);
  EXPECT_EQ(this->call("Test.echo", "still there").value(), "still there");
}

TYPED_TEST(NetworkContract, TurnsAReplyThatIsTooLargeIntoAnError) {
  ASSERT_TRUE(this->run(this->b().serve("Test.much", reply_with_too_much)));
  const auto reply = this->call("Test.much", "");
  ASSERT_FALSE(reply);
  EXPECT_EQ(reply.error().code, ErrorCode::Refused) << reply.error().message;
}

TYPED_TEST(NetworkContract, EndsACallAtItsDeadlineAndCancelsTheHandler) {
  Sleepers sleepers{this->clock()};
  ASSERT_TRUE(this->run(this->b().serve("Test.sleep", sleeper(sleepers))));
  const auto reply = this->call("Test.sleep", "", 300ms);
  ASSERT_FALSE(reply);
  EXPECT_EQ(reply.error().code, ErrorCode::TimedOut);
  EXPECT_TRUE(
      this->run(with_deadline(this->clock(), this->in(20s), wait_until(this->clock(), sleepers.ended, 1))));
  EXPECT_EQ(sleepers.began, 1);
}

asio::awaitable<void> ignore(asio::awaitable<Result<Bytes>> call) { (void)co_await std::move(call); }

TYPED_TEST(NetworkContract, CancelsTheHandlerWhenTheCallerIsCancelled) {
  Sleepers sleepers{this->clock()};
  ASSERT_TRUE(this->run(this->b().serve("Test.sleep", sleeper(sleepers))));
  TaskGroup tasks(this->world_.executor());
  tasks.spawn("caller", ignore(this->a().call(this->b().self(), "Test.sleep", "", this->in(1h))));
  ASSERT_TRUE(
      this->run(with_deadline(this->clock(), this->in(20s), wait_until(this->clock(), sleepers.began, 1))));
  this->run(tasks.close());
  EXPECT_TRUE(
      this->run(with_deadline(this->clock(), this->in(20s), wait_until(this->clock(), sleepers.ended, 1))));
}

asio::awaitable<void> call_and_count(Network& network, PeerId peer, Bytes request, Clock::TimePoint deadline,
                                     int& right) {
  const auto reply = co_await network.call(peer, "Test.echo", request, deadline);
  if (reply && *reply == request) ++right;
}

TYPED_TEST(NetworkContract, RunsSixtyFourCallsAtOnce) {
  ASSERT_TRUE(this->run(this->b().serve("Test.echo", echo)));
  TaskGroup tasks(this->world_.executor());
  int right = 0;
  for (int i = 0; i < 64; ++i) {
    tasks.spawn("caller", call_and_count(this->a(), this->b().self(), Bytes(10'000, static_cast<char>(i)),
                                         this->in(30s), right));
  }
  EXPECT_TRUE(this->run(with_deadline(this->clock(), this->in(30s), wait_until(this->clock(), right, 64))));
  this->run(tasks.close());
}

TYPED_TEST(NetworkContract, ServesAHandleOnceAndAgainAfterItWasRemoved) {
  ASSERT_TRUE(this->run(this->b().serve("Test.echo", echo)));
  const auto again = this->run(this->b().serve("Test.echo", name_caller));
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().code, ErrorCode::Refused);
  this->run(this->b().stop_serving("Test.echo"));
  EXPECT_FALSE(this->call("Test.echo", "gone"));
  ASSERT_TRUE(this->run(this->b().serve("Test.echo", name_caller)));
  EXPECT_EQ(this->call("Test.echo", "").value(), this->a().self().base58());
}

asio::awaitable<void> stop_when_begun(Network& network, Sleepers& sleepers) {
  (void)co_await wait_until(sleepers.clock, sleepers.began, 1);
  co_await network.stop_serving("Test.sleep");
}

TYPED_TEST(NetworkContract, AnswersACallWhoseHandlerIsRemoved) {
  Sleepers sleepers{this->clock()};
  ASSERT_TRUE(this->run(this->b().serve("Test.sleep", sleeper(sleepers))));
  TaskGroup tasks(this->world_.executor());
  tasks.spawn("stopper", stop_when_begun(this->b(), sleepers));
  const auto reply = this->call("Test.sleep", "");
  ASSERT_FALSE(reply);
  EXPECT_NE(reply.error().code, ErrorCode::TimedOut) << reply.error().message;
  EXPECT_EQ(sleepers.ended, 1);
  this->run(tasks.close());
}

// Streams.

asio::awaitable<void> echo_stream(std::unique_ptr<Stream> stream) {
  std::array<char, 65536> buffer;
  for (;;) {
    const auto count = co_await stream->read_some(buffer);
    if (!count || *count == 0) co_return;
    if (!co_await stream->write(std::string_view(buffer.data(), *count))) co_return;
  }
}

asio::awaitable<void> write_caller_and_close(std::unique_ptr<Stream> stream) {
  (void)co_await stream->write(stream->peer().base58());
  stream->close();
}

asio::awaitable<void> write_all(Stream& stream, std::string_view bytes) {
  (void)co_await stream.write(bytes);
}

asio::awaitable<Result<Bytes>> read_to_end(Stream& stream) {
  Bytes all;
  std::array<char, 4096> buffer;
  for (;;) {
    const auto count = co_await stream.read_some(buffer);
    if (!count) co_return count.error();
    if (*count == 0) co_return all;
    all.append(buffer.data(), *count);
  }
}

TYPED_TEST(NetworkContract, CarriesAStreamsBytesInOrderBothWays) {
  ASSERT_TRUE(this->run(this->b().serve_stream("Test.echo_stream", echo_stream)));
  const auto stream = this->run(this->a().open_stream(this->b().self(), "Test.echo_stream", this->in(20s)));
  ASSERT_TRUE(stream) << stream.error().message;
  Bytes sent(1 << 20, '\0');
  for (std::size_t i = 0; i < sent.size(); ++i) sent[i] = static_cast<char>(i * 2654435761U >> 16);
  TaskGroup tasks(this->world_.executor());
  tasks.spawn("writer", write_all(**stream, sent));
  const auto received =
      this->run(with_deadline(this->clock(), this->in(30s), read_exactly(**stream, sent.size())));
  ASSERT_TRUE(received) << received.error().message;
  EXPECT_TRUE(*received == sent);
  this->run(tasks.close());
}

TYPED_TEST(NetworkContract, DeliversWhatWasWrittenBeforeTheCloseAndThenTheEnd) {
  ASSERT_TRUE(this->run(this->b().serve_stream("Test.who", write_caller_and_close)));
  const auto stream = this->run(this->a().open_stream(this->b().self(), "Test.who", this->in(20s)));
  ASSERT_TRUE(stream) << stream.error().message;
  EXPECT_EQ((*stream)->peer(), this->b().self());
  const auto all = this->run(with_deadline(this->clock(), this->in(20s), read_to_end(**stream)));
  ASSERT_TRUE(all) << all.error().message;
  EXPECT_EQ(*all, this->a().self().base58());
}

struct Readers {
  int began = 0;
  int ended = 0;
};

asio::awaitable<void> read_until_end(std::unique_ptr<Stream> stream, Readers& readers) {
  ++readers.began;
  (void)co_await read_to_end(*stream);
  ++readers.ended;
}

TYPED_TEST(NetworkContract, EndsTheOthersReadingWhenAStreamIsDestroyed) {
  Readers readers;
  const auto handler = [&readers](std::unique_ptr<Stream> stream) {
    return read_until_end(std::move(stream), readers);
  };
  ASSERT_TRUE(this->run(this->b().serve_stream("Test.read", handler)));
  auto stream = this->run(this->a().open_stream(this->b().self(), "Test.read", this->in(20s)));
  ASSERT_TRUE(stream) << stream.error().message;
  ASSERT_TRUE(this->run((*stream)->write("x")));  // the daemon may negotiate only now
  ASSERT_TRUE(
      this->run(with_deadline(this->clock(), this->in(20s), wait_until(this->clock(), readers.began, 1))));
  stream->reset();
  EXPECT_TRUE(
      this->run(with_deadline(this->clock(), this->in(20s), wait_until(this->clock(), readers.ended, 1))));
}

asio::awaitable<void> hold(std::unique_ptr<Stream> stream, Sleepers& sleepers) {
  (void)co_await sleep_an_hour(sleepers);
}

TYPED_TEST(NetworkContract, HoldsAWriterWhoseReaderDoesNotRead) {
  Sleepers sleepers{this->clock()};
  const auto handler = [&sleepers](std::unique_ptr<Stream> stream) {
    return hold(std::move(stream), sleepers);
  };
  ASSERT_TRUE(this->run(this->b().serve_stream("Test.hold", handler)));
  const auto stream = this->run(this->a().open_stream(this->b().self(), "Test.hold", this->in(20s)));
  ASSERT_TRUE(stream) << stream.error().message;
  const Bytes much(64 << 20, 'x');
  const auto written = this->run(with_deadline(this->clock(), this->in(2s), (*stream)->write(much)));
  ASSERT_FALSE(written);
  EXPECT_EQ(written.error().code, ErrorCode::TimedOut);
  this->run(this->b().stop_serving("Test.hold"));
  EXPECT_EQ(sleepers.ended, 1);
}

TYPED_TEST(NetworkContract, OpensNoStreamToAProtocolThatNobodyServes) {
  const auto stream = this->run(this->a().open_stream(this->b().self(), "Test.nothing", this->in(20s)));
  ASSERT_FALSE(stream);
  EXPECT_EQ(stream.error().code, ErrorCode::NotFound) << stream.error().message;
}

// Connections.

TYPED_TEST(NetworkContract, ListsThePeersItIsConnectedTo) {
  const auto peers = this->run(this->a().peers(this->in(20s)));
  ASSERT_TRUE(peers) << peers.error().message;
  ASSERT_EQ(peers->size(), 1U);
  EXPECT_EQ(peers->at(0).peer, this->b().self());
  EXPECT_FALSE(peers->at(0).addresses.empty());
}

TYPED_TEST(NetworkContract, NamesItselfInItsAddresses) {
  for (const Multiaddr& address : this->a().addresses()) EXPECT_EQ(address.peer(), this->a().self());
}

TYPED_TEST(NetworkContract, ConnectsOnlyToAnAddressThatNamesAPeerWhoIsThere) {
  const auto nobody = this->run(this->a().connect(
      this->b().addresses().at(0).without_peer().with_peer(this->world_.stranger()), this->in(20s)));
  ASSERT_FALSE(nobody);
  EXPECT_EQ(nobody.error().code, ErrorCode::Unavailable) << nobody.error().message;
  const auto nameless =
      this->run(this->a().connect(this->b().addresses().at(0).without_peer(), this->in(20s)));
  ASSERT_FALSE(nameless);
  EXPECT_EQ(nameless.error().code, ErrorCode::Invalid);
}

}  // namespace
}  // namespace hivemetal::p2p
