#include "node/worker_socket.h"

#include <fstream>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/write.hpp>

#include "node/testing.h"

namespace hivemetal::node {
namespace {

using nlohmann::json;
using Socket = asio::local::stream_protocol::socket;

class WorkerSocketTest : public testing::Test {
 protected:
  void TearDown() override { run_until(loop_, sockets_.stop()); }

  Socket connect(const runner::AttemptId& attempt) {
    Socket socket(loop_);
    socket.connect(asio::local::stream_protocol::endpoint(sockets_.path_of(attempt).string()));
    return socket;
  }

  // Sends the bytes, closes, and lets the server take them.
  void send(Socket socket, const std::string& bytes) {
    std::string_view left = bytes;
    socket.non_blocking(true);
    while (!left.empty()) {
      boost::system::error_code error;
      const auto n = socket.write_some(asio::buffer(left), error);
      left.remove_prefix(n);
      if (error) loop_.run_one();
    }
    socket.close();
    settle();
  }

  void settle() {
    loop_.restart();
    while (loop_.run_for(std::chrono::milliseconds(20)) > 0) {
    }
  }

  TemporaryFolder folder_;
  asio::io_context loop_;
  SystemClock clock_;
  identity::PrivateKey key_ = identity::PrivateKey::from_seed(std::string(32, 'k')).value();
  std::vector<std::pair<std::string, json>> events_;
  WorkerSockets sockets_{loop_.get_executor(), clock_, folder_.path() / "s", key_,
                         [this](const runner::AttemptId& attempt, json event) {
                           events_.emplace_back(attempt, std::move(event));
                         }};
};

TEST_F(WorkerSocketTest, ForwardsOneEventPerLine) {
  ASSERT_TRUE(sockets_.open("run.0.1"));
  send(connect("run.0.1"),
       "{\"event\":\"metrics\",\"epoch\":3,\"loss\":0.5}\n\n{\"event\":\"note\",\"text\":\"hello\"}\n");
  ASSERT_EQ(events_.size(), 2u);
  EXPECT_EQ(events_[0].first, "run.0.1");
  EXPECT_EQ(events_[0].second["loss"], 0.5);
  EXPECT_EQ(events_[1].second["text"], "hello");
}

TEST_F(WorkerSocketTest, DropsWhatIsNoEventAndKeepsTheRest) {
  ASSERT_TRUE(sockets_.open("run.0.1"));
  send(connect("run.0.1"),
       "nonsense\n[1]\n{\"no\":1}\n{\"event\":7}\n{\"event\":\"x\",\"a\":" + std::string(50, '[') +
           std::string(50, ']') + "}\n" + std::string(70'000, 'y') +
           "\n{\"event\":\"note\"}\n{\"event\":\"unfinished\"}");
  ASSERT_EQ(events_.size(), 1u);
  EXPECT_EQ(events_[0].second["event"], "note");
  EXPECT_EQ(sockets_.dropped(), 6u);
}

TEST_F(WorkerSocketTest, LimitsLinesPerSecond) {
  ASSERT_TRUE(sockets_.open("run.0.1"));
  std::string flood;
  for (int i = 0; i < 2000; ++i) flood += "{\"event\":\"note\"}\n";
  send(connect("run.0.1"), flood);
  EXPECT_GE(events_.size(), 400u);
  EXPECT_LT(events_.size(), 1000u);
  EXPECT_EQ(events_.size() + sockets_.dropped(), 2000u);
}

TEST_F(WorkerSocketTest, HasThePlaceThatARestartedDaemonHas) {
  const WorkerSockets other(loop_.get_executor(), clock_, folder_.path() / "s", key_, nullptr);
  EXPECT_EQ(sockets_.path_of("run.0.1"), other.path_of("run.0.1"));
  EXPECT_NE(sockets_.path_of("run.0.1"), sockets_.path_of("run.0.2"));
}

TEST_F(WorkerSocketTest, RemovesTheSocketsThatNobodyNeeds) {
  ASSERT_TRUE(sockets_.open("run.0.1"));
  std::ofstream(folder_.path() / "s/left").put('x');
  sockets_.remove_others();
  EXPECT_FALSE(std::filesystem::exists(folder_.path() / "s/left"));
  EXPECT_TRUE(std::filesystem::exists(sockets_.path_of("run.0.1")));
}

TEST_F(WorkerSocketTest, ReadsWhatWasSentBeforeTheEnd) {
  ASSERT_TRUE(sockets_.open("run.0.1"));
  Socket socket = connect("run.0.1");
  settle();
  asio::write(socket, asio::buffer(std::string_view("{\"event\":\"note\"}\n")));
  sockets_.close("run.0.1");
  send(std::move(socket), "");
  EXPECT_EQ(events_.size(), 1u);
  EXPECT_FALSE(std::filesystem::exists(sockets_.path_of("run.0.1")));
}

TEST(LineBudget, RefillsWithTime) {
  LineBudget budget(10, 2);
  const Clock::TimePoint start{std::chrono::seconds(1)};
  EXPECT_TRUE(budget.take(start));
  EXPECT_TRUE(budget.take(start));
  EXPECT_FALSE(budget.take(start));
  EXPECT_TRUE(budget.take(start + std::chrono::milliseconds(100)));
  EXPECT_FALSE(budget.take(start + std::chrono::milliseconds(100)));
}

}  // namespace
}  // namespace hivemetal::node
