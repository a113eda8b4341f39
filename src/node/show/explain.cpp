#include "node/show/explain.h"

#include <algorithm>
#include <fmt/format.h>
#include <map>
#include <tuple>

#include "node/show/text.h"

namespace hivemetal::node::show {

namespace {

using nlohmann::json;

constexpr std::size_t kLinesMax = 48;      // of the timeline
constexpr std::size_t kRoundsAlone = 6;    // more rounds in a row than this become one line
constexpr std::size_t kCandidatesMax = 6;  // of an offer round

const json& data_of(const json& event) {
  static const json kNone = json::object();
  const auto found = event.find("data");
  return found != event.end() && found->is_object() ? *found : kNone;
}

double time_of(const json& event) { return number_in(event, "time"); }

int worker_of(const json& event) { return static_cast<int>(number_in(event, "worker", -1)); }

bool is_round(const json& event) { return text_in(event, "kind") == "round"; }

double median(std::vector<double> values) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

// All that the workers said about one averaging round: the reports with the same epoch and kind, close in
// time.
struct Round {
  double begin = 0;
  double end = 0;
  double epoch = 0;
  std::string kind;
  std::vector<json> reports;

  std::size_t failures() const {
    return static_cast<std::size_t>(std::count_if(reports.begin(), reports.end(), [](const json& report) {
      return !flag_in(data_of(report), "ok", true);
    }));
  }
  double middle(const char* key) const {
    std::vector<double> values;
    for (const auto& report : reports) {
      if (has_number(data_of(report), key)) values.push_back(number_in(data_of(report), key));
    }
    return median(values);
  }
};

std::vector<Round> rounds_of(const std::vector<json>& events) {
  std::map<std::pair<double, std::string>, Round> found;
  for (const auto& event : events) {
    if (!is_round(event)) continue;
    auto& round = found[{number_in(data_of(event), "epoch", -1), text_in(data_of(event), "kind")}];
    if (round.reports.empty()) round.begin = time_of(event);
    round.end = time_of(event);
    round.epoch = number_in(data_of(event), "epoch", -1);
    round.kind = text_in(data_of(event), "kind");
    round.reports.push_back(event);
  }
  std::vector<Round> rounds;
  for (auto& [key, round] : found) rounds.push_back(std::move(round));
  std::sort(rounds.begin(), rounds.end(), [](const Round& a, const Round& b) {
    return std::tie(a.end, a.epoch, a.kind) < std::tie(b.end, b.epoch, b.kind);
  });
  return rounds;
}

std::string round_text(const Round& round) {
  auto text =
      fmt::format("{} workers, {:.0f} peers; matchmaking {:.2f} s, all-reduce {:.2f} s", round.reports.size(),
                  round.middle("peers"), round.middle("matchmaking_s"), round.middle("allreduce_s"));
  if (!round.kind.empty()) text = round.kind + ": " + text;
  if (round.failures() > 0) text += fmt::format("; {} failed", round.failures());
  return text;
}

// One line of the timeline.
struct Line {
  double time = 0;
  std::string what;
  std::string text;
};

std::string offers_text(const json& event) {
  const auto& data = data_of(event);
  std::vector<std::pair<double, std::string>> ranked;
  if (const auto found = data.find("candidates"); found != data.end() && found->is_array()) {
    for (const auto& candidate : *found) {
      ranked.emplace_back(number_in(candidate, "score"),
                          fmt::format("{} {:.0f} (rtt {:.1f} ms, {:.0f} slots)", text_in(candidate, "name"),
                                      number_in(candidate, "score"), number_in(candidate, "rtt_ms"),
                                      number_in(candidate, "slots")));
    }
  }
  std::sort(ranked.begin(), ranked.end(), [](const auto& a, const auto& b) { return a.first > b.first; });
  auto text =
      fmt::format("{:.0f} of {:.0f} nodes offered", number_in(data, "answered"), number_in(data, "asked"));
  for (std::size_t i = 0; i < ranked.size() && i < kCandidatesMax; ++i)
    text += (i == 0 ? ": " : ", ") + ranked[i].second;
  if (ranked.size() > kCandidatesMax) text += fmt::format(" and {} more", ranked.size() - kCandidatesMax);
  return text;
}

std::string placed_text(const json& event) {
  const auto& data = data_of(event);
  auto text = fmt::format("worker {} → {}, score {:.0f}", worker_of(event), text_in(data, "node_name"),
                          number_in(data, "score"));
  if (has_number(data, "predicted_load"))
    text += fmt::format(", predicted load {:.0f} %", 100 * number_in(data, "predicted_load"));
  if (const auto why = text_in(data, "why"); !why.empty()) text += ": " + why;
  return text;
}

std::string plain_text(const json& event) {
  auto text = text_in(event, "text");
  if (text.empty()) text = text_in(data_of(event), "text");
  if (text.empty()) text = escaped(data_of(event).dump(-1, ' ', false, json::error_handler_t::replace));
  const auto worker = worker_of(event);
  if (worker >= 0 && text.find("worker") == std::string::npos)
    text = fmt::format("worker {}: {}", worker, text);
  return text;
}

std::string line_text(const json& event) {
  const auto kind = text_in(event, "kind");
  if (kind == "offers") return offers_text(event);
  if (kind == "placed") return placed_text(event);
  if (kind == "checkpoint")
    return fmt::format("worker {}: epoch {:.0f}, {}", worker_of(event), number_in(data_of(event), "epoch"),
                       text_in(data_of(event), "path"));
  return plain_text(event);
}

Line line_of(const json& event) { return {time_of(event), text_in(event, "kind"), line_text(event)}; }

// Decisions each have a line; rounds have one per epoch, and a row of them that went well has one in all.
std::vector<Line> timeline(const std::vector<json>& events, const std::vector<Round>& rounds) {
  struct Item {
    double time;
    std::size_t order;   // of events at one time
    const json* event;   // one of
    const Round* round;  // the two
  };
  std::vector<Item> items;
  for (const auto& event : events) {
    const auto kind = text_in(event, "kind");
    if (kind != "metrics" && kind != "round")
      items.push_back({time_of(event), items.size(), &event, nullptr});
  }
  for (const auto& round : rounds) items.push_back({round.end, items.size(), nullptr, &round});
  std::sort(items.begin(), items.end(), [](const Item& a, const Item& b) {
    return std::tie(a.time, a.order) < std::tie(b.time, b.order);
  });

  std::vector<Line> lines;
  for (std::size_t i = 0; i < items.size();) {
    if (items[i].event != nullptr) {
      lines.push_back(line_of(*items[i++].event));
      continue;
    }
    std::size_t end = i;
    std::vector<double> matchmaking;
    std::vector<double> allreduce;
    while (end < items.size() && items[end].round != nullptr && items[end].round->failures() == 0) {
      matchmaking.push_back(items[end].round->middle("matchmaking_s"));
      allreduce.push_back(items[end].round->middle("allreduce_s"));
      ++end;
    }
    if (end - i > kRoundsAlone) {
      lines.push_back(
          {items[i].time, "rounds",
           fmt::format(
               "epochs {:.0f}–{:.0f}, {} rounds, all well; median matchmaking {:.2f} s, all-reduce {:.2f} s",
               items[i].round->epoch, items[end - 1].round->epoch, end - i, median(matchmaking),
               median(allreduce))});
      i = end;
    } else {
      lines.push_back({items[i].time, "round",
                       fmt::format("epoch {:.0f}, {}", items[i].round->epoch, round_text(*items[i].round))});
      ++i;
    }
  }
  return lines;
}

// Keeps the page one page: the start and the end of the story, and how much lies between.
std::string lines_text(std::vector<Line> lines, double start) {
  std::string out;
  const auto add = [&](const Line& line) {
    out += fmt::format("{:>9.2f}  {:<11} {}\n", line.time - start, line.what, line.text);
  };
  if (lines.size() <= kLinesMax) {
    for (const auto& line : lines) add(line);
    return out;
  }
  const std::size_t half = kLinesMax / 2;
  for (std::size_t i = 0; i < half; ++i) add(lines[i]);
  out += fmt::format("           … {} more; --json has all\n", lines.size() - 2 * half);
  for (std::size_t i = lines.size() - half; i < lines.size(); ++i) add(lines[i]);
  return out;
}

// The round with the most reports, the latest of them: the one that shows most.
std::string one_round(const std::vector<Round>& rounds, double start) {
  if (rounds.empty()) return "";
  const Round* best = &rounds.front();
  for (const auto& round : rounds) {
    if (round.reports.size() >= best->reports.size()) best = &round;
  }
  std::vector<std::vector<std::string>> rows;
  for (const auto& report : best->reports) {
    const auto& data = data_of(report);
    const double matchmaking = number_in(data, "matchmaking_s");
    const double allreduce = number_in(data, "allreduce_s");
    const double end = time_of(report) - start;
    rows.push_back(
        {fmt::format("  {}", worker_of(report)), fmt::format("{:.2f}", end - allreduce - matchmaking),
         fmt::format("{:.2f} s", matchmaking), fmt::format("{:.2f} s", allreduce), fmt::format("{:.2f}", end),
         fmt::format("{:.0f}", number_in(data, "peers")), flag_in(data, "ok", true) ? "ok" : "failed"});
  }
  return fmt::format("\none round: epoch {:.0f}{}\n", best->epoch,
                     best->kind.empty() ? "" : ", " + best->kind) +
         table({"  worker", "begin", "matchmaking", "all-reduce", "end", "peers", ""}, rows);
}

// From each loss (or unexpected end) of a worker to its first sign of life elsewhere.
std::string recoveries(const std::vector<json>& events, double start, std::size_t* count) {
  std::string out;
  for (std::size_t i = 0; i < events.size(); ++i) {
    const auto kind = text_in(events[i], "kind");
    if (kind != "lost" && kind != "ended") continue;
    const int worker = worker_of(events[i]);
    std::vector<const json*> steps{&events[i]};
    bool back = false;
    for (std::size_t j = i + 1; j < events.size(); ++j) {
      const auto next = text_in(events[j], "kind");
      if (next == "offers" && !back) steps.push_back(&events[j]);
      if (worker_of(events[j]) != worker) continue;
      if (next == "lost" || next == "ended") break;
      if (next == "placed" || next == "started" || next == "replaced") steps.push_back(&events[j]);
      back = back || next == "placed" || next == "replaced";
      if ((next == "metrics" || next == "round") && back) {
        steps.push_back(&events[j]);
        break;
      }
    }
    if (!back) continue;
    ++*count;
    const double begin = time_of(events[i]);
    out += fmt::format("\nrecovery of worker {} at {:.2f}\n", worker, begin - start);
    for (const auto* step : steps) {
      const auto name = text_in(*step, "kind");
      out += fmt::format(
          "{:>+9.2f}  {:<11} {}\n", time_of(*step) - begin, name,
          name == "metrics" || name == "round" ? "it works again: its first report" : line_text(*step));
    }
  }
  return out;
}

}  // namespace

std::string explain_text(const json& run, const std::vector<json>& events) {
  const double start = number_in(run, "submitted", events.empty() ? 0 : time_of(events.front()));
  const double last = number_in(run, "ended") > 0 ? number_in(run, "ended")
                      : events.empty()            ? start
                                                  : time_of(events.back());
  const auto rounds = rounds_of(events);
  std::size_t recovered = 0;
  const auto recovery = recoveries(events, start, &recovered);
  auto out = fmt::format("{} ({}): {}, {}; {} workers; {} rounds; {} {}\n", text_in(run, "id"),
                         text_in(run, "name"), text_in(run, "state"), duration_text(last - start),
                         run.contains("workers") && run["workers"].is_array() ? run["workers"].size() : 0,
                         rounds.size(), recovered, recovered == 1 ? "recovery" : "recoveries");
  if (const auto reason = text_in(run, "reason"); !reason.empty()) out += "  " + reason + "\n";
  out += "\n  seconds  what\n" + lines_text(timeline(events, rounds), start);
  out += one_round(rounds, start);
  return out + recovery;
}

std::string event_text(const json& event, double start_unix) {
  const auto kind = text_in(event, "kind");
  std::string text;
  if (kind == "metrics") {
    text = fmt::format("worker {}:", worker_of(event));
    for (const auto& [key, value] : data_of(event).items()) {
      if (value.is_number() && key != "time")
        text += fmt::format(" {} {:.6g}", escaped(key), value.get<double>());
    }
  } else if (kind == "round") {
    Round round;
    round.kind = text_in(data_of(event), "kind");
    round.reports.push_back(event);
    text = fmt::format("worker {}: epoch {:.0f}, {}", worker_of(event), number_in(data_of(event), "epoch"),
                       round_text(round));
  } else {
    text = line_text(event);
  }
  return fmt::format("{:>9.2f}  {:<11} {}", time_of(event) - start_unix, kind, text);
}

}  // namespace hivemetal::node::show
