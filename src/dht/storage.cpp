#include "dht/storage.h"

#include <algorithm>
#include <limits>
#include <utility>

namespace hivemetal::dht {

namespace {

constexpr double kLongAgo = -std::numeric_limits<double>::infinity();
constexpr std::size_t kBytesPerEntry = 160;  // nodes of the two trees

std::size_t bytes_of(std::size_t subkey, std::size_t value) { return subkey + value + kBytesPerEntry; }

}  // namespace

Dictionary::Dictionary() : latest(kLongAgo) {}

bool Dictionary::put(const Bytes& subkey, const TimedBytes& entry) {
  latest = std::max(latest, entry.expiration);
  const auto [held, is_new] = entries.try_emplace(subkey, entry);
  if (is_new) return true;
  if (held->second.expiration >= entry.expiration) return false;
  held->second = entry;
  return true;
}

void Dictionary::merge(const Dictionary& other) {
  for (const auto& [subkey, entry] : other.entries) put(subkey, entry);
  latest = std::max(latest, other.latest);
}

void Dictionary::remove_expired(double now) {
  std::erase_if(entries, [now](const auto& entry) { return entry.second.expiration < now; });
}

bool LocalStorage::store(const DhtId& key, Bytes value, double expiration, double now) {
  remove_expired(now);
  if (!(expiration >= now)) return false;  // NaN as well
  if (const auto held = held_.find(key); held != held_.end()) {
    if (!(expiration > held->second.item.expiration)) return false;
    drop_all(key);
  }
  const Slot slot{expiration, key, false, {}};
  Held& held = held_[key];
  held.item = {Bytes(), expiration};
  add(held, slot, std::move(value));
  make_room();
  return holds(slot);
}

bool LocalStorage::store_subkey(const DhtId& key, const Bytes& subkey, Bytes value, double expiration,
                                double now) {
  remove_expired(now);
  if (!(expiration >= now)) return false;
  const Slot slot{expiration, key, true, subkey};
  if (const auto held = held_.find(key); held != held_.end()) {
    const Dictionary* dictionary = held->second.item.dictionary();
    if (dictionary == nullptr) {
      if (!(expiration > held->second.item.expiration)) return false;
      drop_all(key);
    } else if (const auto old = dictionary->entries.find(subkey); old != dictionary->entries.end()) {
      if (!(expiration > old->second.expiration)) return false;
      drop({old->second.expiration, key, true, subkey});
    }
  }
  const auto [held, is_new] = held_.try_emplace(key, Held{{Dictionary(), kLongAgo}, 0});
  add(held->second, slot, std::move(value));
  trim_dictionary(key);
  make_room();
  return holds(slot);
}

bool LocalStorage::store_dictionary(const DhtId& key, const EntryList& entries, double now) {
  return std::ranges::all_of(entries, [&](const auto& entry) {
    return store_subkey(key, entry.first, entry.second.value, entry.second.expiration, now);
  });
}

void LocalStorage::merge(const DhtId& key, const Item& item, double now) {
  if (const Dictionary* dictionary = item.dictionary()) {
    for (const auto& [subkey, entry] : dictionary->entries) {
      store_subkey(key, subkey, entry.value, entry.expiration, now);
    }
  } else {
    store(key, std::get<Bytes>(item.value), item.expiration, now);
  }
}

const Item* LocalStorage::find(const DhtId& key, double now) {
  remove_expired(now);
  const auto held = held_.find(key);
  return held == held_.end() ? nullptr : &held->second.item;
}

std::vector<DhtId> LocalStorage::keys(double now) {
  remove_expired(now);
  std::vector<DhtId> keys;
  keys.reserve(held_.size());
  for (const auto& [key, held] : held_) keys.push_back(key);
  return keys;
}

void LocalStorage::remove_expired(double now) {
  while (!by_expiration_.empty() && by_expiration_.begin()->expiration < now) {
    drop(Slot(*by_expiration_.begin()));
  }
}

void LocalStorage::add(Held& held, Slot slot, Bytes value) {
  const std::size_t bytes = bytes_of(slot.subkey.size(), value.size());
  held.bytes += bytes;
  bytes_ += bytes;
  held.item.expiration = std::max(held.item.expiration, slot.expiration);
  if (auto* dictionary = std::get_if<Dictionary>(&held.item.value)) {
    dictionary->put(slot.subkey, {std::move(value), slot.expiration});
  } else {
    held.item.value = std::move(value);
  }
  by_expiration_.insert(std::move(slot));
}

void LocalStorage::drop(const Slot& slot) {
  const auto held = held_.find(slot.key);
  std::size_t bytes = 0;
  bool empty = true;
  if (auto* dictionary = std::get_if<Dictionary>(&held->second.item.value)) {
    const auto entry = dictionary->entries.find(slot.subkey);
    bytes = bytes_of(slot.subkey.size(), entry->second.value.size());
    dictionary->entries.erase(entry);
    empty = dictionary->entries.empty();
  } else {
    bytes = bytes_of(0, std::get<Bytes>(held->second.item.value).size());
  }
  bytes_ -= bytes;
  held->second.bytes -= bytes;
  by_expiration_.erase(slot);
  if (empty) held_.erase(held);
}

void LocalStorage::drop_all(const DhtId& key) {
  const auto held = held_.find(key);
  if (const Dictionary* dictionary = held->second.item.dictionary()) {
    for (const auto& [subkey, entry] : dictionary->entries) {
      by_expiration_.erase({entry.expiration, key, true, subkey});
    }
  } else {
    by_expiration_.erase({held->second.item.expiration, key, false, {}});
  }
  bytes_ -= held->second.bytes;
  held_.erase(held);
}

void LocalStorage::make_room() {
  while (!by_expiration_.empty() &&
         (bytes_ > limits_.bytes_max || by_expiration_.size() > limits_.entries_max)) {
    drop(Slot(*by_expiration_.begin()));
  }
}

void LocalStorage::trim_dictionary(const DhtId& key) {
  for (auto held = held_.find(key); held != held_.end() && held->second.bytes > limits_.dictionary_bytes_max;
       held = held_.find(key)) {
    const auto& entries = held->second.item.dictionary()->entries;
    const auto first = std::ranges::min_element(
        entries, {}, [](const auto& entry) { return std::pair(entry.second.expiration, entry.first); });
    drop({first->second.expiration, key, true, first->first});
  }
}

}  // namespace hivemetal::dht
