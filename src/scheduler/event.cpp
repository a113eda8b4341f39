#include "scheduler/event.h"

#include "scheduler/run_store.h"

namespace hivemetal::scheduler {

nlohmann::json to_json(const Event& event) {
  nlohmann::json json{{"sequence", event.sequence}, {"time", event.unix_time}, {"run", event.run},
                      {"kind", event.kind},         {"text", event.text},      {"data", event.data}};
  if (!event.node.empty()) json["node"] = event.node;
  if (event.worker >= 0) json["worker"] = event.worker;
  return json;
}

Result<Event> event_from_json(const nlohmann::json& json) {
  try {
    Event event;
    event.sequence = json.at("sequence").get<std::uint64_t>();
    event.unix_time = json.at("time").get<double>();
    event.run = json.at("run").get<std::string>();
    event.kind = json.at("kind").get<std::string>();
    event.text = json.at("text").get<std::string>();
    event.data = json.at("data");
    event.node = json.value("node", "");
    event.worker = json.value("worker", -1);
    return event;
  } catch (const nlohmann::json::exception& error) {
    return Error{ErrorCode::Invalid, std::string("not an event: ") + error.what()};
  }
}

Result<void> MemoryRunStore::put(const std::string& name, const Bytes& value) {
  values_[name] = value;
  return {};
}

Result<std::optional<Bytes>> MemoryRunStore::get(const std::string& name) const {
  const auto found = values_.find(name);
  if (found == values_.end()) return std::optional<Bytes>();
  return std::optional<Bytes>(found->second);
}

Result<void> MemoryRunStore::erase(const std::string& name) {
  values_.erase(name);
  return {};
}

Result<std::vector<std::string>> MemoryRunStore::names(const std::string& prefix) const {
  std::vector<std::string> names;
  for (auto it = values_.lower_bound(prefix); it != values_.end() && it->first.starts_with(prefix); ++it) {
    names.push_back(it->first);
  }
  return names;
}

Result<void> MemoryRunStore::append(const Event& event) {
  auto& events = events_[event.run];
  if (events.empty() || events.back().sequence < event.sequence) events.push_back(event);
  return {};
}

Result<std::vector<Event>> MemoryRunStore::events(const std::string& run, std::uint64_t since,
                                                  std::size_t limit) const {
  std::vector<Event> found;
  const auto events = events_.find(run);
  if (events == events_.end()) return found;
  for (const Event& event : events->second) {
    if (event.sequence > since && found.size() < limit) found.push_back(event);
  }
  return found;
}

Result<std::uint64_t> MemoryRunStore::last_sequence(const std::string& run) const {
  const auto events = events_.find(run);
  return events == events_.end() || events->second.empty() ? 0 : events->second.back().sequence;
}

Result<void> MemoryRunStore::erase_events(const std::string& run) {
  events_.erase(run);
  return {};
}

}  // namespace hivemetal::scheduler
