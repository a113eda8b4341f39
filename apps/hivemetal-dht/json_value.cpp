#include "json_value.h"

#include <cmath>
#include <utility>

namespace hivemetal::console {

namespace {

using nlohmann::json;
using wire::Value;

Error wrong(const json& json) { return {ErrorCode::Invalid, "no value: " + json.dump()}; }

Result<wire::Array> items_of(const json& list) {
  wire::Array items;
  for (const json& item : list) {
    auto value = value_of(item);
    if (!value) return value.error();
    items.push_back(std::move(*value));
  }
  return items;
}

Result<wire::Map> pairs_of(const json& list) {
  wire::Map map;
  for (const json& pair : list) {
    if (!pair.is_array() || pair.size() != 2) return wrong(list);
    auto key = value_of(pair[0]);
    auto value = value_of(pair[1]);
    if (!key || !value) return wrong(list);
    map.push_back({std::move(*key), std::move(*value)});
  }
  return map;
}

// An object with one key that begins with a dollar.
Result<Value> special(const std::string& kind, const json& content) {
  const json wrapped{{kind, content}};
  if (kind == "$bytes" && content.is_string()) {
    auto bytes = from_hex(content.get<std::string>());
    if (!bytes) return bytes.error();
    return Value::bin(std::move(*bytes));
  }
  if (kind == "$tuple" && content.is_array()) {
    auto items = items_of(content);
    if (!items) return items.error();
    return Value::tuple(std::move(*items));
  }
  if (kind == "$map" && content.is_array()) {
    auto map = pairs_of(content);
    if (!map) return map.error();
    return Value(std::move(*map));
  }
  if (kind == "$ext" && content.is_array() && content.size() == 2 && content[0].is_number_integer() &&
      content[1].is_string()) {
    auto bytes = from_hex(content[1].get<std::string>());
    if (!bytes) return bytes.error();
    return Value(wire::Ext{content[0].get<std::int8_t>(), std::move(*bytes)});
  }
  return wrong(wrapped);
}

json list_of(const wire::Array& items) {
  json list = json::array();
  for (const Value& item : items) list.push_back(json_of(item));
  return list;
}

json object_of(const wire::Map& map) {
  const bool texts = std::ranges::all_of(map, [](const auto& entry) {
    const std::string* key = entry.key.as_text();
    return key != nullptr && !key->starts_with('$');
  });
  json object = json::object();
  json pairs = json::array();
  for (const auto& [key, value] : map) {
    if (texts) {
      object[*key.as_text()] = json_of(value);
    } else {
      pairs.push_back({json_of(key), json_of(value)});
    }
  }
  return texts ? object : json{{"$map", pairs}};
}

}  // namespace

Result<Value> value_of(const json& json) {
  switch (json.type()) {
    case json::value_t::null:
      return Value();
    case json::value_t::boolean:
      return Value(json.get<bool>());
    case json::value_t::number_integer:
      return Value(json.get<std::int64_t>());
    case json::value_t::number_unsigned:
      return Value(json.get<std::uint64_t>());
    case json::value_t::number_float:
      return Value(json.get<double>());
    case json::value_t::string:
      return Value(json.get<std::string>());
    case json::value_t::array: {
      auto items = items_of(json);
      if (!items) return items.error();
      return Value(std::move(*items));
    }
    case json::value_t::object: {
      if (json.size() == 1 && json.begin().key().starts_with('$'))
        return special(json.begin().key(), json.begin().value());
      wire::Map map;
      for (const auto& [key, content] : json.items()) {
        auto value = value_of(content);
        if (!value) return value.error();
        map.push_back({key, std::move(*value)});
      }
      return Value(std::move(map));
    }
    default:
      return wrong(json);
  }
}

json json_of(const Value& value) {
  if (value.is_nil()) return nullptr;
  if (const auto flag = value.as_bool()) return *flag;
  if (const auto number = value.as_int64()) return *number;
  if (const auto number = value.as_uint64()) return *number;
  if (const auto number = value.as_double()) return *number;  // infinity and NaN become null in the text
  if (const auto* text = value.as_text()) return *text;
  if (const auto* bytes = value.as_bin()) return {{"$bytes", to_hex(*bytes)}};
  if (const auto* items = value.as_array()) return list_of(*items);
  if (const auto* items = value.as_tuple()) return {{"$tuple", list_of(*items)}};
  if (const auto* map = value.as_map()) return object_of(*map);
  const auto* ext = value.as_ext();
  return {{"$ext", {ext->code, to_hex(ext->data)}}};
}

}  // namespace hivemetal::console
