#include "console.h"

#include <utility>

#include "json_value.h"

namespace hivemetal::console {

namespace {

using nlohmann::json;

Error invalid(std::string message) { return {ErrorCode::Invalid, std::move(message)}; }

json json_of_found(const std::optional<dht::Found>& found) {
  if (!found) return nullptr;
  if (found->regular) {
    return {{"value", json_of(found->regular->value)}, {"expiration", found->regular->expiration}};
  }
  json entries = json::array();
  for (const dht::Entry& entry : found->entries) {
    entries.push_back({{"subkey", json_of(entry.subkey)},
                       {"value", json_of(entry.value)},
                       {"expiration", entry.expiration}});
  }
  return {{"entries", std::move(entries)}};
}

json json_of_stats(const dht::DhtStats& stats) {
  json text = {{"node_id", stats.node_id.hex()},
               {"known_nodes", stats.known_nodes},
               {"stored_entries", stats.stored_entries},
               {"stored_bytes", stats.stored_bytes},
               {"cached_entries", stats.cached_entries},
               {"requests_sent", stats.requests_sent},
               {"requests_failed", stats.requests_failed},
               {"requests_served", stats.requests_served},
               {"lines", stats.lines}};
  if (stats.clock_offset_s) text["clock_offset_s"] = *stats.clock_offset_s;
  return text;
}

// One outcome of several, or its error as an object.
template <class T>
json outcome(const Result<T>& result, auto&& as_json) {
  if (!result) return {{"error", result.error().message}};
  return as_json(*result);
}

}  // namespace

asio::awaitable<json> Console::run(std::string line) {
  json command = json::parse(line, nullptr, /*allow_exceptions=*/false);
  const json id = command.is_object() && command.contains("id") ? command["id"] : json();
  Result<json> answer =
      invalid("a command is one JSON object on a line, as {\"do\": \"get\", \"key\": \"k\"}");
  if (command.is_object()) answer = co_await run(std::move(command));
  json text = answer ? std::move(*answer) : json{{"error", answer.error().message}};
  text["id"] = id;
  co_return text;
}

Result<dht::Put> Console::put_of(const json& record) const {
  if (!record.is_object() || !record.contains("key") || !record.contains("value")) {
    return invalid("a record has a key and a value: " + record.dump());
  }
  auto key = value_of(record["key"]);
  if (!key) return key.error();
  auto value = value_of(record["value"]);
  if (!value) return value.error();
  dht::Put put{std::move(*key), {}, std::move(*value), 0};
  if (record.contains("subkey")) {
    if (record["subkey"] == json{{"$owner", true}}) {
      put.subkey = wire::Value::bin(owner_marker_);
    } else {
      auto subkey = value_of(record["subkey"]);
      if (!subkey) return subkey.error();
      put.subkey = std::move(*subkey);
    }
  }
  if (record.contains("expiration") && record["expiration"].is_number()) {
    put.expiration = record["expiration"].get<double>();
  } else if (record.contains("ttl") && record["ttl"].is_number()) {
    put.expiration = clock_.unix_time() + record["ttl"].get<double>();
  } else {
    return invalid("a record has a ttl in seconds, or an expiration in Unix seconds: " + record.dump());
  }
  return put;
}

asio::awaitable<Result<json>> Console::run(json command) {
  const std::string what =
      command.contains("do") && command["do"].is_string() ? command["do"].get<std::string>() : "";
  const bool latest = !command.contains("latest") || command["latest"] == true;
  if (what == "store" || what == "store_many") {
    std::vector<dht::Put> puts;
    const json records = what == "store" ? json::array({command}) : command.value("records", json::array());
    for (const json& record : records) {
      auto put = put_of(record);
      if (!put) co_return put.error();
      puts.push_back(std::move(*put));
    }
    const auto stored = co_await dht_.store_many(std::move(puts));
    if (what == "store") {
      if (!stored.front()) co_return stored.front().error();
      co_return json{{"stored", *stored.front()}};
    }
    json list = json::array();
    for (const auto& one : stored) list.push_back(outcome(one, [](bool taken) { return json(taken); }));
    co_return json{{"stored", std::move(list)}};
  }
  if (what == "get" || what == "get_many") {
    std::vector<wire::Value> keys;
    const json names =
        what == "get" ? json::array({command.value("key", json())}) : command.value("keys", json::array());
    for (const json& name : names) {
      auto key = value_of(name);
      if (!key) co_return key.error();
      keys.push_back(std::move(*key));
    }
    const auto found = co_await dht_.get_many(std::move(keys), latest);
    if (what == "get") {
      if (!found.front()) co_return found.front().error();
      co_return json{{"found", json_of_found(*found.front())}};
    }
    json list = json::array();
    for (const auto& one : found) list.push_back(outcome(one, json_of_found));
    co_return json{{"found", std::move(list)}};
  }
  if (what == "stats") co_return json_of_stats(dht_.stats());
  co_return invalid("what to do? store, store_many, get, get_many or stats, not \"" + what + "\"");
}

}  // namespace hivemetal::console
