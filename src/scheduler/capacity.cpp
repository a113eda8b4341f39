#include "scheduler/capacity.h"

#include <algorithm>
#include <cmath>
#include <openssl/sha.h>

#include "base/check.h"
#include "wire/msgpack.h"

namespace hivemetal::scheduler {

namespace {

using wire::Value;

constexpr std::size_t kNameLengthMax = 64;
constexpr std::size_t kEnvironmentsMax = 32;
constexpr std::size_t kAddressesMax = 16;
constexpr std::size_t kAddressLengthMax = 256;
constexpr double kLifetimeMax = 3600;  // seconds that a record may be valid
constexpr wire::DecodeLimits kLimits{.depth_max = 4, .values_max = 256};

Value list_of(const std::vector<std::string>& texts) {
  return Value(wire::Array(texts.begin(), texts.end()));
}

Bytes payload_of(const CapacityRecord& record) {
  wire::Map map;
  map.push_back({"name", record.name});
  map.push_back({"version", record.version});
  map.push_back({"cpus_total", record.cpus_total});
  map.push_back({"cpus_free", record.cpus_free});
  map.push_back({"load", record.load});
  map.push_back({"memory_total", record.memory_total});
  map.push_back({"memory_free", record.memory_free});
  map.push_back({"workers", record.workers});
  map.push_back({"environments", list_of(record.environments)});
  map.push_back({"confinement", record.confinement});
  map.push_back({"addresses", list_of(record.addresses)});
  map.push_back({"time", record.time});
  map.push_back({"expires", record.expires});
  return wire::encode(Value(std::move(map)));
}

// What is signed: nobody can show a record of one node, swarm or purpose as another's.
Bytes signed_text(std::string_view payload, std::string_view swarm, const PeerId& node) {
  Bytes text = "hivemetal-capacity-1";
  text += '\0';
  text += swarm;
  text += '\0';
  text += node.bytes();
  text += payload;
  return text;
}

Error wrong(std::string_view field) {
  return Error{ErrorCode::Invalid, "capacity record: wrong or missing field " + std::string(field)};
}

// The value of a field, if it is there with the right type and, for text and lists, not too long.
class Reader {
 public:
  explicit Reader(const Value& map) : map_(map) {}

  bool text(std::string_view name, std::size_t length_max, std::string& out) const {
    const Value* value = map_.find(name);
    return value && text_of(*value, length_max, out);
  }

  bool number(std::string_view name, double max, double& out) const {
    const Value* value = map_.find(name);
    const auto number = value ? value->as_number() : std::nullopt;
    out = number.value_or(-1);
    return std::isfinite(out) && out >= 0 && out <= max;
  }

  bool integer(std::string_view name, std::uint64_t max, std::uint64_t& out) const {
    const Value* value = map_.find(name);
    const auto number = value ? value->as_uint64() : std::nullopt;
    out = number.value_or(0);
    return number && out <= max;
  }

  bool list(std::string_view name, std::size_t size_max, std::size_t length_max,
            std::vector<std::string>& out) const {
    const Value* value = map_.find(name);
    const wire::Array* items = value ? value->as_array() : nullptr;
    if (!items || items->size() > size_max) return false;
    return std::all_of(items->begin(), items->end(),
                       [&](const Value& item) { return text_of(item, length_max, out.emplace_back()); });
  }

 private:
  // Without control characters, which a terminal would obey.
  static bool text_of(const Value& value, std::size_t length_max, std::string& out) {
    const std::string* text = value.as_text();
    if (!text || text->size() > length_max) return false;
    out = *text;
    return std::none_of(out.begin(), out.end(), [](unsigned char c) { return c < 0x20 || c == 0x7f; });
  }

  const Value& map_;
};

Result<CapacityRecord> record_of(const Value& map) {
  const Reader fields(map);
  CapacityRecord record;
  std::uint64_t workers = 0;
  constexpr double kCpusMax = 65536;
  constexpr double kUnixMax = 1e11;
  constexpr std::uint64_t kMemoryMax = std::uint64_t{1} << 50;
  if (!fields.text("name", kNameLengthMax, record.name)) return wrong("name");
  if (!fields.text("version", kNameLengthMax, record.version)) return wrong("version");
  if (!fields.number("cpus_total", kCpusMax, record.cpus_total)) return wrong("cpus_total");
  if (!fields.number("cpus_free", record.cpus_total, record.cpus_free)) return wrong("cpus_free");
  if (!fields.number("load", 1e6, record.load)) return wrong("load");
  if (!fields.integer("memory_total", kMemoryMax, record.memory_total)) return wrong("memory_total");
  if (!fields.integer("memory_free", record.memory_total, record.memory_free)) return wrong("memory_free");
  if (!fields.integer("workers", 65536, workers)) return wrong("workers");
  if (!fields.list("environments", kEnvironmentsMax, kNameLengthMax, record.environments))
    return wrong("environments");
  if (!fields.text("confinement", kNameLengthMax, record.confinement)) return wrong("confinement");
  if (!fields.list("addresses", kAddressesMax, kAddressLengthMax, record.addresses))
    return wrong("addresses");
  if (!fields.number("time", kUnixMax, record.time)) return wrong("time");
  if (!fields.number("expires", kUnixMax, record.expires)) return wrong("expires");
  if (record.expires > record.time + kLifetimeMax) return wrong("expires");
  record.workers = static_cast<std::uint32_t>(workers);
  return record;
}

}  // namespace

Bytes encode_capacity(const CapacityRecord& record, std::string_view swarm, const identity::PrivateKey& key) {
  HIVEMETAL_CHECK(key.peer_id() == record.node);
  Bytes payload = payload_of(record);
  Bytes signature = key.sign(signed_text(payload, swarm, record.node));
  return wire::encode(Value(wire::Array{Value::bin(std::move(payload)), Value::bin(std::move(signature))}));
}

Result<CapacityRecord> decode_capacity(std::string_view bytes, std::string_view swarm, const PeerId& node,
                                       double now_unix) {
  const Error malformed{ErrorCode::Invalid, "capacity record: not [payload, signature] in MessagePack"};
  if (bytes.size() > kCapacityRecordBytesMax) return Error{ErrorCode::Invalid, "capacity record: too long"};
  const auto outer = wire::decode(bytes, kLimits);
  const wire::Array* pair = outer ? outer->as_array() : nullptr;
  if (!pair || pair->size() != 2) return malformed;
  const Bytes* payload = (*pair)[0].as_bin();
  const Bytes* signature = (*pair)[1].as_bin();
  if (!payload || !signature) return malformed;

  const auto key = identity::PublicKey::from_peer_id(node);
  if (!key) return key.error().within("capacity record");
  if (!key->verify(signed_text(*payload, swarm, node), *signature)) {
    return Error{ErrorCode::Refused,
                 "capacity record: the signature is not " + node.short_name() + "'s for this swarm"};
  }
  const auto map = wire::decode(*payload, kLimits);
  if (!map || !map->as_map()) return malformed;
  auto record = record_of(*map);
  if (!record) return record;
  if (record->expires <= now_unix) return Error{ErrorCode::TimedOut, "capacity record: expired"};
  record->node = node;
  return record;
}

std::string capacity_key(std::string_view swarm, unsigned shard) {
  return "hm:nodes:" + std::string(swarm) + ":" + std::to_string(shard);
}

unsigned capacity_shard(const PeerId& node) {
  unsigned char digest[SHA256_DIGEST_LENGTH];
  SHA256(reinterpret_cast<const unsigned char*>(node.bytes().data()), node.bytes().size(), digest);
  return digest[0] % kCapacityShards;
}

}  // namespace hivemetal::scheduler
