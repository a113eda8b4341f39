#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "node/show/explain.h"
#include "node/show/tables.h"
#include "node/show/text.h"

namespace hivemetal::node::show {
namespace {

using nlohmann::json;
using testing::HasSubstr;
using testing::Not;

TEST(Text, CannotTakeTheTerminalOver) {
  EXPECT_EQ(escaped("a\x1b[2Jb\r\n"), "a\\x1b[2Jb\\r\\n");
  EXPECT_EQ(escaped("grün → ✓"), "grün → ✓");
  EXPECT_EQ(escaped("\xc2\x9b"), "\\u009b");
  EXPECT_EQ(escaped("\xe2\x80\xae"), "\\u202e");
  EXPECT_EQ(escaped("\xff\xc3"), "\\xff\\xc3");
  EXPECT_EQ(escaped("\xc0\xaf\xed\xa0\x80"), "\\xc0\\xaf\\xed\\xa0\\x80");
  EXPECT_EQ(escaped("a\tb\n", /*lines=*/true), "a\tb\n");
  EXPECT_EQ(escaped(std::string_view("\0\x7f", 2)), "\\x00\\x7f");
}

TEST(Text, SaysSizesAndTimesAsPeopleDo) {
  EXPECT_EQ(size_text(312), "312 B");
  EXPECT_EQ(size_text(1.5 * 1024 * 1024 * 1024), "1.5 GiB");
  EXPECT_EQ(duration_text(0.42), "0.4 s");
  EXPECT_EQ(duration_text(192), "3 min 12 s");
  EXPECT_EQ(duration_text(7500), "2 h 5 min");
  EXPECT_EQ(duration_text(-1), "-1.0 s");
}

TEST(Text, FitsIntoColumns) {
  EXPECT_EQ(fitted("grün", 4), "grün");
  EXPECT_EQ(fitted("grüner", 4), "grü…");
  EXPECT_EQ(fitted("ab", 4, true), "ab  ");
  EXPECT_EQ(bar(0.5, 4), "██  ");
  EXPECT_EQ(bar(7, 2), "██");
  EXPECT_EQ(table({"a", "b"}, {{"grün", "1"}, {"x", "22"}}), "a     b\ngrün  1\nx     22\n");
}

json worker(int index, const char* state, json metrics) {
  return {{"worker", index},   {"state", state}, {"node_name", "mill"}, {"metrics", std::move(metrics)},
          {"memory", 1 << 20}, {"restarts", 0},  {"exit", ""}};
}

TEST(Top, ShowsNodesRunsAndWhatWorkersReport) {
  const json snapshot = {
      {"time", 1010.0},
      {"nodes",
       {{{"name", "mill"},
         {"self", true},
         {"cpus_total", 4},
         {"load", 2.0},
         {"memory_total", 1 << 30},
         {"memory_free", 1 << 29},
         {"workers", 1}}}},
      {"runs",
       {{{"id", "fashion-1"},
         {"state", "running"},
         {"submitted", 1000.0},
         {"workers_max", 2},
         {"reason", ""},
         {"workers",
          {worker(0, "running",
                  {{"samples_per_second", 900.0}, {"loss", 0.5}, {"accuracy", 0.8}, {"epoch", 3}}),
           worker(1, "lost", nullptr)}}},
        {{"id", "old-1"}, {"state", "finished"}, {"workers", json::array()}}}}};
  const auto text = top_text(snapshot, 100, 0);
  EXPECT_THAT(text, HasSubstr("mill *"));
  EXPECT_THAT(
      text,
      HasSubstr(
          "fashion-1  running  1/2 workers  10.0 s  epoch 3  900 samples/s  loss 0.5000  accuracy 80.0 %"));
  EXPECT_THAT(text, Not(HasSubstr("old-1")));
  EXPECT_THAT(top_text(snapshot, 20, 3), Not(HasSubstr("fashion-1")));
}

TEST(Top, LivesWithWhateverWorkersAndPeersSay) {
  const json odd = {
      {"nodes", {{{"name", 7}, {"load", "x"}}, "no object", nullptr}},
      {"runs",
       {{{"id", "a\x1b"}, {"workers", {worker(0, "running", {{"loss", "nan"}, {"epoch", {1}}}), 5}}}, 3}}};
  EXPECT_THAT(top_text(odd, 80, 0), HasSubstr("a\\x1b"));
}

json event(double time, const char* kind, int worker_index, json data, const char* text = "") {
  return {
      {"time", time}, {"kind", kind}, {"worker", worker_index}, {"data", std::move(data)}, {"text", text}};
}

json round_event(double time, int worker_index, int epoch, bool ok = true) {
  return event(time, "round", worker_index,
               {{"epoch", epoch},
                {"kind", "gradients"},
                {"matchmaking_s", 0.2},
                {"allreduce_s", 0.1},
                {"peers", 2},
                {"ok", ok}});
}

TEST(Explain, TellsThePlacementTheRoundsAndTheRecovery) {
  std::vector<json> events{
      event(100.0, "submitted", -1, {}, "train.py for 2 workers"),
      event(100.3, "offers", -1,
            {{"asked", 3},
             {"answered", 2},
             {"candidates",
              {{{"name", "mill"}, {"score", 80}, {"rtt_ms", 0.4}, {"slots", 2}},
               {{"name", "dune"}, {"score", 91}}}}}),
      event(100.4, "placed", 0,
            {{"node_name", "dune"}, {"score", 91}, {"why", "free 3.5 of 4 cores"}, {"predicted_load", 0.25}}),
      event(100.5, "started", 0, {}, "worker 0 runs on dune"),
  };
  for (int epoch = 0; epoch < 20; ++epoch) {
    for (int w = 0; w < 2; ++w) events.push_back(round_event(101 + epoch, w, epoch));
  }
  events.push_back(event(122.0, "lost", 0, {{"silent_ms", 1500}}, "dune has been silent for 1.5 s"));
  events.push_back(event(122.2, "offers", -1, {{"asked", 2}, {"answered", 1}}));
  events.push_back(event(122.3, "placed", 0, {{"node_name", "mill"}, {"score", 70}}));
  events.push_back(event(122.4, "replaced", 0, {{"after_ms", 400}}, "worker 0 runs again, on mill"));
  events.push_back(event(125.0, "metrics", 0, {{"loss", 0.3}}));
  events.push_back(round_event(126, 0, 21, /*ok=*/false));
  const json run = {{"id", "fashion-1"},  {"name", "fashion"}, {"state", "finished"},
                    {"submitted", 100.0}, {"ended", 130.0},    {"workers", {1, 2}}};
  const auto text = explain_text(run, events);
  EXPECT_THAT(text, HasSubstr("fashion-1 (fashion): finished, 30.0 s; 2 workers; 21 rounds; 1 recovery"));
  EXPECT_THAT(text, HasSubstr("2 of 3 nodes offered: dune 91"));
  EXPECT_THAT(text, HasSubstr("worker 0 → dune, score 91, predicted load 25 %: free 3.5 of 4 cores"));
  EXPECT_THAT(text, HasSubstr("epochs 0–19, 20 rounds, all well"));
  EXPECT_THAT(
      text,
      HasSubstr("epoch 21, gradients: 1 workers, 2 peers; matchmaking 0.20 s, all-reduce 0.10 s; 1 failed"));
  EXPECT_THAT(text, HasSubstr("recovery of worker 0 at 22.00"));
  EXPECT_THAT(text, HasSubstr("+3.00  metrics     it works again"));
  EXPECT_LE(std::count(text.begin(), text.end(), '\n'), 60);
}

TEST(Explain, StaysOnOnePageAndLivesWithOddEvents) {
  std::vector<json> events;
  for (int i = 0; i < 500; ++i) events.push_back(event(i, "note", 0, {{"text", "n\x1b"}}));
  events.push_back(json{{"kind", 5}, {"data", 7}});
  const auto text = explain_text({{"id", "x"}}, events);
  EXPECT_LE(std::count(text.begin(), text.end(), '\n'), 60);
  EXPECT_THAT(text, Not(HasSubstr("\x1b")));
}

}  // namespace
}  // namespace hivemetal::node::show
