#include "dht/progress_schema.h"

#include <cmath>
#include <string>

#include "dht/messages.h"
#include "dht/signed_record.h"
#include "wire/msgpack.h"

namespace hivemetal::dht {

namespace {

// True if the sub-key is a byte string that matches `.*\[owner:(.+?)\].*` from its beginning, where the dot
// matches no line end.
bool names_an_owner(std::string_view subkey) {
  const auto value = wire::decode(subkey);
  if (!value || value->as_bin() == nullptr) return false;
  const std::string_view text = *value->as_bin();
  const auto marks = marks_in(text, "[owner:");
  return !marks.empty() &&
         text.substr(0, static_cast<std::size_t>(marks.front().data() - text.data())).find('\n') ==
             std::string_view::npos;
}

}  // namespace

wire::Value encode(const Progress& progress) {
  return wire::Map{{"peer_id", wire::Value::bin(progress.peer_id)},
                   {"epoch", progress.epoch},
                   {"samples_accumulated", progress.samples_accumulated},
                   {"samples_per_second", progress.samples_per_second},
                   {"time", progress.time},
                   {"client_mode", progress.client_mode}};
}

Result<Progress> decode_progress(const wire::Value& value) {
  const auto wrong = [](std::string_view what) {
    return Error{ErrorCode::Invalid, "progress record: " + std::string(what)};
  };
  const wire::Map* map = value.as_map();
  if (map == nullptr) return wrong("not a map");
  if (map->size() != 6) return wrong("not exactly six keys");
  const auto field = [&value](std::string_view name) {
    const wire::Value* found = value.find(name);
    return found == nullptr ? wire::Value() : *found;
  };
  Progress progress;
  const wire::Value peer_id = field("peer_id");
  const auto epoch = field("epoch").as_uint64();
  const auto samples = field("samples_accumulated").as_uint64();
  const auto speed = field("samples_per_second").as_double();
  const auto time = field("time").as_double();
  const auto client_mode = field("client_mode").as_bool();
  if (peer_id.as_bin() == nullptr) return wrong("peer_id is no byte string");
  if (!epoch || !samples) return wrong("epoch or samples_accumulated is no integer of at least 0");
  if (!speed || !(*speed >= 0)) return wrong("samples_per_second is no float of at least 0");
  if (!time) return wrong("time is no float");
  if (!client_mode) return wrong("client_mode is neither true nor false");
  return Progress{*peer_id.as_bin(), *epoch, *samples, *speed, *time, *client_mode};
}

ProgressSchema::ProgressSchema(std::string_view run_id)
    : key_(DhtId::of_key(std::string(run_id) + "_progress").bytes()) {}

bool ProgressSchema::validate(const Record& record) const {
  if (record.key != key_) return true;
  if (record.subkey == kRegularTag || record.subkey == kDictionaryTag || !names_an_owner(record.subkey))
    return false;
  const auto value = wire::decode(record.value);
  return value && (value->is_nil() || decode_progress(*value));
}

}  // namespace hivemetal::dht
