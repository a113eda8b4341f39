// Getting: searches for records, and what is kept of them in caches.
#include <algorithm>
#include <utility>

#include "dht/dht.h"

namespace hivemetal::dht {

namespace {

constexpr std::size_t kRefreshesMax = 1024;  // keys that wait for their refresh
constexpr double kRefreshSecondsMax = 1e7;

Clock::Duration seconds(double seconds) {
  const std::chrono::duration<double> bounded(std::clamp(seconds, 0.0, kRefreshSecondsMax));
  return std::chrono::duration_cast<Clock::Duration>(bounded);
}

}  // namespace

asio::awaitable<Result<std::optional<Found>>> Dht::get(wire::Value key, bool latest) {
  std::vector<wire::Value> keys;
  keys.push_back(std::move(key));
  co_return std::move((co_await get_many(std::move(keys), latest)).front());
}

asio::awaitable<std::vector<Result<std::optional<Found>>>> Dht::get_many(std::vector<wire::Value> keys,
                                                                         bool latest) {
  struct Get {
    DhtId key;
    std::optional<Item> own;
    std::shared_ptr<Lookup> lookup;
  };
  std::vector<Get> gets;
  for (const wire::Value& key : keys) {
    Get get{DhtId::of_key(key), {}, {}};
    get.own = own_item(get.key, true);
    if (latest || !get.own) {
      Lookup::Goal goal;
      if (latest) {
        goal.quorum = options_.read_quorum;
        goal.replicas = options_.replicas;
        if (!options_.client_mode) goal.self = state_.id;
      } else {
        goal.sufficient = clock_.unix_time();
      }
      get.lookup = start_lookup(get.key, goal);
    } else {
      refresh_before_expiry(get.key, get.own->expiration);
    }
    gets.push_back(std::move(get));
  }

  std::vector<Result<std::optional<Found>>> results;
  for (Get& get : gets) {
    if (!get.lookup) {
      results.push_back(read(get.key, std::move(get.own)));
      continue;
    }
    co_await finish_lookup(get.lookup);
    if (!get.lookup->best() && calls_.closed()) {
      results.push_back(Error{ErrorCode::Cancelled, "the DHT node is stopping"});
      continue;
    }
    auto found = get.lookup->best();
    if (get.own && found) merge_into(found, *get.own);
    cache_found(get.key, *get.lookup);
    results.push_back(read(get.key, found ? std::move(found) : std::move(get.own)));
  }
  co_return results;
}

std::optional<Item> Dht::own_item(const DhtId& key, bool with_cache) {
  const double now = clock_.unix_time();
  std::optional<Item> own;
  if (const Item* item = state_.storage.find(key, now)) own = *item;
  if (const Item* item = with_cache ? state_.cache.find(key, now) : nullptr) merge_into(own, *item);
  return own;
}

std::shared_ptr<Lookup> Dht::start_lookup(const DhtId& key, Lookup::Goal goal) {
  BeamSearch search(key, state_.id, state_.peer, options_.bucket_size);
  auto nodes = state_.table.nearest(key, options_.bucket_size);
  search.add(nodes);
  auto lookup = std::make_shared<Lookup>(executor_, clock_, calls_, std::move(search), options_.asked_at_once,
                                         goal, clock_.now() + options_.search_timeout);
  if (goal.self) {
    if (const auto own = own_item(key, false)) lookup->add_own(*own);
  }
  Lookup::start(lookup);
  return lookup;
}

asio::awaitable<void> Dht::finish_lookup(std::shared_ptr<Lookup> lookup) {
  co_await Lookup::wait(lookup);
  const bool all = lookup->saw_everybody() && lookup->search().asked() > 0;
  if (all && lookup->search().asked() < options_.bucket_size) swarm_seen_ = clock_.now();
}

bool Dht::swarm_is_known() const {
  return swarm_seen_ && clock_.now() - *swarm_seen_ < options_.swarm_known_for &&
         state_.table.size() < options_.bucket_size;
}

void Dht::cache_found(const DhtId& key, const Lookup& lookup) {
  const auto& item = lookup.best();
  const double now = clock_.unix_time();
  if (!item || item->expiration < now) return;
  for (LocalStorage* own : {&state_.storage, &state_.cache}) {
    const Item* held = own->find(key, now);
    if (held != nullptr && held->expiration >= item->expiration) return;
  }
  if (options_.cache_locally) state_.cache.merge(key, *item, now);
  if (options_.cache_nearest == 0) return;
  const auto node = lookup.nearest_without_best();
  if (!node) return;
  StoreItem sent{key, Bytes(kRegularTag), {}, item->expiration, true};
  if (const Dictionary* dictionary = item->dictionary()) {
    sent.tag = kDictionaryTag;
    sent.value = encode_dictionary(dictionary->list(), dictionary->latest);
  } else {
    sent.value = std::get<Bytes>(item->value);
  }
  calls_.store(node->peer, std::move(sent), [](const Result<bool>&) {});
}

void Dht::refresh_before_expiry(const DhtId& key, double expiration) {
  if (options_.cache_refresh_before_expiry <= Clock::Duration::zero()) return;
  if (state_.cache.find(key, clock_.unix_time()) == nullptr) return;
  refresh_at(key, expiration - std::chrono::duration<double>(options_.cache_refresh_before_expiry).count());
}

void Dht::refresh_at(const DhtId& key, double time) {
  if (refreshing_.size() >= kRefreshesMax || !refreshing_.insert(key).second) return;
  tasks_.spawn("dht refresh", refresh(key, clock_.now() + seconds(time - clock_.unix_time())));
}

asio::awaitable<void> Dht::refresh(DhtId key, Clock::TimePoint time) {
  co_await clock_.sleep_until(time);
  refreshing_.erase(key);
  const auto lookup = start_lookup(key, {});
  co_await finish_lookup(lookup);
  if (lookup->best()) state_.cache.merge(key, *lookup->best(), clock_.unix_time());
}

Result<std::optional<Found>> Dht::read(const DhtId& key, std::optional<Item> item) const {
  if (!item) return std::optional<Found>();
  Found found;
  const double now = clock_.unix_time();
  if (const Dictionary* dictionary = item->dictionary()) {
    for (const auto& [tag, entry] : dictionary->entries) {
      if (entry.expiration < now) continue;
      auto subkey = wire::decode(tag);
      auto value = wire::decode(state_.validators.strip({key.bytes(), tag, entry.value, entry.expiration}));
      // One broken entry is its writer's problem, not that of whoever reads the others.
      if (subkey && value) found.entries.push_back({std::move(*subkey), std::move(*value), entry.expiration});
    }
    if (found.entries.empty()) return std::optional<Found>();
  } else {
    const Bytes& bytes = std::get<Bytes>(item->value);
    auto value =
        wire::decode(state_.validators.strip({key.bytes(), Bytes(kRegularTag), bytes, item->expiration}));
    if (!value) return value.error().within("value of DHT key " + key.hex());
    found.regular = Stored{std::move(*value), item->expiration};
  }
  return std::optional(std::move(found));
}

}  // namespace hivemetal::dht
