#include "dht/lines.h"

#include <algorithm>
#include <array>
#include <optional>
#include <ranges>
#include <utility>
#include <vector>

#include "dht/messages.h"

namespace hivemetal::dht {

using namespace std::chrono_literals;
using p2p::PeerId;

namespace {

constexpr std::size_t kFrameBytesMax = p2p::kUnaryMessageBytesMax + 64;
constexpr std::size_t kHeadBytes = 5;
constexpr std::size_t kReadBytes = 64 * 1024;
constexpr std::size_t kLinesMax = 64;
constexpr std::size_t kKnownMax = 1024;
constexpr unsigned kCallsBefore = 2;  // a peer we ask once is not worth a line
constexpr auto kOpenTime = 3s;
constexpr auto kRetryStock = 10min;
constexpr auto kRetryFailed = 30s;

enum Kind : char { kReply = 0, kError = 1, kStoreRequest = 1, kFindRequest = 2 };

struct Frame {
  std::uint32_t id;
  char kind;
  Bytes content;
};

void append_frame(Bytes& out, std::uint32_t id, char kind, std::string_view content) {
  Bytes message;
  message.reserve(kHeadBytes + content.size());
  for (int shift = 24; shift >= 0; shift -= 8) message += static_cast<char>(id >> shift);
  message += kind;
  message += content;
  wire::append_delimited(out, message);
}

// The next whole frame; an error ends the line.
Result<std::optional<Frame>> next_frame(wire::DelimitedReader& reader) {
  auto message = reader.next();
  if (!message) return message.error();
  if (!*message) return std::optional<Frame>();
  Bytes& bytes = **message;
  if (bytes.size() < kHeadBytes) return Error{ErrorCode::Invalid, "a frame without head"};
  std::uint32_t id = 0;
  for (int i = 0; i < 4; ++i) id = id << 8 | static_cast<unsigned char>(bytes[i]);
  return std::optional(Frame{id, bytes[4], bytes.substr(kHeadBytes)});
}

}  // namespace

struct Lines::Waiting {
  Waiting(asio::any_io_executor executor, Clock::TimePoint deadline)
      : deadline(deadline), done(std::move(executor)) {}

  Clock::TimePoint deadline;
  std::optional<Result<Bytes>> reply;
  Notification done;
};

struct Lines::Line {
  std::unique_ptr<p2p::Stream> stream;
  wire::DelimitedReader reader{kFrameBytesMax};
  Bytes out;
  bool writing = false;
  bool watched = false;
  bool dropped = false;
  std::uint32_t last_id = 0;
  std::map<std::uint32_t, std::shared_ptr<Waiting>> waiting;
  Clock::TimePoint last_used{};
  TaskGroup::TaskId reading = 0;
};

Lines::Lines(asio::any_io_executor executor, Clock& clock, p2p::Network& network)
    : executor_(executor), clock_(clock), network_(network), tasks_(executor) {}

Lines::Known& Lines::known(const PeerId& peer) {
  if (known_.size() >= kKnownMax && !known_.contains(peer)) {
    std::erase_if(known_, [](const auto& entry) { return !entry.second.line && !entry.second.opening; });
  }
  return known_[peer];
}

asio::awaitable<Result<Bytes>> Lines::call(PeerId peer, std::string_view handle, Bytes request,
                                           Clock::TimePoint deadline) {
  Known& peer_known = known(peer);
  if (peer_known.line) co_return co_await ask(peer, peer_known.line, handle, std::move(request), deadline);
  if (++peer_known.calls >= kCallsBefore) prepare(peer);
  co_return co_await network_.call(std::move(peer), std::string(handle), std::move(request), deadline);
}

void Lines::prepare(const PeerId& peer) {
  Known& peer_known = known(peer);
  if (peer_known.line || peer_known.opening || clock_.now() < peer_known.none_until) return;
  peer_known.opening = true;
  tasks_.spawn("dht line", open_line(peer));
}

asio::awaitable<void> Lines::open_line(PeerId peer) {
  if (open_ >= kLinesMax) {
    // The one not used for longest makes room, if it is idle.
    auto oldest = known_.end();
    for (auto it = known_.begin(); it != known_.end(); ++it) {
      if (!it->second.line || !it->second.line->waiting.empty()) continue;
      if (oldest == known_.end() || it->second.line->last_used < oldest->second.line->last_used) oldest = it;
    }
    if (oldest != known_.end())
      drop(PeerId(oldest->first), std::shared_ptr(oldest->second.line), {ErrorCode::Unavailable, "idle"});
  }
  auto stream = co_await network_.open_stream(peer, std::string(kLineProtocol), clock_.now() + kOpenTime);
  Known& now_known = known(peer);
  now_known.opening = false;
  if (!stream) {
    now_known.none_until =
        clock_.now() + (stream.error().code == ErrorCode::NotFound ? Clock::Duration(kRetryStock)
                                                                   : Clock::Duration(kRetryFailed));
    co_return;
  }
  const auto line = std::make_shared<Line>();
  line->stream = std::move(*stream);
  line->last_used = clock_.now();
  now_known.line = line;
  ++open_;
  line->reading = tasks_.spawn("dht line in", read_in(peer, line));
}

asio::awaitable<Result<Bytes>> Lines::ask(PeerId peer, std::shared_ptr<Line> line, std::string_view handle,
                                          Bytes request, Clock::TimePoint deadline) {
  const auto waiting = std::make_shared<Waiting>(executor_, deadline);
  const std::uint32_t id = ++line->last_id;
  line->waiting[id] = waiting;
  line->last_used = clock_.now();
  append_frame(line->out, id, handle == kStore ? kStoreRequest : kFindRequest, request);
  if (!std::exchange(line->watched, true)) tasks_.spawn("dht line watch", watch(peer, line));
  if (!std::exchange(line->writing, true))
    co_await write_out(peer, line);  // and what others append meanwhile
  while (!waiting->reply) co_await waiting->done.wait();
  co_return std::move(*waiting->reply);
}

// Drops the line when a reply is overdue. One watch for all requests: a timer for each costs more than the
// request.
asio::awaitable<void> Lines::watch(PeerId peer, std::shared_ptr<Line> line) {
  const auto deadline_of = [](const auto& entry) { return entry.second->deadline; };
  while (!line->waiting.empty()) {
    co_await clock_.sleep_until(std::ranges::min(line->waiting | std::views::transform(deadline_of)));
    const auto overdue = [&, now = clock_.now()](const auto& entry) { return deadline_of(entry) <= now; };
    if (!std::ranges::any_of(line->waiting, overdue)) continue;
    drop(peer, line, {ErrorCode::TimedOut, "no answer within the deadline"});
  }
  line->watched = false;
}

asio::awaitable<void> Lines::write_out(PeerId peer, std::shared_ptr<Line> line) {
  while (!line->out.empty() && !line->dropped) {
    const Bytes bytes = std::exchange(line->out, {});
    const auto written = co_await line->stream->write(bytes);
    if (!written) drop(peer, line, written.error());
  }
  line->writing = false;
}

asio::awaitable<void> Lines::read_in(PeerId peer, std::shared_ptr<Line> line) {
  std::vector<char> buffer(kReadBytes);
  for (;;) {
    const auto size = co_await line->stream->read_some(buffer);
    if (!size || *size == 0) break;
    line->reader.feed({buffer.data(), *size});
    if (!take_replies(*line)) break;
  }
  drop(peer, line, {ErrorCode::Unavailable, "the line to the peer broke"});
}

// False if the peer breaks the protocol.
bool Lines::take_replies(Line& line) {
  for (;;) {
    auto frame = next_frame(line.reader);
    if (!frame) return false;
    if (!*frame) return true;
    const auto found = line.waiting.find((*frame)->id);
    if (found == line.waiting.end()) continue;  // nobody waits any more
    Bytes& content = (*frame)->content;
    found->second->reply = (*frame)->kind == kReply ? Result<Bytes>(std::move(content))
                                                    : Error{ErrorCode::Refused, std::move(content)};
    found->second->done.notify_all();
    line.waiting.erase(found);
  }
}

void Lines::drop(const PeerId& peer, const std::shared_ptr<Line>& line, const Error& why) {
  if (std::exchange(line->dropped, true)) return;
  --open_;
  tasks_.cancel(line->reading);
  if (const auto found = known_.find(peer); found != known_.end() && found->second.line == line) {
    found->second.line.reset();
    found->second.calls = 0;
  }
  for (const auto& [id, waiting] : line->waiting) {
    waiting->reply = why;
    waiting->done.notify_all();
  }
  line->waiting.clear();
}

asio::awaitable<void> Lines::close() {
  for (auto& [peer, peer_known] : known_) {
    if (const auto line = peer_known.line)
      drop(PeerId(peer), line, {ErrorCode::Cancelled, "the DHT node is stopping"});
  }
  co_await tasks_.close();
}

asio::awaitable<void> serve_line(std::unique_ptr<p2p::Stream> stream, LineHandler answer) {
  wire::DelimitedReader reader(kFrameBytesMax);
  std::vector<char> buffer(kReadBytes);
  for (;;) {
    const auto size = co_await stream->read_some(buffer);
    if (!size || *size == 0) break;
    reader.feed({buffer.data(), *size});
    Bytes out;
    for (;;) {
      auto frame = next_frame(reader);
      if (!frame || (*frame && (*frame)->kind != kStoreRequest && (*frame)->kind != kFindRequest)) co_return;
      if (!*frame) break;
      const auto handle = (*frame)->kind == kStoreRequest ? kStore : kFind;
      const auto reply = co_await answer(stream->peer(), handle, std::move((*frame)->content));
      append_frame(out, (*frame)->id, reply ? kReply : kError, reply ? *reply : reply.error().message);
      if (out.size() > p2p::kUnaryMessageBytesMax) {
        const Bytes part = std::exchange(out, {});
        if (!co_await stream->write(part)) co_return;
      }
    }
    if (out.empty()) continue;
    if (!co_await stream->write(out)) co_return;
  }
}

}  // namespace hivemetal::dht
