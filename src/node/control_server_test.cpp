#include "node/control_server.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <thread>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/write.hpp>

#include "node/client.h"
#include "node/directory.h"
#include "node/testing.h"

namespace hivemetal::node {
namespace {

using nlohmann::json;
using testing::HasSubstr;

asio::awaitable<Result<json>> echo(Request request) {
  co_return json{{"id", request.parameter("id")}, {"q", request.parameter("q")}, {"body", request.body}};
}

asio::awaitable<Result<json>> refuse(Request) { co_return Error{ErrorCode::Refused, "the owner said no"}; }

asio::awaitable<Result<void>> count(Request, EventStream& stream) {
  for (int i = 0; i < 3; ++i) {
    if (const auto sent = co_await stream.send("number", {{"i", i}}); !sent) co_return sent;
  }
  co_return co_await stream.send("end", json::object());
}

asio::awaitable<Result<void>> fail_at_once(Request, EventStream&) {
  co_return Error{ErrorCode::NotFound, "no run 7"};
}

asio::awaitable<Result<void>> fail_later(Request, EventStream& stream) {
  (void)co_await stream.send("number", {{"i", 0}});
  co_return Error{ErrorCode::TimedOut, "too slow"};
}

// A server on a thread of its own, because the client blocks.
class ControlServerTest : public testing::Test {
 protected:
  void SetUp() override {
    routes_.push_back({"GET", "/v1/things/{id}", echo, nullptr});
    routes_.push_back({"POST", "/v1/things", echo, nullptr});
    routes_.push_back({"GET", "/v1/refused", refuse, nullptr});
    routes_.push_back({"GET", "/v1/count", nullptr, count});
    routes_.push_back({"GET", "/v1/missing", nullptr, fail_at_once});
    routes_.push_back({"GET", "/v1/broken", nullptr, fail_later});
    server_.emplace(loop_.get_executor(), clock_, routes_);
    ASSERT_TRUE(server_->start(control_socket_of(folder_.path())));
    thread_ = std::thread([this] { loop_.run(); });
  }

  void TearDown() override {
    asio::co_spawn(loop_, server_->stop(), asio::detached);
    thread_.join();
    EXPECT_FALSE(std::filesystem::exists(control_socket_of(folder_.path())));
  }

  // What the server says to these raw bytes.
  std::string answer_to(const std::string& bytes) {
    asio::io_context loop;
    asio::local::stream_protocol::socket socket(loop);
    socket.connect(asio::local::stream_protocol::endpoint(control_socket_of(folder_.path()).string()));
    boost::system::error_code error;
    asio::write(socket, asio::buffer(bytes), error);
    socket.shutdown(asio::local::stream_protocol::socket::shutdown_send, error);
    std::string answer;
    asio::read(socket, asio::dynamic_buffer(answer), error);
    return answer;
  }

  TemporaryFolder folder_;
  SystemClock clock_;
  asio::io_context loop_;
  std::vector<Route> routes_;
  std::optional<ControlServer> server_;
  std::thread thread_;
};

TEST_F(ControlServerTest, GivesAHandlerItsParametersAndItsBody) {
  Client client(folder_.path());
  const auto got = client.get("/v1/things/a%2Fb%20c?q=x%26y").value();
  EXPECT_EQ(got["id"], "a/b c");
  EXPECT_EQ(got["q"], "x&y");
  const auto posted = client.post("/v1/things", {{"job", std::string(3'000'000, 'x')}}).value();
  EXPECT_EQ(posted["body"]["job"].get<std::string>().size(), 3'000'000u);
}

TEST_F(ControlServerTest, PassesErrorsOnWithTheirCodes) {
  Client client(folder_.path());
  EXPECT_EQ(client.get("/v1/refused").error(), (Error{ErrorCode::Refused, "the owner said no"}));
  EXPECT_EQ(client.get("/v1/nothing").error().code, ErrorCode::NotFound);
  EXPECT_EQ(client.get("/v1/missing").error(), (Error{ErrorCode::NotFound, "no run 7"}));
}

TEST_F(ControlServerTest, StreamsEventsUntilTheEnd) {
  Client client(folder_.path());
  std::vector<int> numbers;
  EXPECT_TRUE(client.stream("/v1/count", false, [&](const ServerEvent& event) {
    numbers.push_back(event.data["i"]);
    return Next::Continue;
  }));
  EXPECT_EQ(numbers, (std::vector<int>{0, 1, 2}));
  EXPECT_EQ(client.stream("/v1/missing", false, [](const ServerEvent&) { return Next::Continue; }).error(),
            (Error{ErrorCode::NotFound, "no run 7"}));
  EXPECT_EQ(client.stream("/v1/broken", false, [](const ServerEvent&) { return Next::Continue; }).error(),
            (Error{ErrorCode::TimedOut, "too slow"}));
}

TEST_F(ControlServerTest, AnswersNonsenseWithAnErrorAndLivesOn) {
  EXPECT_THAT(answer_to("hello\r\n\r\n"), HasSubstr("400"));
  EXPECT_THAT(answer_to("GET /" + std::string(20'000, 'x') + " HTTP/1.1\r\n\r\n"), HasSubstr("400"));
  EXPECT_THAT(answer_to("POST /v1/things HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n{}"),
              HasSubstr("make the job's files smaller"));
  EXPECT_THAT(answer_to("POST /v1/things HTTP/1.1\r\nContent-Length: 2\r\n\r\n[]"),
              HasSubstr("no JSON object"));
  EXPECT_THAT(answer_to("GET /v1/things/%zz HTTP/1.1\r\n\r\n"), HasSubstr("404"));
  EXPECT_THAT(answer_to("GET /v1/thi"), HasSubstr("partial message"));
  const std::string deep = R"({"a":)" + std::string(5000, '[') + std::string(5000, ']') + "}";
  EXPECT_THAT(answer_to("POST /v1/things HTTP/1.1\r\nContent-Length: " + std::to_string(deep.size()) +
                        "\r\n\r\n" + deep),
              HasSubstr("HTTP/1.1"));
  EXPECT_TRUE(Client(folder_.path()).get("/v1/things/1").has_value());
}

TEST(Client, SaysHowToStartANodeThatDoesNotRun) {
  const TemporaryFolder folder;
  EXPECT_EQ(Client(folder.path()).get("/v1/node").error().message,
            "no node is running in " + folder.path().string() + "; start it with: hivemetal node run --dir " +
                folder.path().string());
}

TEST(EventParser, TakesBytesAsTheyCome) {
  EventParser parser;
  EXPECT_TRUE(parser.feed(":\n\nevent: a\nda").value().empty());
  const auto events = parser.feed("ta: {\"x\":1}\n\nevent: b\ndata: 2\n\n").value();
  ASSERT_EQ(events.size(), 2u);
  EXPECT_EQ(events[0].name, "a");
  EXPECT_EQ(events[0].data["x"], 1);
  EXPECT_EQ(events[1].data, 2);
  EXPECT_FALSE(parser.feed("data: {\n\n").has_value());
}

TEST(PercentEncoding, ComesBack) {
  const std::string all = "a b/c%d&e=f?g#h\xff\x01";
  EXPECT_EQ(percent_decoded(percent_encoded(all)), all);
  EXPECT_EQ(percent_decoded("%4"), std::nullopt);
}

}  // namespace
}  // namespace hivemetal::node
