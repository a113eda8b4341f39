#include "runner/attempt/messages.h"

#include <limits>
#include <utility>

#include <nlohmann/json.hpp>

namespace hivemetal::runner {

namespace {

using Json = nlohmann::json;

// Reads fields of one object and remembers the first that is wrong.
class Fields {
 public:
  explicit Fields(const Json& object) : object_(object) {
    if (!object.is_object()) fail("not a JSON object");
  }

  template <class T>
  void take(const char* name, T& value) {
    const auto found = problem_.empty() ? object_.find(name) : object_.end();
    if (found == object_.end() || found->is_null()) return;
    if (!read(*found, value)) fail(std::string("'") + name + "' has a wrong type or range");
  }

  template <class T>
  void require(const char* name, T& value) {
    if (problem_.empty() && !object_.contains(name)) return fail(std::string("'") + name + "' is missing");
    take(name, value);
  }

  void require_version() {
    std::uint64_t version = 0;
    require("v", version);
    if (version != 1) fail("version " + std::to_string(version) + " is not ours");
  }

  void fail(std::string problem) {
    if (problem_.empty()) problem_ = std::move(problem);
  }

  template <class T>
  Result<T> result(T value, const char* what) const {
    if (!problem_.empty()) return Error{ErrorCode::Invalid, std::string(what) + ": " + problem_};
    return value;
  }

 private:
  static bool read(const Json& json, std::string& value) {
    if (!json.is_string()) return false;
    value = json.get<std::string>();
    return true;
  }
  static bool read(const Json& json, bool& value) {
    if (!json.is_boolean()) return false;
    value = json.get<bool>();
    return true;
  }
  static bool read(const Json& json, double& value) {
    if (!json.is_number()) return false;
    value = json.get<double>();
    return true;
  }
  template <class Integer>
    requires std::is_integral_v<Integer>
  static bool read(const Json& json, Integer& value) {
    if (!json.is_number_integer()) return false;
    if (json.is_number_unsigned()) {
      const auto number = json.get<std::uint64_t>();
      value = static_cast<Integer>(number);
      return std::in_range<Integer>(number);
    }
    const auto number = json.get<std::int64_t>();
    value = static_cast<Integer>(number);
    return std::in_range<Integer>(number);
  }
  template <class T>
  static bool read(const Json& json, std::optional<T>& value) {
    return read(json, value.emplace());
  }
  static bool read(const Json& json, std::vector<std::string>& value) {
    if (!json.is_array()) return false;
    for (const Json& item : json) {
      if (!read(item, value.emplace_back())) return false;
    }
    return true;
  }
  static bool read(const Json& json, std::map<std::string, std::string>& value) {
    if (!json.is_object()) return false;
    for (const auto& [key, item] : json.items()) {
      if (!read(item, value[key])) return false;
    }
    return true;
  }
  static bool read(const Json& json, ProcessId& value) {
    Fields fields(json);
    fields.require("pid", value.pid);
    fields.require("start_time", value.start_time);
    return fields.problem_.empty() && value.pid >= 0;
  }
  static bool read(const Json& json, ExitRecord& value);

  const Json& object_;
  std::string problem_;
};

void take_exit(Fields& fields, ExitRecord& exit) {
  fields.require("reason", exit.reason);
  fields.take("code", exit.code);
  fields.take("signal", exit.signal);
  fields.take("detail", exit.detail);
  fields.take("started_unix", exit.started_unix);
  fields.take("ended_unix", exit.ended_unix);
  fields.take("memory_peak_bytes", exit.memory_peak_bytes);
  fields.take("cpu_usec", exit.cpu_usec);
  fields.take("oom_kills", exit.oom_kills);
  fields.take("log_dropped_bytes", exit.log_dropped_bytes);
  fields.take("killed_at_end", exit.killed_at_end);
  fields.take("degradations", exit.degradations);
}

bool Fields::read(const Json& json, ExitRecord& value) {
  Fields fields(json);
  take_exit(fields, value);
  return fields.problem_.empty();
}

Json json_of(const ProcessId& id) { return {{"pid", id.pid}, {"start_time", id.start_time}}; }

Json json_of(const ExitRecord& exit) {
  Json json{{"v", 1},
            {"reason", exit.reason},
            {"detail", exit.detail},
            {"started_unix", exit.started_unix},
            {"ended_unix", exit.ended_unix},
            {"memory_peak_bytes", exit.memory_peak_bytes},
            {"cpu_usec", exit.cpu_usec},
            {"oom_kills", exit.oom_kills},
            {"log_dropped_bytes", exit.log_dropped_bytes},
            {"killed_at_end", exit.killed_at_end},
            {"degradations", exit.degradations}};
  if (exit.code) json["code"] = *exit.code;
  if (exit.signal) json["signal"] = *exit.signal;
  return json;
}

// Ours to print: bytes that are not UTF-8 (the name of a program, say) become replacement characters.
std::string text_of(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }

Json parse(std::string_view text) {
  if (text.size() > kMessageSizeMax) return Json(Json::value_t::discarded);
  return Json::parse(text, nullptr, /*allow_exceptions=*/false);
}

template <class Enum>
struct Named {
  Enum value;
  const char* name;
};

template <class Enum, std::size_t size>
const char* name_in(const Named<Enum> (&names)[size], Enum value) {
  for (const auto& named : names) {
    if (named.value == value) return named.name;
  }
  return "";
}

template <class Enum, std::size_t size>
void take_named(Fields& fields, const char* field, const Named<Enum> (&names)[size], Enum& value) {
  std::string name;
  fields.require(field, name);
  for (const auto& named : names) {
    if (named.name == name) {
      value = named.value;
      return;
    }
  }
  fields.fail(std::string("'") + field + "' is none that we know");
}

constexpr Named<GuardState::Phase> kPhases[] = {{GuardState::Phase::Waiting, "waiting"},
                                                {GuardState::Phase::Running, "running"},
                                                {GuardState::Phase::Stopping, "stopping"},
                                                {GuardState::Phase::Ended, "ended"}};

constexpr Named<Command::Kind> kKinds[] = {{Command::Kind::Hello, "hello"},
                                           {Command::Kind::Go, "go"},
                                           {Command::Kind::Stop, "stop"},
                                           {Command::Kind::Renew, "renew"}};

constexpr Named<AttemptRecord::State> kStates[] = {
    {AttemptRecord::State::Preparing, "PREPARING"}, {AttemptRecord::State::Launching, "LAUNCHING"},
    {AttemptRecord::State::Running, "RUNNING"},     {AttemptRecord::State::Stopping, "STOPPING"},
    {AttemptRecord::State::Ended, "ENDED"},         {AttemptRecord::State::Cleaned, "CLEANED"}};

}  // namespace

Result<std::string> encode(const GuardSpec& spec) {
  Json json{{"v", 1},
            {"attempt", spec.attempt},
            {"argv", spec.argv},
            {"environment", spec.environment},
            {"folder", spec.folder},
            {"work", spec.work},
            {"cgroup2", spec.cgroup2},
            {"cgroup1", spec.cgroup1},
            {"freezer", spec.freezer},
            {"memory1", spec.memory1},
            {"memory2", spec.memory2},
            {"guard_cgroup", spec.guard_cgroup},
            {"file_size_max", spec.file_size_max},
            {"processes_max", spec.processes_max},
            {"log_bytes_max", spec.log_bytes_max},
            {"grace_ms", spec.grace_ms},
            {"lease_ms", spec.lease_ms},
            {"degradations", spec.degradations}};
  if (spec.uid) json["uid"] = *spec.uid;
  try {
    std::string line = json.dump();
    if (line.size() < kMessageSizeMax) return line;
    return Error{ErrorCode::Invalid,
                 "argv and environment are longer than 1 MiB; put what is long into a file"};
  } catch (const Json::exception&) {
    return Error{ErrorCode::Invalid, "argv, environment or a path is not UTF-8"};
  }
}

Result<GuardSpec> decode_guard_spec(std::string_view text) {
  const Json json = parse(text);
  Fields fields(json);
  GuardSpec spec;
  fields.require("attempt", spec.attempt);
  fields.require("argv", spec.argv);
  fields.require("environment", spec.environment);
  fields.require("folder", spec.folder);
  fields.require("work", spec.work);
  fields.take("uid", spec.uid);
  fields.take("cgroup2", spec.cgroup2);
  fields.take("cgroup1", spec.cgroup1);
  fields.take("freezer", spec.freezer);
  fields.take("memory1", spec.memory1);
  fields.take("memory2", spec.memory2);
  fields.take("guard_cgroup", spec.guard_cgroup);
  fields.require("file_size_max", spec.file_size_max);
  fields.take("processes_max", spec.processes_max);
  fields.require("log_bytes_max", spec.log_bytes_max);
  fields.require("grace_ms", spec.grace_ms);
  fields.take("lease_ms", spec.lease_ms);
  fields.take("degradations", spec.degradations);
  if (spec.argv.empty()) fields.fail("'argv' is empty");
  if (!is_valid_attempt_id(spec.attempt)) fields.fail("'attempt' is no attempt id");
  if (spec.uid == 0U || spec.uid == std::numeric_limits<std::uint32_t>::max())
    fields.fail("'uid' is 0 or -1");
  return fields.result(std::move(spec), "guard spec");
}

std::string encode(const GuardState& state) {
  Json json{{"attempt", state.attempt},
            {"phase", name_in(kPhases, state.phase)},
            {"worker", json_of(state.worker)}};
  if (state.exit) json["exit"] = json_of(*state.exit);
  return text_of(json);
}

Result<GuardState> decode_guard_state(std::string_view text) {
  const Json json = parse(text);
  Fields fields(json);
  GuardState state;
  fields.require("attempt", state.attempt);
  take_named(fields, "phase", kPhases, state.phase);
  fields.require("worker", state.worker);
  fields.take("exit", state.exit);
  if ((state.phase == GuardState::Phase::Ended) != state.exit.has_value())
    fields.fail("'exit' does not fit 'phase'");
  return fields.result(std::move(state), "guard state");
}

std::string encode(const Command& command) {
  return text_of({{"op", name_in(kKinds, command.kind)},
                  {"reason", command.reason},
                  {"duration_ms", command.duration_ms}});
}

Result<Command> decode_command(std::string_view text) {
  const Json json = parse(text);
  Fields fields(json);
  Command command;
  take_named(fields, "op", kKinds, command.kind);
  fields.take("reason", command.reason);
  fields.take("duration_ms", command.duration_ms);
  constexpr std::int64_t kYear = 366LL * 24 * 3600 * 1000;
  if (command.duration_ms > kYear) fields.fail("'duration_ms' is more than a year");
  return fields.result(std::move(command), "command");
}

std::string encode(const ExitRecord& exit) { return text_of(json_of(exit)); }

Result<ExitRecord> decode_exit_record(std::string_view text) {
  const Json json = parse(text);
  Fields fields(json);
  ExitRecord exit;
  fields.require_version();
  take_exit(fields, exit);
  return fields.result(std::move(exit), "exit record");
}

std::string encode(const AttemptRecord& record) {
  Json json{{"v", 1},
            {"attempt", record.attempt},
            {"state", name_in(kStates, record.state)},
            {"boot_id", record.boot_id},
            {"cgroup2", record.cgroup2},
            {"cgroup1", record.cgroup1},
            {"guard_cgroup", record.guard_cgroup},
            {"memory_usage", record.memory_usage},
            {"keep", record.keep},
            {"guard", json_of(record.guard)},
            {"worker", json_of(record.worker)},
            {"reason", record.reason}};
  if (record.uid) json["uid"] = *record.uid;
  if (record.exit) json["exit"] = json_of(*record.exit);
  return text_of(json);
}

Result<AttemptRecord> decode_attempt_record(std::string_view text) {
  const Json json = parse(text);
  Fields fields(json);
  AttemptRecord record;
  fields.require_version();
  fields.require("attempt", record.attempt);
  take_named(fields, "state", kStates, record.state);
  fields.require("boot_id", record.boot_id);
  fields.take("uid", record.uid);
  fields.take("cgroup2", record.cgroup2);
  fields.take("cgroup1", record.cgroup1);
  fields.take("guard_cgroup", record.guard_cgroup);
  fields.take("memory_usage", record.memory_usage);
  fields.take("keep", record.keep);
  fields.take("guard", record.guard);
  fields.take("worker", record.worker);
  fields.take("reason", record.reason);
  fields.take("exit", record.exit);
  return fields.result(std::move(record), "attempt record");
}

}  // namespace hivemetal::runner
