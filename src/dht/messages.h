// The messages of `DHTProtocol.rpc_*` and the values inside, between bytes and our types.
//
// Everything that arrives was written by a stranger: lengths are compared, ids checked, and what would be
// absurd is an error before anything is done with it.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string_view>
#include <variant>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "dht/dht_id.h"
#include "dht/record_validator.h"
#include "dht/storage.h"

namespace hivemetal::dht {

inline constexpr std::string_view kPing = "DHTProtocol.rpc_ping";
inline constexpr std::string_view kStore = "DHTProtocol.rpc_store";
inline constexpr std::string_view kFind = "DHTProtocol.rpc_find";

// Tags of stored items; any other tag is the MessagePack of a sub-key.
inline constexpr std::string_view kRegularTag = "\xc0";
inline constexpr std::string_view kDictionaryTag = "";

// A reply stays below this, so that with its frame it fits into a unary message of 4 MiB.
inline constexpr std::size_t kReplyBytesMax = 4 * 1024 * 1024 - 4096;
inline constexpr std::size_t kFindKeysMax = 1024;
inline constexpr std::size_t kNeighboursMax = 256;  // that we read per key

struct PingRequest {
  std::optional<DhtId> sender;  // none: the sender is in client mode
  bool validate = false;
};

struct PingReply {
  std::optional<DhtId> sender;
  double time = 0;
  bool available = false;  // the callee reached the caller
};

struct StoreItem {
  DhtId key;
  Bytes tag;
  Bytes value;
  double expiration = 0;
  bool in_cache = false;
};

struct StoreRequest {
  std::optional<DhtId> sender;
  std::vector<StoreItem> items;
};

struct StoreReply {
  std::optional<DhtId> sender;
  std::vector<bool> stored;  // may be shorter than the request
};

struct FindRequest {
  std::optional<DhtId> sender;
  std::vector<DhtId> keys;
};

// A dictionary as it travels, expired entries included; checked, but not validated.
struct SentDictionary {
  EntryList entries;
  double latest;
};

struct FindResult {
  std::variant<std::monostate, TimedBytes, SentDictionary> found;
  double expiration = 0;
  std::vector<Node> neighbours;  // nearest first
};

struct FindReply {
  std::optional<DhtId> sender;
  std::vector<FindResult> results;
};

Bytes encode(const PingRequest& message);
Bytes encode(const PingReply& message);
Bytes encode(const StoreRequest& message);
Bytes encode(const StoreReply& message);
Bytes encode(const FindRequest& message);

// Results for which there is no room within kReplyBytesMax are cut: dictionaries lose the entries that expire
// first, values are left out; neighbours always go along.
Bytes encode(const FindReply& message);

// All fail with Invalid.
Result<PingRequest> decode_ping_request(std::string_view bytes);
Result<PingReply> decode_ping_reply(std::string_view bytes);
Result<StoreRequest> decode_store_request(std::string_view bytes);
Result<StoreReply> decode_store_reply(std::string_view bytes);
Result<FindRequest> decode_find_request(std::string_view bytes);
Result<FindReply> decode_find_reply(std::string_view bytes);

// ext 0x50. The maximum size is written as infinity, and read but not heeded.
Bytes encode_dictionary(const EntryList& entries, double latest);
Result<SentDictionary> decode_dictionary(std::string_view bytes);

// The MessagePack of a sub-key in its shortest form, as Python re-encodes it. Fails with Invalid if it is no
// MessagePack or holds a list or map, which cannot be keys in Python.
Result<Bytes> canonical_subkey(std::string_view tag);

}  // namespace hivemetal::dht
