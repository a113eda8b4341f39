#include "node/commands.h"

#include <cmath>
#include <cstdio>
#include <fmt/format.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <thread>
#include <unistd.h>

#include "base/clock.h"
#include "identity/base64.h"
#include "identity/invite.h"
#include "job/job.h"
#include "node/client.h"
#include "node/doctor.h"
#include "node/log_view.h"
#include "node/node.h"
#include "node/show/explain.h"
#include "node/show/tables.h"
#include "node/show/text.h"

namespace hivemetal::node {

namespace {

using nlohmann::json;

constexpr auto kReconnectTime = std::chrono::seconds(30);
constexpr auto kReconnectPause = std::chrono::milliseconds(300);

double now_of(const Common& common) { return SystemClock().unix_time() + common.clock_offset_s; }

void print(const std::string& text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fflush(stdout);
}

void print_json(const json& value) {
  print(value.dump(-1, ' ', false, json::error_handler_t::replace) + "\n");
}

int fail(const Common& common, const Error& error, int code) {
  if (common.json) {
    print_json(json{{"error", {{"code", name_of(error.code)}, {"message", error.message}}}});
  } else {
    fmt::print(stderr, "hivemetal: {}\n", show::escaped(error.message, /*lines=*/true));
  }
  return code;
}

int fail(const Common& common, const Error& error) {
  return fail(common, error, error.code == ErrorCode::Invalid ? 2 : 1);
}

json describe(const NodeDirectory& directory, const SwarmFiles& swarm) {
  return {{"swarm", {{"name", swarm.name}, {"id", swarm.membership.swarm().base58()}}},
          {"peer", swarm.membership.subject().base58()},
          {"directory", directory.path().string()}};
}

// Addresses of members that an invite can name: of the nodes that are up, ours first; else those of our last
// run.
Result<std::vector<identity::Multiaddr>> addresses_to_invite_to(const NodeDirectory& directory) {
  std::vector<std::string> texts;
  Client client(directory.path());
  if (const auto about = client.get("/v1/node")) {
    texts = about->value("addresses", std::vector<std::string>());
    const auto nodes = client.get("/v1/nodes");
    for (const auto& node : nodes ? nodes->value("nodes", json::array()) : json::array()) {
      const auto of_node = node.value("addresses", std::vector<std::string>());
      if (!of_node.empty() && !node.value("self", false)) texts.push_back(of_node.front());
    }
  } else {
    auto store = Store::open(directory.state_file());
    if (!store) return store.error();
    const auto saved = (*store)->get("node/addresses");
    const auto list = saved && *saved ? json::parse(**saved, nullptr, /*allow_exceptions=*/false) : json();
    if (list.is_array()) texts = list.get<std::vector<std::string>>();
  }
  std::vector<identity::Multiaddr> found;
  for (const auto& text : texts) {
    if (auto address = identity::Multiaddr::parse(text)) found.push_back(std::move(*address));
  }
  if (found.empty()) {
    return Error{ErrorCode::Unavailable, fmt::format("an invite names addresses of nodes, and this one has "
                                                     "never run; start it with: hivemetal node run --dir {}",
                                                     directory.path().string())};
  }
  return found;
}

std::size_t terminal_columns(std::size_t* rows) {
  winsize size{};
  if (::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return 0;
  *rows = size.ws_row;
  return size.ws_col;
}

// Keys come one by one and unseen, and the cursor is hidden, until this goes.
class RawTerminal {
 public:
  RawTerminal() {
    if (::tcgetattr(STDIN_FILENO, &before_) != 0) return;
    active_ = true;
    termios raw = before_;
    raw.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO);
    ::tcsetattr(STDIN_FILENO, TCSANOW, &raw);
    print("\x1b[?25l\x1b[2J");
  }
  ~RawTerminal() {
    if (!active_) return;
    ::tcsetattr(STDIN_FILENO, TCSANOW, &before_);
    print("\x1b[?25h");
  }

  RawTerminal(const RawTerminal&) = delete;
  RawTerminal& operator=(const RawTerminal&) = delete;

 private:
  termios before_{};
  bool active_ = false;
};

// Draws over the last screen without clearing it first, which would flicker.
void redraw(const std::string& text) {
  std::string screen = "\x1b[H";
  for (const char c : text) {
    if (c == '\n') screen += "\x1b[K";
    screen += c;
  }
  print(screen + "\x1b[J");
}

Result<std::vector<json>> all_events(Client& client, const std::string& run) {
  std::vector<json> events;
  for (std::uint64_t since = 0;;) {
    const auto page = client.get(fmt::format("/v1/runs/{}/events?since={}", percent_encoded(run), since));
    if (!page) return page.error();
    const auto& list = page->at("events");
    if (list.empty()) return events;
    events.insert(events.end(), list.begin(), list.end());
    since = page->at("last").get<std::uint64_t>();
  }
}

int follow_run(const Common& common, Client& client, const std::string& run, double start) {
  json last;
  const auto followed = client.stream(fmt::format("/v1/runs/{}/events/stream", percent_encoded(run)), false,
                                      [&](const ServerEvent& event) {
                                        last = event.data;
                                        if (common.json) {
                                          print_json(event.data);
                                        } else {
                                          print(show::event_text(event.data, start) + "\n");
                                        }
                                        return Next::Continue;
                                      });
  if (!followed && followed.error().code == ErrorCode::Cancelled) {
    if (!common.json)
      fmt::print(stderr, "the run goes on; hivemetal logs -f {0} follows it, hivemetal stop {0} ends it\n",
                 run);
    return 130;
  }
  if (!followed) return fail(common, followed.error());
  const auto kind = show::text_in(last, "kind");
  return kind == "failed" ? 1 : 0;
}

}  // namespace

int swarm_create(const Common& common, const std::string& name) {
  const auto directory = NodeDirectory::open(common.directory);
  if (!directory) return fail(common, directory.error());
  const auto swarm = create_swarm_in(*directory, name, now_of(common));
  if (!swarm) return fail(common, swarm.error());
  if (common.json) {
    print_json(describe(*directory, *swarm));
  } else {
    print(
        fmt::format("made the swarm {0}; this node is its first member\nnext:  hivemetal node run --dir "
                    "{1}\nthen:  hivemetal invite --dir {1}\n",
                    swarm->name, directory->path().string()));
  }
  return 0;
}

int invite(const Common& common, double hours) {
  if (!std::isfinite(hours) || hours <= 0 || hours > 24 * 365) {
    return fail(common,
                Error{ErrorCode::Invalid,
                      fmt::format("--hours: {} is not valid; write a number above 0, at most 8760", hours)});
  }
  const auto directory = NodeDirectory::open(common.directory);
  if (!directory) return fail(common, directory.error());
  const auto swarm = load_swarm(*directory);
  if (!swarm) return fail(common, swarm.error());
  const auto key = load_or_make_key(*directory);
  if (!key) return fail(common, key.error());
  const auto addresses = addresses_to_invite_to(*directory);
  if (!addresses) return fail(common, addresses.error());
  identity::InviteOptions options;
  options.lifetime = std::chrono::seconds(static_cast<std::int64_t>(hours * 3600));
  const double now = now_of(common);
  const auto text = identity::make_invite(swarm->membership, *key, swarm->name, *addresses, now, options);
  if (!text) return fail(common, text.error());
  const auto until = static_cast<std::uint64_t>(now) + static_cast<std::uint64_t>(options.lifetime.count());
  if (common.json) {
    print_json(json{{"invite", *text}, {"swarm", swarm->name}, {"expires", until}});
  } else {
    print(*text + "\n");
    fmt::print(stderr, "whoever has this text can join {} until {}: hivemetal join INVITE\n", swarm->name,
               identity::utc_text(until));
  }
  return 0;
}

int join(const Common& common, const std::string& text) {
  const auto directory = NodeDirectory::open(common.directory);
  if (!directory) return fail(common, directory.error());
  const auto swarm = join_swarm_in(*directory, text, now_of(common));
  // An invite that has expired or is another swarm's is bad input, too.
  if (!swarm)
    return fail(common, swarm.error(),
                swarm.error().code == ErrorCode::Refused   ? 2
                : swarm.error().code == ErrorCode::Invalid ? 2
                                                           : 1);
  if (common.json) {
    print_json(describe(*directory, *swarm));
  } else {
    print(fmt::format("joined the swarm {}\nnext:  hivemetal node run --dir {}\n", swarm->name,
                      directory->path().string()));
  }
  return 0;
}

int node_list(const Common& common) {
  const auto nodes = Client(common.directory).get("/v1/nodes");
  if (!nodes) return fail(common, nodes.error());
  common.json ? print_json(*nodes) : print(show::nodes_text(*nodes));
  return 0;
}

int run_job(const Common& common, const std::filesystem::path& file, bool follow) {
  const auto spec = job::load_job(file);
  if (!spec) return fail(common, spec.error());
  const auto files = job::load_files(*spec, file.has_parent_path() ? file.parent_path() : ".");
  if (!files) return fail(common, files.error());
  json list = json::array();
  for (const auto& item : *files)
    list.push_back({{"path", item.path},
                    {"content", identity::base64_encode(item.content)},
                    {"executable", item.executable}});
  Client client(common.directory);
  const double start = SystemClock().unix_time();
  const auto submitted = client.post("/v1/runs", {{"job", job::to_json(*spec)}, {"files", std::move(list)}});
  if (!submitted) return fail(common, submitted.error());
  const auto run = show::text_in(*submitted, "run");
  if (common.json) {
    print_json(*submitted);
  } else {
    print(fmt::format("run {}\n", run));
    if (!follow)
      fmt::print(stderr, "next:  hivemetal logs -f {0}, hivemetal top {0}, hivemetal explain {0}\n", run);
  }
  return follow ? follow_run(common, client, run, start) : 0;
}

int list_runs(const Common& common) {
  const auto runs = Client(common.directory).get("/v1/runs");
  if (!runs) return fail(common, runs.error());
  common.json ? print_json(*runs) : print(show::runs_text(*runs, show::number_in(*runs, "time")));
  return 0;
}

int show_logs(const Common& common, const std::string& run, std::optional<unsigned> worker, bool follow) {
  Client client(common.directory);
  LogView view(common.json, !worker.has_value());
  auto patience = std::chrono::steady_clock::now() + kReconnectTime;
  for (bool first = true;; first = false) {
    auto target = fmt::format("/v1/runs/{}/logs?follow={}&from={}", percent_encoded(run),
                              follow ? "true" : "false", percent_encoded(view.cursors()));
    if (worker) target += fmt::format("&worker={}", *worker);
    const auto streamed = client.stream(target, false, [&](const ServerEvent& event) {
      patience = std::chrono::steady_clock::now() + kReconnectTime;
      print(view.take(event.data));
      return Next::Continue;
    });
    if (streamed) break;
    // A restarted daemon knows the logs of the one before: go on where we were.
    const bool gone = streamed.error().code == ErrorCode::Unavailable && follow && !first;
    const bool went = streamed.error().code == ErrorCode::Unavailable && follow && view.started();
    if (streamed.error().code == ErrorCode::Cancelled) {
      print(view.rest());
      return 130;
    }
    if ((!gone && !went) || std::chrono::steady_clock::now() > patience) {
      print(view.rest());
      return fail(common, streamed.error());
    }
    std::this_thread::sleep_for(kReconnectPause);
  }
  print(view.rest());
  return 0;
}

int stop_run(const Common& common, const std::string& run) {
  Client client(common.directory);
  const auto target = fmt::format("/v1/runs/{}", percent_encoded(run));
  auto state = client.post(target + "/stop", json::object());
  if (!state) return fail(common, state.error());
  // The answer is worth something when the processes are gone.
  const auto stream = client.stream(target + "/events/stream?since=9223372036854775807", false,
                                    [](const ServerEvent&) { return Next::Continue; });
  if (!stream) return fail(common, stream.error());
  state = client.get(target);
  if (!state) return fail(common, state.error());
  common.json ? print_json(*state)
              : print(fmt::format("{} {}\n", show::text_in(*state, "id"), show::text_in(*state, "state")));
  return 0;
}

int show_top(const Common& common, const std::string& run, bool once) {
  Client client(common.directory);
  const bool live = !once && !common.json && ::isatty(STDOUT_FILENO) != 0;
  std::optional<RawTerminal> terminal;
  const auto shown = client.stream(
      "/v1/top" + (run.empty() ? "" : "?run=" + percent_encoded(run)), live, [&](const ServerEvent& event) {
        if (!live) {
          common.json ? print_json(event.data) : print(show::top_text(event.data, 0, 0));
          return Next::Stop;
        }
        if (!terminal) terminal.emplace();
        std::size_t rows = 0;
        const auto columns = terminal_columns(&rows);
        redraw(show::top_text(event.data, columns, rows > 1 ? rows - 1 : 0));
        return Next::Continue;
      });
  terminal.reset();
  if (!shown && shown.error().code != ErrorCode::Cancelled) return fail(common, shown.error());
  return 0;
}

int explain(const Common& common, const std::string& run) {
  Client client(common.directory);
  const auto state = client.get("/v1/runs/" + percent_encoded(run));
  if (!state) return fail(common, state.error());
  const auto events = all_events(client, run);
  if (!events) return fail(common, events.error());
  common.json ? print_json(json{{"run", *state}, {"events", *events}})
              : print(show::explain_text(*state, *events));
  return 0;
}

int doctor(const Common& common) {
  const auto config = load_config(common.directory / "config.yaml");
  if (!config) return fail(common, config.error());
  std::vector<std::string> checked;
  const auto findings = examine(common.directory, *config, now_of(common), &checked);
  if (common.json) {
    json list = json::array();
    for (const auto& finding : findings) list.push_back(to_json(finding));
    print_json(json{{"checked", checked}, {"findings", list}});
  } else {
    print(doctor_text(findings, checked));
  }
  return std::any_of(findings.begin(), findings.end(), [](const Finding& finding) { return finding.blocks; })
             ? 1
             : 0;
}

int version(const Common& common) {
  common.json ? print_json(json{{"version", kVersion}}) : print(fmt::format("hivemetal {}\n", kVersion));
  return 0;
}

}  // namespace hivemetal::node
