#include "node/log_view.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "identity/base64.h"

namespace hivemetal::node {
namespace {

nlohmann::json frame(int worker, int attempt, int offset, const std::string& bytes, const char* cursor = "",
                     int stream = 1) {
  nlohmann::json made{{"worker", worker},
                      {"attempt", attempt},
                      {"offset", offset},
                      {"stream", stream},
                      {"node_name", "mill"},
                      {"time", 1.0},
                      {"content", identity::base64_encode(bytes)}};
  if (*cursor != '\0') made["cursor"] = cursor;
  return made;
}

TEST(LogView, PutsFramesTogetherToLinesPerWorker) {
  LogView view(false, true);
  EXPECT_EQ(view.take(frame(0, 0, 0, "one\ntw")), "[0] one\n");
  EXPECT_EQ(view.take(frame(1, 0, 0, "other\n")), "[1] other\n");
  EXPECT_EQ(view.take(frame(0, 0, 6, "o\nlast")), "[0] two\n");
  EXPECT_EQ(view.rest(), "[0] last\n");
}

TEST(LogView, ShowsNothingTwiceAfterAReconnection) {
  LogView view(false, true);
  EXPECT_EQ(view.take(frame(0, 0, 0, "a\n", "0:0:2")), "[0] a\n");
  EXPECT_EQ(view.take(frame(0, 0, 2, "b\n")), "[0] b\n");
  EXPECT_EQ(view.cursors(), "0:0:2");
  EXPECT_EQ(view.take(frame(0, 0, 2, "b\n")), "");
  EXPECT_EQ(view.take(frame(0, 0, 4, "c\n", "0:0:6")), "[0] c\n");
  EXPECT_EQ(view.cursors(), "0:0:6");
}

TEST(LogView, SaysWhenAWorkerBeganAnew) {
  LogView view(false, true);
  view.take(frame(0, 0, 0, "half"));
  EXPECT_EQ(view.take(frame(0, 1, 0, "x\n")), "[0] half\n[0] -- attempt 2 on mill --\n[0] x\n");
}

TEST(LogView, EscapesWhatWouldReachTheTerminal) {
  LogView view(false, false);
  EXPECT_EQ(view.take(frame(0, 0, 0, "\x1b]0;title\x07\n")), "\\x1b]0;title\\x07\n");
  EXPECT_EQ(view.take(frame(0, 0, 20, "4096 bytes dropped", "", 3)), "-- 4096 bytes dropped --\n");
}

TEST(LogView, GivesJsonPerFrame) {
  LogView view(true, true);
  const auto object = nlohmann::json::parse(view.take(frame(2, 0, 0, "a\xff\n", "2:0:3")));
  EXPECT_EQ(object["worker"], 2);
  EXPECT_EQ(object["text"], "a\xef\xbf\xbd\n");
  EXPECT_FALSE(object.contains("content"));
}

}  // namespace
}  // namespace hivemetal::node
