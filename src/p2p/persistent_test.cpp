// PersistentConnection against a daemon that the test plays itself.
#include "p2p/persistent.h"

#include <gtest/gtest.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/local/connect_pair.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/write.hpp>

#include "base/random.h"
#include "sim/seed.h"
#include "sim/sim_network.h"
#include "wire/framing.h"
#include "wire/p2pd.pb.h"
#include "wire/protobuf.h"

namespace hivemetal::p2p {
namespace {

using namespace std::chrono_literals;
using wire::p2pd::PersistentConnectionRequest;
using wire::p2pd::PersistentConnectionResponse;

asio::awaitable<Result<Bytes>> echo(PeerId, Bytes request) { co_return request; }

asio::awaitable<void> keep_end(PersistentConnection& connection, std::optional<Error>& end) {
  end = co_await connection.run();
}

asio::awaitable<void> keep_result(PersistentConnection& connection, Clock::TimePoint deadline,
                                  std::optional<Result<Bytes>>& result) {
  result = co_await connection.call(sim::sim_peer_id(1), "Test.echo", "hello", deadline);
}

class PersistentTest : public testing::Test {
 protected:
  PersistentTest() {
    auto ours = std::make_unique<Socket>(loop_);
    asio::local::connect_pair(*ours, daemon_);
    daemon_.non_blocking(true);
    connection_ = std::make_unique<PersistentConnection>(clock_, std::move(ours), services_, stats_);
    asio::co_spawn(loop_, keep_end(*connection_, end_), asio::detached);
    spin();
  }
  ~PersistentTest() override {
    connection_->close();
    spin();
  }

  void spin() {
    loop_.restart();
    while (loop_.poll() > 0) {
    }
  }

  void send_raw(const Bytes& bytes) {
    asio::async_write(daemon_, asio::buffer(bytes), asio::detached);
    spin();
  }
  void send(const PersistentConnectionResponse& message) {
    Bytes framed;
    wire::append_delimited(framed, message.SerializeAsString());
    send_raw(framed);
  }

  // The next message that reached the daemon.
  std::optional<PersistentConnectionRequest> received() {
    spin();
    std::array<char, 65536> buffer;
    boost::system::error_code error;
    const std::size_t count = daemon_.read_some(asio::buffer(buffer), error);
    reader_.feed(std::string_view(buffer.data(), count));
    const auto bytes = reader_.next();
    if (!bytes || !bytes->has_value()) return std::nullopt;
    return wire::parse_message<PersistentConnectionRequest>(**bytes).value();
  }

  static PersistentConnectionResponse request(const Bytes& call_id) {
    PersistentConnectionResponse message;
    message.set_call_id(call_id);
    message.mutable_request_handling()->set_peer(sim::sim_peer_id(2).bytes());
    message.mutable_request_handling()->set_proto("Test.echo");
    message.mutable_request_handling()->set_data("hello");
    return message;
  }

  asio::io_context loop_;
  SystemClock clock_;
  Socket daemon_{loop_};
  UnaryServices services_;
  std::shared_ptr<NetworkStats> stats_ = std::make_shared<NetworkStats>();
  std::unique_ptr<PersistentConnection> connection_;
  std::optional<Error> end_;
  wire::DelimitedReader reader_{1 << 20};
};

TEST_F(PersistentTest, AnswersARequestForAHandleThatIsNotServedAnyMore) {
  send(request(Bytes(16, 'i')));
  const auto answer = received();
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->call_id(), Bytes(16, 'i'));
  EXPECT_TRUE(answer->unary_response().has_error());
}

TEST_F(PersistentTest, SetsTheFieldOfAnEmptyReply) {
  services_.emplace("Test.echo", std::make_shared<UnaryService>(loop_.get_executor(), echo));
  auto message = request(Bytes(16, 'i'));
  message.mutable_request_handling()->set_data("");
  send(message);
  const auto answer = received();
  ASSERT_TRUE(answer);
  EXPECT_TRUE(answer->unary_response().has_response());
}

TEST_F(PersistentTest, DropsAMessageWhoseFieldsAPeerMadeUpAndGoesOn) {
  services_.emplace("Test.echo", std::make_shared<UnaryService>(loop_.get_executor(), echo));
  send(request("short"));
  auto strange = request(Bytes(16, 'i'));
  strange.mutable_request_handling()->set_peer("no peer");
  send(strange);
  EXPECT_FALSE(received());
  EXPECT_EQ(stats_->dropped_frames, 2U);
  send(request(Bytes(16, 'j')));
  const auto answer = received();
  ASSERT_TRUE(answer);
  EXPECT_EQ(answer->unary_response().response(), "hello");
}

TEST_F(PersistentTest, EndsAtAMessageAboveTheLimitAndFailsTheCallsInProgress) {
  std::optional<Result<Bytes>> result;
  asio::co_spawn(loop_, keep_result(*connection_, clock_.now() + 1h, result), asio::detached);
  ASSERT_TRUE(received());
  send_raw(Bytes("\xff\xff\xff\xff\x0f", 5));
  ASSERT_TRUE(end_);
  EXPECT_EQ(end_->code, ErrorCode::Invalid);
  ASSERT_TRUE(result);
  EXPECT_EQ(result->error().code, ErrorCode::Unavailable);
  EXPECT_EQ(stats_->dropped_frames, 1U);
}

TEST_F(PersistentTest, TellsTheDaemonThatACallWasGivenUpAndIgnoresItsLateAnswer) {
  std::optional<Result<Bytes>> result;
  asio::co_spawn(loop_, keep_result(*connection_, clock_.now() + 1ms, result), asio::detached);
  const auto call = received();
  ASSERT_TRUE(call);
  while (!result) {
    loop_.restart();
    loop_.run_one();
  }
  EXPECT_EQ(result->error().code, ErrorCode::TimedOut);
  const auto cancel = received();
  ASSERT_TRUE(cancel);
  EXPECT_TRUE(cancel->has_cancel());
  EXPECT_EQ(cancel->call_id(), call->call_id());
  PersistentConnectionResponse late;
  late.set_call_id(call->call_id());
  late.mutable_call_unary_response()->set_response("late");
  send(late);
  EXPECT_FALSE(end_);
}

TEST_F(PersistentTest, MapsTheDaemonsErrors) {
  const std::pair<const char*, ErrorCode> cases[] = {
      {"failed to negotiate protocol: protocols not supported: [Test.echo]", ErrorCode::NotFound},
      {"failed to dial: all dials failed", ErrorCode::Unavailable},
  };
  for (const auto& [text, code] : cases) {
    std::optional<Result<Bytes>> result;
    asio::co_spawn(loop_, keep_result(*connection_, clock_.now() + 1h, result), asio::detached);
    const auto call = received();
    ASSERT_TRUE(call);
    PersistentConnectionResponse answer;
    answer.set_call_id(call->call_id());
    answer.mutable_daemon_error()->set_message(text);
    send(answer);
    ASSERT_TRUE(result);
    EXPECT_EQ(result->error().code, code);
  }
}

TEST_F(PersistentTest, SurvivesRandomBytes) {
  const auto seed = sim::test_seed();
  SCOPED_TRACE(sim::repeat_with(seed));
  Random random(seed);
  while (!end_) send_raw(random_bytes(random, 64));
  EXPECT_GE(stats_->dropped_frames, 1U);
}

}  // namespace
}  // namespace hivemetal::p2p
