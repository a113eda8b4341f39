#include "dht/responder.h"

#include <algorithm>
#include <utility>

namespace hivemetal::dht {

namespace {

FindResult result_of(const Item& item, double now) {
  FindResult result;
  result.expiration = item.expiration;
  if (const Dictionary* dictionary = item.dictionary()) {
    SentDictionary sent{{}, dictionary->latest};
    for (const auto& [subkey, entry] : dictionary->entries) {
      if (entry.expiration >= now) sent.entries.emplace_back(subkey, entry);
    }
    result.found = std::move(sent);
  } else {
    result.found = TimedBytes{std::get<Bytes>(item.value), item.expiration};
  }
  return result;
}

}  // namespace

bool all_valid(const ValidatorChain& validators, const DhtId& key, const EntryList& entries) {
  if (validators.empty()) return true;
  return std::ranges::all_of(entries, [&](const auto& entry) {
    return validators.validate({key.bytes(), entry.first, entry.second.value, entry.second.expiration});
  });
}

Result<bool> Responder::store(const StoreItem& item, double now) {
  LocalStorage& storage = item.in_cache ? state_.cache : state_.storage;
  if (item.tag == kDictionaryTag) return store_dictionary(item, storage, now);
  if (!state_.validators.validate({item.key.bytes(), item.tag, item.value, item.expiration})) return false;
  if (item.tag == kRegularTag) return storage.store(item.key, item.value, item.expiration, now);
  auto subkey = canonical_subkey(item.tag);
  if (!subkey) return subkey.error();
  return storage.store_subkey(item.key, *subkey, item.value, item.expiration, now);
}

Result<bool> Responder::store_dictionary(const StoreItem& item, LocalStorage& storage, double now) {
  const auto dictionary = decode_dictionary(item.value);
  if (!dictionary) return dictionary.error();
  if (!all_valid(state_.validators, item.key, dictionary->entries)) return false;
  return storage.store_dictionary(item.key, dictionary->entries, now);
}

FindReply Responder::find(const FindRequest& request, double now) {
  FindReply reply{state_.announced_id(), {}};
  reply.results.reserve(request.keys.size());
  for (const DhtId& key : request.keys) {
    const Item* item = state_.storage.find(key, now);
    const Item* cached = state_.cache.find(key, now);
    if (cached != nullptr && (item == nullptr || cached->expiration > item->expiration)) item = cached;
    FindResult result = item == nullptr ? FindResult() : result_of(*item, now);
    // An absent node id reads as 0 in Python, and that is who is left out then.
    result.neighbours = state_.table.nearest(key, state_.bucket_size, request.sender.value_or(DhtId()));
    reply.results.push_back(std::move(result));
  }
  return reply;
}

}  // namespace hivemetal::dht
