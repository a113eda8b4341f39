#include "dht/messages.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <iterator>
#include <limits>
#include <string>
#include <utility>

#include "wire/dht.pb.h"
#include "wire/msgpack.h"
#include "wire/protobuf.h"

namespace hivemetal::dht {

namespace {

namespace pb = wire::dht;

constexpr std::int8_t kDictionaryCode = 0x50;
constexpr std::size_t kNestingMax = 64;

Error invalid(std::string message) { return {ErrorCode::Invalid, std::move(message)}; }

template <class Message>
Bytes bytes_of(const Message& message) {
  return message.SerializeAsString();
}

// Every message of a node carries its id, or an empty NodeInfo in client mode.
template <class Message>
void set_sender(Message& message, const std::optional<DhtId>& sender) {
  auto* info = message.mutable_peer();
  if (sender) info->set_node_id(sender->bytes());
}

template <class Message>
Result<std::optional<DhtId>> sender_of(const Message& message) {
  if (message.peer().node_id().empty()) return std::optional<DhtId>();
  auto id = DhtId::from_bytes(message.peer().node_id());
  if (!id) return id.error().within("node id of the sender");
  return std::optional(*id);
}

Result<std::vector<DhtId>> ids_of(const google::protobuf::RepeatedPtrField<std::string>& keys) {
  std::vector<DhtId> ids;
  ids.reserve(static_cast<std::size_t>(keys.size()));
  for (const std::string& key : keys) {
    auto id = DhtId::from_bytes(key);
    if (!id) return id.error().within("key " + std::to_string(ids.size()));
    ids.push_back(*id);
  }
  return ids;
}

bool hashable_in_python(const wire::Value& value, std::size_t depth = 0) {
  if (value.as_array() != nullptr || value.as_map() != nullptr || depth > kNestingMax) return false;
  const wire::Array* tuple = value.as_tuple();
  return tuple == nullptr || std::ranges::all_of(*tuple, [depth](const auto& item) {
           return hashable_in_python(item, depth + 1);
         });
}

}  // namespace

// ---- dictionaries

Result<Bytes> canonical_subkey(std::string_view tag) {
  const auto value = wire::decode(tag);
  if (!value) return value.error().within("sub-key");
  if (!hashable_in_python(*value)) return invalid("sub-key: a list or map cannot be one");
  return wire::encode(*value);
}

namespace {

void append_big_endian(Bytes& out, std::uint64_t number, unsigned bytes) {
  for (unsigned left = bytes; left > 0; --left) out += static_cast<char>(number >> (8 * (left - 1)));
}

void append_float(Bytes& out, double number) {
  out += '\xcb';
  append_big_endian(out, std::bit_cast<std::uint64_t>(number), 8);
}

void append_bin(Bytes& out, std::string_view bytes) {
  const unsigned width = bytes.size() < 0x100 ? 0 : bytes.size() < 0x10000 ? 1 : 2;
  out += static_cast<char>(0xc4 + width);
  append_big_endian(out, bytes.size(), 1U << width);
  out += bytes;
}

void append_array_head(Bytes& out, std::size_t size) {
  if (size < 16) {
    out += static_cast<char>(0x90 + size);
    return;
  }
  const bool wide = size >= 0x10000;
  out += wide ? '\xdd' : '\xdc';
  append_big_endian(out, size, wide ? 4 : 2);
}

}  // namespace

// Written without the detour through wire::Value: sub-keys are MessagePack already, and every find of a
// dictionary comes through here.
Bytes encode_dictionary(const EntryList& entries, double latest) {
  Bytes payload;
  append_array_head(payload, 3);
  append_float(payload, std::numeric_limits<double>::infinity());
  append_float(payload, latest);
  append_array_head(payload, entries.size());
  for (const auto& [subkey, entry] : entries) {
    append_array_head(payload, 3);
    payload += subkey;
    append_bin(payload, entry.value);
    append_float(payload, entry.expiration);
  }
  return wire::encode(wire::Ext{kDictionaryCode, std::move(payload)});
}

Result<SentDictionary> decode_dictionary(std::string_view bytes) {
  const auto value = wire::decode(bytes);
  if (!value) return value.error().within("dictionary");
  const wire::Ext* ext = value->as_ext();
  if (ext == nullptr || ext->code != kDictionaryCode)
    return invalid("dictionary: not the extension type 0x50");
  const auto parts = wire::decode(ext->data);
  if (!parts) return parts.error().within("dictionary");
  const wire::Array* array = parts->as_array();
  if (array == nullptr || array->size() != 3 || !(*array)[0].as_number() || !(*array)[1].as_number()) {
    return invalid("dictionary: not [maximum size, latest expiration, entries]");
  }
  const wire::Array* items = (*array)[2].as_array();
  if (items == nullptr) return invalid("dictionary: its entries are no list");

  SentDictionary dictionary{{}, *(*array)[1].as_number()};
  std::map<Bytes, std::size_t> position;
  for (const wire::Value& item : *items) {
    const wire::Array* entry = item.as_array();
    if (entry == nullptr || entry->size() != 3 || (*entry)[1].as_bin() == nullptr ||
        !(*entry)[2].as_number()) {
      return invalid("dictionary: an entry is not [sub-key, bytes, expiration]");
    }
    if (!hashable_in_python((*entry)[0])) return invalid("dictionary: a list or map cannot be a sub-key");
    const double expiration = *(*entry)[2].as_number();
    if (std::isnan(expiration)) return invalid("dictionary: an expiration is not a number");
    Bytes subkey = wire::encode((*entry)[0]);
    const auto [known, is_new] = position.try_emplace(subkey, dictionary.entries.size());
    if (is_new) {
      dictionary.entries.emplace_back(std::move(subkey), TimedBytes{*(*entry)[1].as_bin(), expiration});
    } else if (auto& held = dictionary.entries[known->second].second; held.expiration < expiration) {
      held = {*(*entry)[1].as_bin(), expiration};
    }
  }
  return dictionary;
}

// ---- ping

Bytes encode(const PingRequest& message) {
  pb::PingRequest request;
  set_sender(request, message.sender);
  request.set_validate(message.validate);
  return bytes_of(request);
}

Bytes encode(const PingReply& message) {
  pb::PingResponse response;
  set_sender(response, message.sender);
  response.set_dht_time(message.time);
  response.set_available(message.available);
  return bytes_of(response);
}

Result<PingRequest> decode_ping_request(std::string_view bytes) {
  const auto request = wire::parse_message<pb::PingRequest>(bytes);
  if (!request) return request.error();
  const auto sender = sender_of(*request);
  if (!sender) return sender.error();
  return PingRequest{*sender, request->validate()};
}

Result<PingReply> decode_ping_reply(std::string_view bytes) {
  const auto response = wire::parse_message<pb::PingResponse>(bytes);
  if (!response) return response.error();
  const auto sender = sender_of(*response);
  if (!sender) return sender.error();
  return PingReply{*sender, response->dht_time(), response->available()};
}

// ---- store

Bytes encode(const StoreRequest& message) {
  pb::StoreRequest request;
  set_sender(request, message.sender);
  for (const StoreItem& item : message.items) {
    request.add_keys(item.key.bytes());
    request.add_subkeys(item.tag);
    request.add_values(item.value);
    request.add_expiration_time(item.expiration);
    request.add_in_cache(item.in_cache);
  }
  return bytes_of(request);
}

Bytes encode(const StoreReply& message) {
  pb::StoreResponse response;
  set_sender(response, message.sender);
  for (const bool stored : message.stored) response.add_store_ok(stored);
  return bytes_of(response);
}

Result<StoreRequest> decode_store_request(std::string_view bytes) {
  auto request = wire::parse_message<pb::StoreRequest>(bytes);
  if (!request) return request.error();
  const auto sender = sender_of(*request);
  if (!sender) return sender.error();
  const int count = request->keys_size();
  if (request->values_size() != count || request->expiration_time_size() != count ||
      request->in_cache_size() != count || request->subkeys_size() != count) {
    return invalid("StoreRequest: " + std::to_string(count) + " keys, but " +
                   std::to_string(request->subkeys_size()) + " sub-keys, " +
                   std::to_string(request->values_size()) + " values, " +
                   std::to_string(request->expiration_time_size()) + " expirations and " +
                   std::to_string(request->in_cache_size()) + " cache flags");
  }
  const auto keys = ids_of(request->keys());
  if (!keys) return keys.error().within("StoreRequest");

  StoreRequest message{*sender, {}};
  message.items.reserve(keys->size());
  for (int i = 0; i < count; ++i) {
    message.items.push_back({(*keys)[static_cast<std::size_t>(i)], std::move(*request->mutable_subkeys(i)),
                             std::move(*request->mutable_values(i)), request->expiration_time(i),
                             request->in_cache(i)});
  }
  return message;
}

Result<StoreReply> decode_store_reply(std::string_view bytes) {
  const auto response = wire::parse_message<pb::StoreResponse>(bytes);
  if (!response) return response.error();
  const auto sender = sender_of(*response);
  if (!sender) return sender.error();
  return StoreReply{*sender, {response->store_ok().begin(), response->store_ok().end()}};
}

// ---- find

Bytes encode(const FindRequest& message) {
  pb::FindRequest request;
  set_sender(request, message.sender);
  for (const DhtId& key : message.keys) request.add_keys(key.bytes());
  return bytes_of(request);
}

Result<FindRequest> decode_find_request(std::string_view bytes) {
  const auto request = wire::parse_message<pb::FindRequest>(bytes);
  if (!request) return request.error();
  const auto sender = sender_of(*request);
  if (!sender) return sender.error();
  if (static_cast<std::size_t>(request->keys_size()) > kFindKeysMax) {
    return invalid("FindRequest: " + std::to_string(request->keys_size()) + " keys, at most " +
                   std::to_string(kFindKeysMax) + " are answered; send fewer at once");
  }
  auto keys = ids_of(request->keys());
  if (!keys) return keys.error().within("FindRequest");
  return FindRequest{*sender, std::move(*keys)};
}

namespace {

// The dictionary's bytes, less the entries that expire first if there are more than `room`; nothing if none
// fits.
std::optional<Bytes> dictionary_within(const SentDictionary& dictionary, std::size_t room) {
  constexpr std::size_t kFrame = 64;
  constexpr std::size_t kPerEntry = 16;  // array, bin and float headers
  const auto cost = [](const auto& entry) {
    return entry.first.size() + entry.second.value.size() + kPerEntry;
  };
  std::size_t size = kFrame;
  for (const auto& entry : dictionary.entries) size += cost(entry);
  if (size <= room) return encode_dictionary(dictionary.entries, dictionary.latest);

  EntryList kept = dictionary.entries;
  std::ranges::sort(kept, std::ranges::greater(), [](const auto& entry) {
    return std::pair(entry.second.expiration, std::string_view(entry.first));
  });
  while (!kept.empty() && size > room) {
    size -= cost(kept.back());
    kept.pop_back();
  }
  if (kept.empty()) return std::nullopt;
  return encode_dictionary(kept, dictionary.latest);
}

void set_found(pb::FindResult& to, const FindResult& from, std::size_t room) {
  std::optional<Bytes> bytes;
  auto type = pb::NOT_FOUND;
  if (const auto* value = std::get_if<TimedBytes>(&from.found)) {
    if (value->value.size() <= room) bytes = value->value;
    type = pb::FOUND_REGULAR;
  } else if (const auto* dictionary = std::get_if<SentDictionary>(&from.found)) {
    bytes = dictionary_within(*dictionary, room);
    type = pb::FOUND_DICTIONARY;
  }
  if (!bytes) return;
  to.set_type(type);
  to.set_value(std::move(*bytes));
  to.set_expiration_time(from.expiration);
}

}  // namespace

Bytes encode(const FindReply& message) {
  constexpr std::size_t kResultFrame = 40;  // type, expiration, lengths
  pb::FindResponse response;
  set_sender(response, message.sender);
  std::size_t size = 64;
  for (const FindResult& result : message.results) {
    pb::FindResult& sent = *response.add_results();
    for (const Node& node : result.neighbours) {
      sent.add_nearest_node_ids(node.id.bytes());
      sent.add_nearest_peer_ids(node.peer.bytes());
    }
    size += sent.ByteSizeLong() + kResultFrame;
  }
  for (std::size_t i = 0; i < message.results.size(); ++i) {
    pb::FindResult& sent = *response.mutable_results(static_cast<int>(i));
    const std::size_t room = size < kReplyBytesMax ? kReplyBytesMax - size : 0;
    set_found(sent, message.results[i], room);
    size += sent.value().size();
  }
  return bytes_of(response);
}

Result<FindReply> decode_find_reply(std::string_view bytes) {
  auto response = wire::parse_message<pb::FindResponse>(bytes);
  if (!response) return response.error();
  const auto sender = sender_of(*response);
  if (!sender) return sender.error();
  FindReply message{*sender, {}};
  message.results.reserve(static_cast<std::size_t>(response->results_size()));
  for (pb::FindResult& result : *response->mutable_results()) {
    FindResult found;
    found.expiration = result.expiration_time();
    if (result.type() == pb::FOUND_REGULAR) {
      found.found = TimedBytes{std::move(*result.mutable_value()), result.expiration_time()};
    } else if (result.type() == pb::FOUND_DICTIONARY) {
      auto dictionary = decode_dictionary(result.value());
      if (!dictionary) return dictionary.error().within("FindResponse");
      found.found = std::move(*dictionary);
    }
    const int count = std::min(
        {result.nearest_node_ids_size(), result.nearest_peer_ids_size(), static_cast<int>(kNeighboursMax)});
    for (int i = 0; i < count; ++i) {
      const auto id = DhtId::from_bytes(result.nearest_node_ids(i));
      auto peer = PeerId::from_bytes(result.nearest_peer_ids(i));
      if (id && peer) found.neighbours.push_back({*id, std::move(*peer)});
    }
    message.results.push_back(std::move(found));
  }
  return message;
}

}  // namespace hivemetal::dht
