#include "job/job.h"

#include <algorithm>
#include <array>
#include <fmt/format.h>
#include <set>

#include "base/utf8.h"
#include "job/files.h"
#include "job/reader.h"
#include "job/tree.h"

namespace hivemetal::job {

namespace {

constexpr std::uint32_t kNodesMax = 10'000;
constexpr double kCpusMax = 4096;
constexpr std::uint64_t kMemoryBytesMin = 1 << 20;
constexpr std::size_t kNameMax = 40;
constexpr std::size_t kArgumentsMax = 1024;
constexpr std::size_t kArgumentsBytesMax = 128 << 10;  // together; the kernel's own limit for one is as large
constexpr std::size_t kVariablesMax = 256;
constexpr std::size_t kVariablesBytesMax = 128 << 10;
constexpr std::size_t kPortsMax = 16;
constexpr std::string_view kReservedPrefix = "HIVEMETAL_";

bool is_lower(char c) { return c >= 'a' && c <= 'z'; }
bool is_digit(char c) { return c >= '0' && c <= '9'; }

// [a-z][a-z0-9-]*, not longer than `size_max`.
bool is_name(std::string_view name, std::size_t size_max) {
  return !name.empty() && name.size() <= size_max && is_lower(name[0]) &&
         std::all_of(name.begin(), name.end(), [](char c) { return is_lower(c) || is_digit(c) || c == '-'; });
}

bool is_variable_name(std::string_view name) {
  const auto is_letter = [](char c) { return is_lower(c) || (c >= 'A' && c <= 'Z') || c == '_'; };
  return !name.empty() && name.size() <= 128 && is_letter(name[0]) &&
         std::all_of(name.begin(), name.end(), [&](char c) { return is_letter(c) || is_digit(c); });
}

// Fills a spec from a tree. The first error is kept and everything after it is skipped.
class SpecReader {
 public:
  // Without a folder, files are not looked for.
  SpecReader(std::string_view file_name, const std::filesystem::path* folder)
      : file_name_(file_name), folder_(folder) {}

  Result<JobSpec> read(const Tree& tree) {
    const Reader root(tree, "", file_name_);
    if (tree.kind == Tree::Kind::Null)
      return root.error("the job is empty; it needs at least name, kind and command");
    const auto keys =
        root.entries({"name", "kind", "runtime", "image", "nodes", "resources", "environment", "files",
                      "command", "env", "network", "checkpoint", "restart", "stop", "ports"});
    if (!keys) return keys.error();
    for (const std::string_view needed : {"name", "kind", "command"}) {
      if (!keys->contains(needed)) return root.error_at(0, fmt::format("the key '{}' is missing", needed));
    }
    each(*keys, "name", &SpecReader::name);
    each(*keys, "kind", &SpecReader::kind);
    each(*keys, "runtime", &SpecReader::runtime);
    each(*keys, "image", &SpecReader::image);
    each(*keys, "nodes", &SpecReader::nodes);
    each(*keys, "resources", &SpecReader::resources);
    each(*keys, "environment", &SpecReader::environment);
    each(*keys, "files", &SpecReader::files);
    each(*keys, "command", &SpecReader::command);
    each(*keys, "env", &SpecReader::env);
    each(*keys, "network", &SpecReader::network);
    each(*keys, "checkpoint", &SpecReader::checkpoint);
    each(*keys, "restart", &SpecReader::restart);
    each(*keys, "stop", &SpecReader::stop);
    each(*keys, "ports", &SpecReader::ports);
    if (!error_) check_docker(root, *keys);
    if (error_) return *error_;
    return std::move(spec_);
  }

 private:
  using Keys = std::map<std::string, Reader, std::less<>>;

  void each(const Keys& keys, std::string_view key, void (SpecReader::*read)(const Reader&)) {
    const auto found = keys.find(key);
    if (!error_ && found != keys.end()) (this->*read)(found->second);
  }

  void fail(Error error) {
    if (!error_) error_ = std::move(error);
  }

  // Takes a value over, or keeps its error. True if there was a value.
  template <class Target, class T>
  bool take(Target& target, Result<T> value) {
    if (!value) fail(value.error());
    if (error_) return false;
    target = *std::move(value);
    return true;
  }

  // One entry of a map, if it is there.
  template <class Target, class T, class... Arguments>
  void take_key(const Keys& keys, std::string_view key, Target& target,
                Result<T> (Reader::*read)(Arguments...) const, std::type_identity_t<Arguments>... arguments) {
    const auto found = keys.find(key);
    if (found != keys.end()) take(target, (found->second.*read)(arguments...));
  }

  Keys keys_of(const Reader& reader, std::initializer_list<std::string_view> names) {
    Keys keys;
    take(keys, reader.entries(names));
    return keys;
  }

  template <class Enum>
  void take_enum(const Reader& reader, Enum& target, std::initializer_list<std::string_view> names) {
    std::size_t index = 0;
    if (take(index, reader.one_of(names))) target = static_cast<Enum>(index);
  }

  void name(const Reader& reader) {
    if (!take(spec_.name, reader.text()) || is_name(spec_.name, kNameMax)) return;
    fail(reader.error(fmt::format(
        "name: write 1 to {} characters of a-z, 0-9 and '-', beginning with a letter", kNameMax)));
  }

  void kind(const Reader& reader) {
    const std::string& text = reader.tree().text;
    if (text == "service" || text == "notebook") {
      return fail(reader.error(
          fmt::format("kind '{}' comes in a later version; this one runs train and task", text)));
    }
    take_enum(reader, spec_.kind, {"train", "task"});
  }

  void runtime(const Reader& reader) { take_enum(reader, spec_.runtime, {"baremetal", "docker"}); }

  void image(const Reader& reader) {
    if (take(spec_.image, reader.text()) && (spec_.image.empty() || spec_.image.size() > 512)) {
      fail(reader.error("image: write the name of an image, such as python:3.11-slim"));
    }
  }

  void nodes(const Reader& reader) {
    const Keys keys = keys_of(reader, {"min", "max"});
    take_key(keys, "min", spec_.nodes.min, &Reader::integer, 1, kNodesMax);
    spec_.nodes.max = spec_.nodes.min;
    take_key(keys, "max", spec_.nodes.max, &Reader::integer, 1, kNodesMax);
    if (!error_ && spec_.nodes.min > spec_.nodes.max) {
      fail(reader.error(fmt::format("nodes.min ({}) is greater than nodes.max ({}); raise max or lower min",
                                    spec_.nodes.min, spec_.nodes.max)));
    }
  }

  void resources(const Reader& reader) {
    const Keys keys = keys_of(reader, {"cpus", "memory", "disk", "gpus", "gpu_memory"});
    Resources& resources = spec_.resources;
    take_key(keys, "cpus", resources.cpus, &Reader::number, 0.01, kCpusMax);
    take_key(keys, "memory", resources.memory_bytes, &Reader::size);
    take_key(keys, "disk", resources.disk_bytes, &Reader::size);
    take_key(keys, "gpus", resources.gpus, &Reader::integer, 0, 1024);
    take_key(keys, "gpu_memory", resources.gpu_memory_bytes, &Reader::size);
    if (!error_ && resources.memory_bytes < kMemoryBytesMin) {
      fail(reader.error("resources.memory is less than 1MiB; no program starts with that"));
    }
  }

  void environment(const Reader& reader) {
    const Keys keys = keys_of(reader, {"host", "requirements"});
    Environment& environment = spec_.environment;
    if (keys.contains("host") && keys.contains("requirements")) {
      return fail(reader.error("environment has host and requirements; keep one of them"));
    }
    take_key(keys, "host", environment.host, &Reader::text);
    if (!error_ && keys.contains("host") && !is_name(environment.host, kNameMax)) {
      fail(keys.at("host").error("environment.host is no name of an environment (a-z, 0-9 and '-')"));
    }
    if (keys.contains("requirements")) take_path(keys.at("requirements"), environment.requirements);
  }

  // A path below the job's folder; with a folder, of a file that is there.
  void take_path(const Reader& reader, std::string& path) {
    if (!take(path, reader.text())) return;
    if (!is_inside(path)) {
      return fail(reader.error(
          fmt::format("{}: '{}' must be a path below the job's folder, without '..'", reader.path(), path)));
    }
    if (folder_ == nullptr) return;
    const auto found = find_file(*folder_, path);
    if (!found) fail(reader.error(fmt::format("{}: {}", reader.path(), found.error().message)));
  }

  void files(const Reader& reader) {
    std::vector<Reader> items;
    take(items, reader.items(kFilesMax));
    std::set<std::string> seen;
    for (const Reader& item : items) {
      std::string path;
      take_path(item, path);
      if (!error_ && !seen.insert(path).second) {
        fail(item.error(fmt::format("{}: '{}' is there twice", item.path(), path)));
      }
      spec_.files.push_back(std::move(path));
    }
  }

  void command(const Reader& reader) {
    if (reader.tree().kind == Tree::Kind::Scalar) {
      return fail(reader.error("command must be a list; write it as [python, train.py]"));
    }
    if (reader.tree().kind == Tree::Kind::Null ||
        (reader.tree().kind == Tree::Kind::List && reader.tree().items.empty())) {
      return fail(
          reader.error("command is empty; write the program and its arguments, as [python, train.py]"));
    }
    std::vector<Reader> items;
    take(items, reader.items(kArgumentsMax));
    std::size_t bytes = 0;
    for (const Reader& item : items) {
      take(spec_.command.emplace_back(), item.text());
      bytes += spec_.command.back().size() + 1;
    }
    if (!error_ && spec_.command.front().empty()) {
      fail(items.front().error("command is empty; its first item is the program to run"));
    }
    if (!error_ && bytes > kArgumentsBytesMax) {
      fail(reader.error(
          fmt::format("command has {} bytes, at most {} are allowed", bytes, kArgumentsBytesMax)));
    }
  }

  void env(const Reader& reader) {
    std::vector<std::pair<std::string, Reader>> pairs;
    take(pairs, reader.pairs(kVariablesMax));
    std::size_t bytes = 0;
    for (const auto& [name, value] : pairs) {
      if (!is_variable_name(name)) {
        return fail(
            value.error(fmt::format("{}: a variable's name has letters, digits and '_' only", value.path())));
      }
      if (name.starts_with(kReservedPrefix)) {
        return fail(
            value.error(fmt::format("{}: names that begin with {} are set by the node; choose another",
                                    value.path(), kReservedPrefix)));
      }
      std::string& text = spec_.env[name];
      if (!take(text, value.text())) return;
      bytes += name.size() + text.size() + 2;
    }
    if (bytes > kVariablesBytesMax) {
      fail(reader.error(fmt::format("env has {} bytes, at most {} are allowed", bytes, kVariablesBytesMax)));
    }
  }

  void network(const Reader& reader) {
    const Keys keys = keys_of(reader, {"egress"});
    if (keys.contains("egress")) take_enum(keys.at("egress"), spec_.egress, {"none", "swarm", "internet"});
  }

  void checkpoint(const Reader& reader) {
    const Keys keys = keys_of(reader, {"path", "every", "keep"});
    Checkpoint checkpoint;
    if (!error_ && !keys.contains("path")) return fail(reader.error("checkpoint lacks its path"));
    take_key(keys, "path", checkpoint.path, &Reader::text);
    take_key(keys, "every", checkpoint.every, &Reader::duration);
    take_key(keys, "keep", checkpoint.keep, &Reader::integer, 1, 1000);
    if (!error_ && !is_inside(checkpoint.path)) {
      return fail(
          keys.at("path").error("checkpoint.path must be a path below the worker's folder, without '..'"));
    }
    if (!error_ && checkpoint.every < std::chrono::seconds(1)) {
      return fail(keys.at("every").error("checkpoint.every must be at least 1s"));
    }
    spec_.checkpoint = std::move(checkpoint);
  }

  void restart(const Reader& reader) {
    const Keys keys = keys_of(reader, {"max", "backoff"});
    take_key(keys, "max", spec_.restart.max, &Reader::integer, 0, 1'000'000);
    take_key(keys, "backoff", spec_.restart.backoff, &Reader::duration);
  }

  void stop(const Reader& reader) {
    const Keys keys = keys_of(reader, {"grace"});
    take_key(keys, "grace", spec_.grace, &Reader::duration);
    if (!error_ && spec_.grace > std::chrono::hours(1)) fail(reader.error("stop.grace is at most 1h"));
  }

  void ports(const Reader& reader) {
    std::vector<Reader> items;
    take(items, reader.items(kPortsMax));
    std::set<std::string> seen;
    for (const Reader& item : items) {
      const Keys keys = keys_of(item, {"name", "port", "kind"});
      Port port;
      if (!error_ && !keys.contains("name"))
        return fail(item.error(fmt::format("{} lacks its name", item.path())));
      take_key(keys, "name", port.name, &Reader::text);
      take_key(keys, "port", port.port, &Reader::integer, 0, 65535);
      if (keys.contains("kind")) {
        take_enum(keys.at("kind"), port.kind, {"http", "gradio", "jupyter", "kernel", "tcp"});
      }
      if (!error_ && !is_name(port.name, kNameMax)) {
        fail(
            item.error(fmt::format("{}.name: write a-z, 0-9 and '-', beginning with a letter", item.path())));
      }
      if (!error_ && !seen.insert(port.name).second) {
        fail(item.error(fmt::format("{}.name: '{}' is there twice", item.path(), port.name)));
      }
      spec_.ports.push_back(std::move(port));
    }
  }

  void check_docker(const Reader& root, const Keys& keys) {
    const bool docker = spec_.runtime == Runtime::Docker;
    const auto at = [&](std::string_view key) { return keys.contains(key) ? keys.find(key)->second : root; };
    if (docker && spec_.image.empty()) {
      fail(at("runtime").error("runtime docker needs an image; add 'image: NAME'"));
    } else if (!docker && !spec_.image.empty()) {
      fail(at("image").error("image needs runtime docker; a baremetal job has none"));
    } else if (docker && spec_.nodes.max != 1) {
      fail(at("nodes").error("a docker job runs on one node; set nodes.max to 1 or use runtime baremetal"));
    }
  }

  std::string_view file_name_;
  const std::filesystem::path* folder_;
  JobSpec spec_;
  std::optional<Error> error_;
};

// No error if `text` is small enough and text at all.
Result<void> check_text(std::string_view text, std::string_view file_name) {
  if (text.size() > kJobBytesMax) return too_large(file_name, text.size());
  const auto odd = std::find_if(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) < ' ' && c != '\n' && c != '\t' && c != '\r') || c == 0x7f;
  });
  if (odd != text.end()) {
    return Error{
        ErrorCode::Invalid,
        fmt::format("{}:{}: byte {:#04x} does not belong into a text file; is this a job file?", file_name,
                    1 + std::count(text.begin(), odd, '\n'), static_cast<unsigned char>(*odd))};
  }
  if (!is_utf8(text)) {
    return Error{ErrorCode::Invalid, fmt::format("{}: not UTF-8; save the file as UTF-8 text", file_name)};
  }
  return {};
}

}  // namespace

Result<JobSpec> parse_job(std::string_view text, const std::filesystem::path& folder,
                          std::string_view file_name) {
  const auto checked = check_text(text, file_name);
  if (!checked) return checked.error();
  const auto tree = parse_yaml(text, file_name);
  if (!tree) return tree.error();
  return SpecReader(file_name, &folder).read(*tree);
}

Result<JobSpec> load_job(const std::filesystem::path& file) {
  const auto text = read_job_file(file);
  if (!text) return text.error();
  return parse_job(*text, file.has_parent_path() ? file.parent_path() : ".", file.filename().string());
}

Result<JobSpec> from_json_text(std::string_view text) {
  if (text.size() > kJobBytesMax) return too_large("job", text.size());
  const auto tree = parse_json(text);
  if (!tree) return tree.error();
  return SpecReader("job", nullptr).read(*tree);
}

Result<JobSpec> from_json(const nlohmann::json& json) {
  const auto tree = tree_of(json);
  if (!tree) return tree.error();
  return SpecReader("job", nullptr).read(*tree);
}

}  // namespace hivemetal::job
