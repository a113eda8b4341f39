// Storing: which nodes shall hold a record, and getting them to take it.
#include <algorithm>
#include <utility>

#include "dht/dht.h"

namespace hivemetal::dht {

namespace {

constexpr std::size_t kRecordBytesMax = 3'900'000;  // key, tag and frame still fit into 4 MiB

}  // namespace

struct Dht::Placement {
  Placement(Dht& dht, StoreItem item, std::vector<Node> candidates)
      : dht(dht),
        item(std::move(item)),
        candidates(std::move(candidates)),
        deadline(dht.clock_.now() + dht.options_.search_timeout),
        changed(dht.executor_) {}

  Dht& dht;
  StoreItem item;
  std::vector<Node> candidates;  // nearest first, ourselves among them
  Clock::TimePoint deadline;     // asks nobody after it
  std::size_t next = 0;
  std::size_t pending = 0;
  std::size_t answered = 0;
  std::size_t accepted = 0;
  std::optional<Error> error;  // of the last that did not answer
  bool finished = false;
  Notification changed;
};

asio::awaitable<Result<bool>> Dht::store(wire::Value key, std::optional<wire::Value> subkey,
                                         wire::Value value, double expiration) {
  std::vector<Put> puts;
  puts.push_back({std::move(key), std::move(subkey), std::move(value), expiration});
  co_return std::move((co_await store_many(std::move(puts))).front());
}

asio::awaitable<std::vector<Result<bool>>> Dht::store_many(std::vector<Put> puts) {
  std::vector<Result<StoreItem>> items;
  std::map<DhtId, std::shared_ptr<Lookup>> lookups;
  for (const Put& put : puts) {
    items.push_back(prepare(put));
    if (!items.back() || later_is_known(*items.back()) || swarm_is_known()) continue;
    auto& lookup = lookups[items.back()->key];
    if (!lookup) lookup = start_lookup(items.back()->key, Lookup::nodes_only());
  }
  for (const auto& [key, lookup] : lookups) co_await finish_lookup(lookup);

  std::vector<std::shared_ptr<Placement>> placements;
  for (const auto& item : items) {
    placements.push_back(nullptr);
    if (!item || later_is_known(*item)) continue;
    const auto lookup = lookups.find(item->key);
    auto nodes = lookup == lookups.end() ? state_.table.nearest(item->key, options_.bucket_size)
                                         : lookup->second->search().nearest(options_.bucket_size);
    if (!options_.client_mode) {
      const auto place =
          std::ranges::upper_bound(nodes, state_.id.distance_to(item->key), {},
                                   [&](const Node& node) { return node.id.distance_to(item->key); });
      nodes.insert(place, Node{state_.id, state_.peer});
    }
    placements.back() = std::make_shared<Placement>(*this, *item, std::move(nodes));
    advance(placements.back());
  }

  std::vector<Result<bool>> results;
  for (std::size_t i = 0; i < items.size(); ++i) {
    if (!items[i]) {
      results.push_back(items[i].error());
    } else if (!placements[i]) {
      results.push_back(false);
    } else {
      results.push_back(co_await wait(placements[i]));
      if (results.back() && options_.cache_on_store) cache_stored(*items[i], *results.back());
    }
  }
  co_return results;
}

Result<StoreItem> Dht::prepare(const Put& put) const {
  if (put.key.is_nil()) return Error{ErrorCode::Invalid, "nil cannot be a DHT key"};
  if (!(put.expiration > clock_.unix_time())) {
    return Error{ErrorCode::Invalid, "the record has expired already; is the expiration in Unix seconds?"};
  }
  StoreItem item{DhtId::of_key(put.key), Bytes(kRegularTag), wire::encode(put.value), put.expiration, false};
  if (put.subkey) {
    auto subkey = canonical_subkey(wire::encode(*put.subkey));
    if (!subkey) return subkey.error();
    if (*subkey == kRegularTag) return Error{ErrorCode::Invalid, "nil cannot be a sub-key"};
    item.tag = std::move(*subkey);
  }
  item.value = state_.validators.sign({item.key.bytes(), item.tag, item.value, item.expiration});
  if (item.tag.size() + item.value.size() > kRecordBytesMax) {
    return Error{ErrorCode::Invalid, "a record of " + std::to_string(item.tag.size() + item.value.size()) +
                                         " bytes; at most " + std::to_string(kRecordBytesMax) +
                                         " fit into a message"};
  }
  if (!state_.validators.validate({item.key.bytes(), item.tag, item.value, item.expiration})) {
    return Error{ErrorCode::Refused,
                 "our own record validators reject the record; is it signed by its owner and of "
                 "the agreed shape?"};
  }
  return item;
}

// Asks as many candidates as are still needed, until enough have answered or nobody is left.
void Dht::advance(const std::shared_ptr<Placement>& placement) {
  Placement& self = *placement;
  if (self.finished) return;
  Dht& dht = self.dht;
  if (dht.clock_.now() >= self.deadline) self.next = self.candidates.size();
  while (self.answered + self.pending < dht.options_.replicas && self.next < self.candidates.size()) {
    const Node& node = self.candidates[self.next++];
    if (node.id == dht.state_.id) {
      ++self.answered;
      self.accepted += dht.store_here(self.item);
      continue;
    }
    if (dht.calls_.blacklisted(node.peer)) continue;
    ++self.pending;
    dht.calls_.store(node.peer, self.item, [placement](Result<bool> stored) {
      --placement->pending;
      placement->answered += stored.has_value();
      placement->accepted += stored && *stored;
      if (!stored) placement->error = stored.error();
      if (!stored && stored.error().code == ErrorCode::Cancelled)
        placement->next = placement->candidates.size();
      advance(placement);
    });
  }
  if (self.pending > 0) return;
  self.finished = true;
  self.changed.notify_all();
}

asio::awaitable<Result<bool>> Dht::wait(std::shared_ptr<Placement> placement) {
  while (!placement->finished) co_await placement->changed.wait();
  if (placement->answered > 0) co_return placement->accepted * 2 > placement->answered;
  if (placement->error && placement->error->code == ErrorCode::Cancelled) co_return *placement->error;
  const std::string why = placement->error ? placement->error->message : "we know none";
  co_return Error{ErrorCode::Unavailable, "no node took the record: " + why};
}

// A stock node that refuses a record drops the later one it holds when the refused one's time is over. So
// what is known to be refused is not sent.
bool Dht::later_is_known(const StoreItem& item) {
  const auto own = own_item(item.key, true);
  if (!own) return false;
  const Dictionary* dictionary = item.tag == kRegularTag ? nullptr : own->dictionary();
  if (dictionary == nullptr) return own->expiration > item.expiration;
  const auto entry = dictionary->entries.find(item.tag);
  return entry != dictionary->entries.end() && entry->second.expiration > item.expiration;
}

bool Dht::store_here(const StoreItem& item) {
  const auto stored = responder_.store(item, clock_.unix_time());
  return stored && *stored;
}

void Dht::cache_stored(const StoreItem& item, bool accepted) {
  const double now = clock_.unix_time();
  const Item* cached = state_.cache.find(item.key, now);
  if (item.tag == kRegularTag) {
    if (accepted) {
      state_.cache.store(item.key, item.value, item.expiration, now);
    } else if (cached != nullptr && cached->expiration <= item.expiration) {
      refresh_at(item.key, now);  // others hold something newer than our cache
    }
  } else if (cached != nullptr) {
    if (accepted) state_.cache.store_subkey(item.key, item.tag, item.value, item.expiration, now);
    refresh_at(item.key, now);  // there may be sub-keys of others
  }
}

}  // namespace hivemetal::dht
