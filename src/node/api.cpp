#include "node/api.h"

#include <charconv>
#include <fmt/format.h>

#include "identity/base64.h"
#include "job/job.h"

namespace hivemetal::node {

namespace {

using nlohmann::json;

constexpr std::size_t kEventsMax = 10'000;  // in one reply
constexpr std::size_t kLogBytes = 64 * 1024;
constexpr auto kLogWait = std::chrono::milliseconds(150);  // between two looks at a quiet log
constexpr auto kTopInterval = std::chrono::seconds(1);

Error no_run(const std::string& id) {
  return Error{ErrorCode::NotFound,
               fmt::format("this node coordinates no run {}; hivemetal ps lists its runs", id)};
}

bool is_over(const std::string& state) {
  return state == "finished" || state == "failed" || state == "stopped";
}

Result<std::uint64_t> number_of(std::string_view text, const char* what, std::uint64_t otherwise) {
  if (text.empty()) return otherwise;
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) {
    return Error{ErrorCode::Invalid, fmt::format("{} must be a whole number", what)};
  }
  return value;
}

json to_json(const scheduler::CapacityRecord& record, bool self) {
  return {{"node", record.node.base58()},
          {"name", record.name},
          {"self", self},
          {"version", record.version},
          {"cpus_total", record.cpus_total},
          {"cpus_free", record.cpus_free},
          {"load", record.load},
          {"memory_total", record.memory_total},
          {"memory_free", record.memory_free},
          {"workers", record.workers},
          {"environments", record.environments},
          {"confinement", record.confinement},
          {"addresses", record.addresses},
          {"time", record.time},
          {"expires", record.expires}};
}

Result<std::vector<runner::AttemptFile>> files_of(const json& body) {
  std::vector<runner::AttemptFile> files;
  if (!body.contains("files")) return files;
  if (!body["files"].is_array()) return Error{ErrorCode::Invalid, "files must be a list"};
  for (const auto& item : body["files"]) {
    const bool well_formed = item.is_object() && item.contains("path") && item["path"].is_string() &&
                             item.contains("content") && item["content"].is_string();
    if (!well_formed) return Error{ErrorCode::Invalid, "a file must have a path and its content in base64"};
    auto content = identity::base64_decode(item["content"].get_ref<const std::string&>());
    if (!content) return content.error().within("a file's content");
    const auto executable = item.find("executable");
    files.push_back({item["path"].get<std::string>(), std::move(*content),
                     executable != item.end() && executable->is_boolean() && executable->get<bool>()});
  }
  return files;
}

std::string cursor_text(std::uint32_t worker, const scheduler::LogCursor& cursor) {
  return fmt::format("{}:{}:{}", worker, cursor.attempt, cursor.offset);
}

// What a reader of logs has still to get.
struct LogReader {
  std::uint32_t worker = 0;
  scheduler::LogCursor next;
  bool ended = false;
};

// A frame of any worker, with where its reader goes on.
struct LogLine {
  std::uint32_t worker = 0;
  scheduler::LogPage::Frame frame;
  std::string cursor;
};

}  // namespace

Result<std::map<std::uint32_t, scheduler::LogCursor>> parse_cursors(std::string_view text) {
  std::map<std::uint32_t, scheduler::LogCursor> found;
  while (!text.empty()) {
    const auto end = std::min(text.find(','), text.size());
    std::uint64_t parts[3] = {};
    const char* at = text.data();
    const char* stop = text.data() + end;
    for (int i = 0; i < 3; ++i) {
      const auto [next, error] = std::from_chars(at, stop, parts[i]);
      const bool whole = error == std::errc() && (i == 2 ? next == stop : next != stop && *next == ':');
      if (!whole || (i < 2 && parts[i] > UINT32_MAX))
        return Error{ErrorCode::Invalid, "from must be worker:attempt:offset, separated by commas"};
      at = next + 1;
    }
    found[static_cast<std::uint32_t>(parts[0])] = {static_cast<std::uint32_t>(parts[1]), parts[2]};
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return found;
}

std::vector<Route> Api::routes() {
  const auto answer = [this](const char* method, const char* pattern,
                             asio::awaitable<Result<Json>> (Api::*member)(Request)) {
    return Route{method, pattern,
                 [this, member](Request request) { return (this->*member)(std::move(request)); }, nullptr};
  };
  const auto stream = [this](const char* pattern,
                             asio::awaitable<Result<void>> (Api::*member)(Request, EventStream&)) {
    return Route{"GET", pattern, nullptr, [this, member](Request request, EventStream& out) {
                   return (this->*member)(std::move(request), out);
                 }};
  };
  return {
      answer("GET", "/v1/node", &Api::node),
      answer("GET", "/v1/nodes", &Api::nodes),
      answer("GET", "/v1/doctor", &Api::doctor),
      answer("GET", "/v1/runs", &Api::runs),
      answer("POST", "/v1/runs", &Api::submit),
      answer("GET", "/v1/runs/{id}", &Api::run),
      answer("DELETE", "/v1/runs/{id}", &Api::remove_run),
      answer("POST", "/v1/runs/{id}/stop", &Api::stop_run),
      answer("GET", "/v1/runs/{id}/events", &Api::events),
      stream("/v1/runs/{id}/events/stream", &Api::follow_events),
      stream("/v1/runs/{id}/logs", &Api::logs),
      stream("/v1/top", &Api::top),
  };
}

asio::awaitable<Result<json>> Api::node(Request) { co_return parts_.about(); }

asio::awaitable<Result<json>> Api::doctor(Request) { co_return json{{"findings", parts_.findings()}}; }

json Api::nodes_now() const {
  json list = json::array();
  for (const auto& record : parts_.board->known())
    list.push_back(to_json(record, record.node == parts_.self));
  return list;
}

asio::awaitable<Result<json>> Api::nodes(Request) {
  // A look of our own: the board's last one may be some seconds old. What it misses, the board still knows.
  (void)co_await parts_.board->read(parts_.clock->now() + std::chrono::seconds(2));
  co_return json{{"nodes", nodes_now()}};
}

asio::awaitable<Result<json>> Api::runs(Request) {
  json list = json::array();
  for (const auto& run : parts_.coordinator->runs()) list.push_back(scheduler::to_json(run));
  json hosted = json::array();
  for (const auto& worker : parts_.host->hosted()) {
    hosted.push_back({{"run", worker.lease.key.run},
                      {"worker", worker.lease.key.worker},
                      {"state", scheduler::name_of(worker.lease.state)},
                      {"holder", worker.lease.holder.base58()},
                      {"epoch", worker.lease.epoch},
                      {"attempt", worker.attempt},
                      {"pid", worker.pid}});
  }
  co_return json{
      {"time", parts_.clock->unix_time()}, {"runs", std::move(list)}, {"hosted", std::move(hosted)}};
}

asio::awaitable<Result<json>> Api::submit(Request request) {
  if (!request.body.contains("job")) co_return Error{ErrorCode::Invalid, "the request has no job"};
  const auto spec = job::from_json(request.body["job"]);
  if (!spec) co_return spec.error();
  auto files = files_of(request.body);
  if (!files) co_return files.error();
  // Who has joined a moment ago is to be asked, too.
  (void)co_await parts_.board->read(parts_.clock->now() + std::chrono::seconds(2));
  auto id = parts_.coordinator->submit(*spec, std::move(*files));
  if (!id) co_return id.error();
  co_return json{{"run", *id}};
}

asio::awaitable<Result<json>> Api::run(Request request) {
  const auto found = parts_.coordinator->run(request.parameter("id"));
  if (!found) co_return no_run(request.parameter("id"));
  co_return scheduler::to_json(*found);
}

asio::awaitable<Result<json>> Api::stop_run(Request request) {
  const auto id = request.parameter("id");
  if (const auto stopped = parts_.coordinator->stop_run(id); !stopped) co_return stopped.error();
  const auto found = parts_.coordinator->run(id);
  if (!found) co_return no_run(id);
  co_return scheduler::to_json(*found);
}

asio::awaitable<Result<json>> Api::remove_run(Request request) {
  const auto removed = parts_.coordinator->remove_run(request.parameter("id"));
  if (!removed) co_return removed.error();
  co_return json::object();
}

asio::awaitable<Result<json>> Api::events(Request request) {
  const auto since = number_of(request.parameter("since"), "since", 0);
  if (!since) co_return since.error();
  const auto limit = number_of(request.parameter("limit"), "limit", kEventsMax);
  if (!limit) co_return limit.error();
  const auto id = request.parameter("id");
  if (!parts_.coordinator->run(id)) co_return no_run(id);
  const auto found = parts_.coordinator->events(
      id, *since, static_cast<std::size_t>(std::min<std::uint64_t>(*limit, kEventsMax)));
  if (!found) co_return found.error();
  json list = json::array();
  std::uint64_t last = *since;
  for (const auto& event : *found) {
    list.push_back(scheduler::to_json(event));
    last = event.sequence;
  }
  co_return json{{"events", std::move(list)}, {"last", last}};
}

asio::awaitable<Result<void>> Api::follow_events(Request request, EventStream& stream) {
  const auto id = request.parameter("id");
  const auto since = number_of(request.parameter("since"), "since", 0);
  if (!since) co_return since.error();
  if (!parts_.coordinator->run(id)) co_return no_run(id);
  // The store is the queue: a notice of something new only says that it is worth a look.
  Notification news(co_await asio::this_coro::executor);
  bool fresh = true;
  const auto subscription = parts_.coordinator->subscribe(id, [&news, &fresh](const scheduler::Event&) {
    fresh = true;
    news.notify_all();
  });
  std::uint64_t last = *since;
  for (;;) {
    while (!fresh) co_await news.wait();
    fresh = false;
    const auto run = parts_.coordinator->run(id);
    const bool over = !run || is_over(run->state);
    for (;;) {
      const auto found = parts_.coordinator->events(id, last, 256);
      if (!found) co_return found.error();
      for (const auto& event : *found) {
        if (const auto sent = co_await stream.send("event", scheduler::to_json(event)); !sent) co_return sent;
        last = event.sequence;
      }
      if (found->size() < 256) break;
    }
    if (over && !fresh)
      co_return co_await stream.send("end", run ? scheduler::to_json(*run) : json::object());
  }
}

asio::awaitable<Result<void>> Api::logs(Request request, EventStream& stream) {
  const auto id = request.parameter("id");
  const bool follow = request.parameter("follow") == "true";
  const auto only = number_of(request.parameter("worker"), "worker", UINT32_MAX);
  if (!only) co_return only.error();
  auto from = parse_cursors(request.parameter("from"));
  if (!from) co_return from.error();

  std::vector<LogReader> readers;
  for (;;) {
    const auto run = parts_.coordinator->run(id);
    if (!run) co_return no_run(id);
    for (const auto& worker : run->workers) {
      const bool known = std::any_of(readers.begin(), readers.end(),
                                     [&](const LogReader& reader) { return reader.worker == worker.worker; });
      if (!known && (*only == UINT32_MAX || *only == worker.worker))
        readers.push_back({worker.worker, (*from)[worker.worker], false});
    }
    if (readers.empty() && *only != UINT32_MAX && !run->workers.empty()) {
      co_return Error{ErrorCode::NotFound, fmt::format("run {} has no worker {}; its workers are 0 to {}", id,
                                                       *only, run->workers.size() - 1)};
    }
    std::vector<LogLine> lines;
    for (auto& reader : readers) {
      if (reader.ended) continue;
      auto page = co_await parts_.coordinator->read_log(id, reader.worker, reader.next, kLogBytes,
                                                        std::chrono::milliseconds(0));
      if (!page) co_return page.error();
      reader.next = page->next;
      reader.ended = page->ended;
      const auto cursor = cursor_text(reader.worker, reader.next);
      for (auto& frame : page->frames) lines.push_back({reader.worker, std::move(frame), ""});
      if (!page->frames.empty()) lines.back().cursor = cursor;
    }
    std::sort(lines.begin(), lines.end(), [](const LogLine& a, const LogLine& b) {
      return std::make_tuple(a.frame.frame.unix_time, a.worker, a.frame.attempt, a.frame.frame.offset) <
             std::make_tuple(b.frame.frame.unix_time, b.worker, b.frame.attempt, b.frame.frame.offset);
    });
    for (const auto& line : lines) {
      const auto& frame = line.frame.frame;
      json data{{"worker", line.worker},
                {"attempt", line.frame.attempt},
                {"node_name", line.frame.node_name},
                {"offset", frame.offset},
                {"stream", frame.stream},
                {"time", frame.unix_time},
                {"content", identity::base64_encode(frame.bytes)}};
      if (!line.cursor.empty()) data["cursor"] = line.cursor;
      if (const auto sent = co_await stream.send("log", std::move(data)); !sent) co_return sent;
    }
    const bool all_ended =
        is_over(run->state) &&
        std::all_of(readers.begin(), readers.end(), [](const LogReader& reader) { return reader.ended; });
    if (lines.empty() && (!follow || all_ended)) co_return co_await stream.send("end", json::object());
    if (lines.empty()) co_await parts_.clock->sleep_for(kLogWait);
  }
}

asio::awaitable<Result<void>> Api::top(Request request, EventStream& stream) {
  const auto id = request.parameter("run");
  for (;;) {
    json runs = json::array();
    if (!id.empty()) {
      const auto run = parts_.coordinator->run(id);
      if (!run) co_return no_run(id);
      runs.push_back(scheduler::to_json(*run));
    } else {
      for (const auto& run : parts_.coordinator->runs()) runs.push_back(scheduler::to_json(run));
    }
    json snapshot{
        {"time", parts_.clock->unix_time()}, {"run", id}, {"nodes", nodes_now()}, {"runs", std::move(runs)}};
    if (const auto sent = co_await stream.send("top", std::move(snapshot)); !sent) co_return sent;
    co_await parts_.clock->sleep_for(kTopInterval);
  }
}

}  // namespace hivemetal::node
