#include "dht/calls.h"

#include <algorithm>
#include <string>

#include <boost/asio/post.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "dht/responder.h"

namespace hivemetal::dht {

namespace {

// True if the peer itself answered, though not what we wanted.
bool is_alive(const Error& error) {
  return error.code == ErrorCode::Refused || error.code == ErrorCode::Invalid;
}

// Takes as many items as fit into one request.
template <class Pending>
std::vector<Pending> take(std::deque<Pending>& queue, std::size_t count_max, std::size_t bytes_max,
                          auto bytes_of) {
  std::vector<Pending> batch;
  for (std::size_t bytes = 0; !queue.empty() && batch.size() < count_max;) {
    bytes += bytes_of(queue.front());
    if (!batch.empty() && bytes > bytes_max) break;
    batch.push_back(std::move(queue.front()));
    queue.pop_front();
  }
  return batch;
}

}  // namespace

Calls::Calls(asio::any_io_executor executor, Clock& clock, p2p::Network& network, const DhtOptions& options,
             NodeState& state, Heard heard)
    : executor_(executor),
      clock_(clock),
      network_(network),
      options_(options),
      state_(state),
      heard_(std::move(heard)),
      blacklist_(options.blacklist_time, options.blacklist_backoff),
      lines_(executor, clock, network),
      landed_(executor),
      tasks_(executor) {}

void Calls::find(const PeerId& peer, DhtId key, FindDone::Function done) {
  if (closed_) return done(Error{ErrorCode::Cancelled, "the DHT node is stopping"});
  Outbox& outbox = outboxes_[peer];
  outbox.finds.push_back({key, FindDone(std::move(done))});
  if (outbox.find_senders >= options_.requests_per_peer) return;
  ++outbox.find_senders;
  tasks_.spawn("dht find", send_finds(peer));
}

void Calls::store(const PeerId& peer, StoreItem item, StoreDone::Function done) {
  if (closed_) return done(Error{ErrorCode::Cancelled, "the DHT node is stopping"});
  Outbox& outbox = outboxes_[peer];
  outbox.stores.push_back({std::move(item), StoreDone(std::move(done))});
  if (outbox.store_senders >= options_.requests_per_peer) return;
  ++outbox.store_senders;
  tasks_.spawn("dht store", send_stores(peer));
}

asio::awaitable<void> Calls::send_finds(PeerId peer) {
  co_await asio::post(executor_, asio::use_awaitable);  // whoever wants this peer in the same turn joins in
  for (;;) {
    auto batch = take(outboxes_[peer].finds, options_.keys_per_request, SIZE_MAX,
                      [](const PendingFind&) -> std::size_t { return DhtId::kBytes; });
    if (batch.empty()) break;
    FindRequest request{state_.announced_id(), {}};
    for (const PendingFind& pending : batch) {
      if (std::ranges::find(request.keys, pending.key) == request.keys.end())
        request.keys.push_back(pending.key);
    }
    auto bytes = co_await call(peer, kFind, encode(request), clock_.now() + options_.rpc_timeout);
    auto reply = bytes ? decode_find_reply(*bytes) : Result<FindReply>(bytes.error());
    if (reply && reply->results.size() != request.keys.size()) {
      reply = Error{ErrorCode::Invalid, "the peer answered about " + std::to_string(reply->results.size()) +
                                            " of " + std::to_string(request.keys.size()) + " keys"};
    }
    deliver(peer, request.keys, std::move(batch), std::move(reply));
  }
  --outboxes_[peer].find_senders;
  forget_if_idle(peer);
}

void Calls::deliver(const PeerId& peer, const std::vector<DhtId>& keys, std::vector<PendingFind> batch,
                    Result<FindReply> reply) {
  if (!reply) {
    blacklist_.failed(peer, clock_.now());
    not_answered(peer, reply.error());
    // Whoever waits for the same peer would only wait for the same failure.
    auto& waiting = outboxes_[peer].finds;
    std::ranges::move(waiting, std::back_inserter(batch));
    waiting.clear();
    for (PendingFind& pending : batch) pending.done(reply.error());
    return;
  }
  blacklist_.answered(peer);
  heard_(peer, reply->sender, true);
  std::vector<FindAnswer> answers;
  for (std::size_t i = 0; i < keys.size(); ++i) {
    answers.push_back(answer_of(keys[i], reply->sender, std::move(reply->results[i])));
  }
  const bool one_each = batch.size() == keys.size();  // in the same order then
  for (std::size_t i = 0; i < batch.size(); ++i) {
    if (one_each) {
      batch[i].done(std::move(answers[i]));
    } else {
      batch[i].done(answers[static_cast<std::size_t>(std::ranges::find(keys, batch[i].key) - keys.begin())]);
    }
  }
}

FindAnswer Calls::answer_of(const DhtId& key, std::optional<DhtId> sender, FindResult result) const {
  FindAnswer answer{sender, {}, std::move(result.neighbours)};
  const double now = clock_.unix_time();
  std::erase_if(answer.neighbours, [this](const Node& node) { return blacklisted(node.peer); });
  if (auto* value = std::get_if<TimedBytes>(&result.found)) {
    const bool valid =
        state_.validators.validate({key.bytes(), Bytes(kRegularTag), value->value, value->expiration});
    if (valid && value->expiration >= now) answer.item = Item{std::move(value->value), value->expiration};
  } else if (auto* sent = std::get_if<SentDictionary>(&result.found)) {
    if (!all_valid(state_.validators, key, sent->entries)) return answer;
    Dictionary dictionary;
    for (const auto& [subkey, entry] : sent->entries) {
      if (entry.expiration >= now) dictionary.put(subkey, entry);
    }
    if (dictionary.entries.empty()) return answer;
    const double latest = dictionary.latest;
    answer.item = Item{std::move(dictionary), latest};
  }
  return answer;
}

asio::awaitable<void> Calls::send_stores(PeerId peer) {
  co_await asio::post(executor_, asio::use_awaitable);
  for (;;) {
    auto batch = take(
        outboxes_[peer].stores, SIZE_MAX, options_.store_bytes_max,
        [](const PendingStore& pending) { return pending.item.tag.size() + pending.item.value.size() + 64; });
    if (batch.empty()) break;
    std::vector<StoreItem> items;
    for (const PendingStore& pending : batch) items.push_back(pending.item);
    const auto stored = co_await call_store(peer, std::move(items));
    if (!stored && stored.error().code == ErrorCode::Refused && batch.size() > 1) {
      // One item that Python chokes on costs all of them their answer.
      co_await store_one_by_one(peer, std::move(batch));
      continue;
    }
    for (std::size_t i = 0; i < batch.size(); ++i) {
      batch[i].done(stored ? Result<bool>(i < stored->size() && (*stored)[i]) : stored.error());
    }
  }
  --outboxes_[peer].store_senders;
  forget_if_idle(peer);
}

asio::awaitable<void> Calls::store_one_by_one(PeerId peer, std::vector<PendingStore> batch) {
  for (PendingStore& pending : batch) {
    std::vector<StoreItem> one;
    one.push_back(std::move(pending.item));
    const auto stored = co_await call_store(peer, std::move(one));
    pending.done(stored ? Result<bool>(!stored->empty() && stored->front()) : stored.error());
  }
}

asio::awaitable<Result<std::vector<bool>>> Calls::call_store(PeerId peer, std::vector<StoreItem> items) {
  const StoreRequest request{state_.announced_id(), std::move(items)};
  const auto bytes = co_await call(peer, kStore, encode(request), clock_.now() + options_.rpc_timeout);
  auto reply = bytes ? decode_store_reply(*bytes) : Result<StoreReply>(bytes.error());
  if (!reply) {
    not_answered(peer, reply.error());
    co_return reply.error();
  }
  heard_(peer, reply->sender, true);
  co_return std::move(reply->stored);
}

asio::awaitable<Result<PingOutcome>> Calls::ping(PeerId peer, bool validate, Clock::TimePoint deadline) {
  const double asked = clock_.unix_time();
  const auto bytes =
      co_await call(peer, kPing, encode(PingRequest{state_.announced_id(), validate}), deadline);
  const auto reply = bytes ? decode_ping_reply(*bytes) : Result<PingReply>(bytes.error());
  if (!reply) {
    not_answered(peer, reply.error());
    co_return reply.error();
  }
  heard_(peer, reply->sender, true);
  const auto time = reply->time == 0 ? std::nullopt : std::optional(reply->time);
  co_return PingOutcome{reply->sender, reply->available, time, asked, clock_.unix_time()};
}

asio::awaitable<Result<Bytes>> Calls::call(PeerId peer, std::string_view handle, Bytes request,
                                           Clock::TimePoint deadline) {
  while (in_flight_ >= options_.requests_max) co_await landed_.wait();
  struct Flight {
    Calls& calls;
    explicit Flight(Calls& calls) : calls(calls) { ++calls.in_flight_; }
    ~Flight() {
      --calls.in_flight_;
      calls.landed_.notify_all();
    }
  } const flight(*this);
  ++sent_;
  // A ping shows that a peer can be reached in the way that stock nodes use, so it never takes a line.
  auto reply = handle == kPing
                   ? co_await network_.call(peer, std::string(handle), std::move(request), deadline)
                   : co_await lines_.call(peer, handle, std::move(request), deadline);
  if (!reply) ++failed_;
  co_return reply;
}

void Calls::not_answered(const PeerId& peer, const Error& error) {
  if (!is_alive(error) && error.code != ErrorCode::Cancelled) heard_(peer, std::nullopt, false);
}

void Calls::forget_if_idle(const PeerId& peer) {
  const auto found = outboxes_.find(peer);
  if (found == outboxes_.end()) return;
  const Outbox& outbox = found->second;
  const bool idle = outbox.find_senders == 0 && outbox.store_senders == 0;
  if (idle && outbox.finds.empty() && outbox.stores.empty()) outboxes_.erase(found);
}

asio::awaitable<void> Calls::close() {
  closed_ = true;
  co_await lines_.close();
  co_await tasks_.close();
  outboxes_.clear();
}

}  // namespace hivemetal::dht
