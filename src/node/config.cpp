#include "node/config.h"

#include <cmath>
#include <cstdlib>
#include <fmt/format.h>
#include <fstream>
#include <functional>
#include <system_error>
#include <unistd.h>
#include <yaml-cpp/yaml.h>

#include "identity/multiaddr.h"
#include "node/file.h"

namespace hivemetal::node {

namespace {

namespace fs = std::filesystem;

constexpr std::string_view kKeys[] = {"name",         "listen", "announce", "cpus",     "memory",
                                      "environments", "p2pd",   "guard",    "log_level"};

// Where a message points: `config.yaml:3: `.
struct Place {
  std::string_view file;

  Error error(const YAML::Mark& mark, std::string text) const {
    return Error{ErrorCode::Invalid, fmt::format("{}:{}: {}", file, mark.line + 1, text)};
  }
};

// The number of single-character edits between two words.
std::size_t distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = std::exchange(row[0], i);
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t change = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = std::exchange(row[j], std::min({row[j] + 1, row[j - 1] + 1, change}));
    }
  }
  return row.back();
}

std::string_view nearest_key(std::string_view key) {
  return *std::min_element(std::begin(kKeys), std::end(kKeys),
                           [&](auto a, auto b) { return distance(key, a) < distance(key, b); });
}

bool is_name(std::string_view text) {
  return !text.empty() && text.size() <= 32 && std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-';
  });
}

std::optional<double> positive_number(const std::string& text) {
  char* end = nullptr;
  const double value = std::strtod(text.c_str(), &end);
  if (text.empty() || *end != '\0' || !std::isfinite(value) || value <= 0) return std::nullopt;
  return value;
}

// `512MiB`, `4GiB`: a whole number and its unit.
std::optional<std::uint64_t> memory_size(const std::string& text) {
  char* end = nullptr;
  if (text.empty() || text[0] < '0' || text[0] > '9') return std::nullopt;
  const auto value = std::strtoull(text.c_str(), &end, 10);
  const std::string_view unit(end);
  const int shift = unit == "MiB" ? 20 : unit == "GiB" ? 30 : unit == "TiB" ? 40 : 0;
  if (shift == 0 || value == 0 || value > (1ULL << 20)) return std::nullopt;
  return static_cast<std::uint64_t>(value) << shift;
}

Result<std::string> text_of(const Place& place, const std::string& key, const YAML::Node& value) {
  if (!value.IsScalar())
    return place.error(value.Mark(), fmt::format("{} must be one value, not a list or a map", key));
  return value.Scalar();
}

Result<std::vector<std::string>> addresses_of(const Place& place, const std::string& key,
                                              const YAML::Node& value) {
  if (!value.IsSequence()) {
    return place.error(
        value.Mark(),
        fmt::format("{} must be a list of multiaddresses, such as [/ip4/0.0.0.0/tcp/31337]", key));
  }
  std::vector<std::string> found;
  for (const auto& item : value) {
    const auto text = text_of(place, key, item);
    if (!text) return text.error();
    const auto address = identity::Multiaddr::parse(*text);
    if (!address) {
      return place.error(item.Mark(), fmt::format("{}: {}; write it as /ip4/0.0.0.0/tcp/31337", key,
                                                  address.error().message));
    }
    found.push_back(*text);
  }
  return found;
}

Result<void> read_environments(const Place& place, const YAML::Node& value, Config& config) {
  if (!value.IsMap())
    return place.error(value.Mark(), "environments must map names to folders, such as {torch: /opt/torch}");
  for (const auto& item : value) {
    const auto folder = text_of(place, "environments", item.second);
    if (!folder) return folder.error();
    const auto name = item.first.IsScalar() ? item.first.Scalar() : std::string();
    if (!is_name(name))
      return place.error(item.first.Mark(),
                         fmt::format("\"{}\" is no name of an environment; use a-z, 0-9 and -", name));
    if (folder->empty() || folder->front() != '/') {
      return place.error(
          item.second.Mark(),
          fmt::format("environment {}: \"{}\" is no absolute path; write it from /", name, *folder));
    }
    config.environments[name] = *folder;
  }
  return {};
}

Result<void> read_scalar(const Place& place, const std::string& key, const YAML::Node& value,
                         Config& config) {
  const auto text = text_of(place, key, value);
  if (!text) return text.error();
  const auto wrong = [&](std::string_view remedy) {
    return place.error(value.Mark(),
                       fmt::format("{}: \"{}\" is not valid; {}", key, text->substr(0, 64), remedy));
  };
  if (key == "name") {
    if (!is_name(*text)) return wrong("use at most 32 of a-z, 0-9 and -");
    config.name = *text;
  } else if (key == "cpus") {
    config.cpus = positive_number(*text);
    if (!config.cpus) return wrong("write a number above 0, such as 1.5");
  } else if (key == "memory") {
    config.memory_bytes = memory_size(*text);
    if (!config.memory_bytes) return wrong("write a whole number with MiB, GiB or TiB, such as 4GiB");
  } else if (key == "log_level") {
    if (*text != "debug" && *text != "info" && *text != "warn" && *text != "error")
      return wrong("use debug, info, warn or error");
    config.log_level = *text;
  } else {
    (key == "p2pd" ? config.p2pd : config.guard) = *text;
  }
  return {};
}

Result<void> read_key(const Place& place, const std::string& key, const YAML::Node& value, Config& config) {
  if (key == "listen" || key == "announce") {
    auto found = addresses_of(place, key, value);
    if (!found) return found.error();
    (key == "listen" ? config.listen : config.announce) = std::move(*found);
    return {};
  }
  if (key == "environments") return read_environments(place, value, config);
  return read_scalar(place, key, value, config);
}

Result<Config> read_document(const Place& place, const YAML::Node& document, Config config) {
  if (config.name.empty()) config.name = default_name();
  if (document.IsNull()) return config;
  if (!document.IsMap())
    return place.error(document.Mark(), "the file must be a map of settings, such as `name: mill`");
  std::set<std::string> seen;
  for (const auto& item : document) {
    const auto key = item.first.IsScalar() ? item.first.Scalar() : std::string();
    if (std::find(std::begin(kKeys), std::end(kKeys), key) == std::end(kKeys)) {
      return place.error(item.first.Mark(), fmt::format("unknown key \"{}\"; did you mean \"{}\"?",
                                                        key.substr(0, 64), nearest_key(key)));
    }
    if (!seen.insert(key).second)
      return place.error(item.first.Mark(), fmt::format("\"{}\" is set twice; keep one", key));
    const auto read = read_key(place, key, item.second, config);
    if (!read) return read.error();
  }
  return config;
}

fs::path own_binary() {
  std::error_code error;
  return fs::read_symlink("/proc/self/exe", error);
}

bool is_program(const fs::path& file) { return !fs::is_directory(file) && ::access(file.c_str(), X_OK) == 0; }

}  // namespace

Result<Config> parse_config(std::string_view text, std::string_view file, Config base) {
  const Place place{file};
  if (text.size() > kConfigBytesMax) {
    return Error{ErrorCode::Invalid,
                 fmt::format("{}: has {} bytes, and a configuration at most {}; is it the right file?", file,
                             text.size(), kConfigBytesMax)};
  }
  try {
    return read_document(place, YAML::Load(std::string(text)), std::move(base));
  } catch (const YAML::Exception& error) {
    return place.error(error.mark, error.msg + "; see docs/formats/config.md");
  }
}

Result<Config> load_config(const fs::path& file) {
  std::error_code error;
  if (!fs::exists(file, error)) return parse_config("", file.string());
  const auto text = read_file(file, kConfigBytesMax);
  if (!text) return text.error();
  return parse_config(*text, file.string());
}

Result<void> save_config(const Config& config, const fs::path& file) {
  const Config defaults;
  YAML::Emitter out;
  out << YAML::BeginMap << YAML::Key << "name" << YAML::Value << config.name;
  if (config.listen != defaults.listen) out << YAML::Key << "listen" << YAML::Value << config.listen;
  if (!config.announce.empty()) out << YAML::Key << "announce" << YAML::Value << config.announce;
  if (config.cpus) out << YAML::Key << "cpus" << YAML::Value << *config.cpus;
  if (config.memory_bytes)
    out << YAML::Key << "memory" << YAML::Value
        << fmt::format("{}MiB", std::max<std::uint64_t>(1, *config.memory_bytes >> 20));
  if (!config.environments.empty()) out << YAML::Key << "environments" << YAML::Value << config.environments;
  if (!config.p2pd.empty()) out << YAML::Key << "p2pd" << YAML::Value << config.p2pd;
  if (!config.guard.empty()) out << YAML::Key << "guard" << YAML::Value << config.guard;
  if (config.log_level != defaults.log_level)
    out << YAML::Key << "log_level" << YAML::Value << config.log_level;
  out << YAML::EndMap;
  return write_file(file, std::string(out.c_str()) + "\n", 0600);
}

std::string default_name() {
  char buffer[256] = {};
  if (::gethostname(buffer, sizeof buffer - 1) != 0) return "node";
  std::string name;
  for (const char* c = buffer; *c != '\0' && *c != '.' && name.size() < 32; ++c) {
    const char lower = *c >= 'A' && *c <= 'Z' ? static_cast<char>(*c - 'A' + 'a') : *c;
    if ((lower >= 'a' && lower <= 'z') || (lower >= '0' && lower <= '9') || lower == '-') name += lower;
  }
  return name.empty() ? "node" : name;
}

Result<fs::path> find_guard(const Config& config) {
  const auto file =
      config.guard.empty() ? own_binary().parent_path() / "hivemetal-guard" : fs::path(config.guard);
  if (is_program(file)) return file;
  return Error{ErrorCode::NotFound,
               fmt::format("{} is no program; build the target hivemetal-guard or set guard: in config.yaml",
                           file.string())};
}

}  // namespace hivemetal::node
