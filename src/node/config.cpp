#include "node/config.h"

#include <fmt/format.h>
#include <system_error>
#include <unistd.h>

#include "identity/multiaddr.h"
#include "job/reader.h"
#include "job/tree.h"
#include "node/file.h"

namespace hivemetal::node {

namespace {

namespace fs = std::filesystem;
using job::Reader;

constexpr std::size_t kAddressesMax = 32;
constexpr std::size_t kEnvironmentsMax = 64;

bool is_name(std::string_view text) {
  return !text.empty() && text.size() <= 32 && std::all_of(text.begin(), text.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-';
  });
}

Result<void> read_name(const Reader& value, Config& config) {
  auto text = value.text();
  if (!text) return text.error();
  if (!is_name(*text)) {
    return value.error(fmt::format("name is '{}'; use at most 32 of a-z, 0-9 and -", text->substr(0, 60)));
  }
  config.name = std::move(*text);
  return {};
}

Result<void> read_addresses(const Reader& value, std::vector<std::string>& into) {
  const auto items = value.items(kAddressesMax);
  if (!items) return items.error();
  into.clear();
  for (const Reader& item : *items) {
    auto text = item.text();
    if (!text) return text.error();
    if (const auto address = identity::Multiaddr::parse(*text); !address) {
      return item.error(
          fmt::format("{}: {}; write it as /ip4/0.0.0.0/tcp/31337", item.path(), address.error().message));
    }
    into.push_back(std::move(*text));
  }
  return {};
}

Result<void> read_cpus(const Reader& value, Config& config) {
  const auto cpus = value.number(0.01, 65536);
  if (!cpus) return cpus.error();
  config.cpus = *cpus;
  return {};
}

Result<void> read_memory(const Reader& value, Config& config) {
  const auto bytes = value.size();
  if (!bytes) return bytes.error();
  if (*bytes == 0) return value.error("memory is 0; write how much is lent, such as 4GiB");
  config.memory_bytes = *bytes;
  return {};
}

Result<void> read_environments(const Reader& value, Config& config) {
  const auto pairs = value.pairs(kEnvironmentsMax);
  if (!pairs) return pairs.error();
  for (const auto& [name, item] : *pairs) {
    auto folder = item.text();
    if (!folder) return folder.error();
    if (!is_name(name)) {
      return item.error(
          fmt::format("'{}' is no name of an environment; use a-z, 0-9 and -", name.substr(0, 60)));
    }
    if (folder->empty() || folder->front() != '/') {
      return item.error(fmt::format("{} is '{}', which is no absolute path; write it from /", item.path(),
                                    folder->substr(0, 60)));
    }
    config.environments[name] = std::move(*folder);
  }
  return {};
}

Result<void> read_program(const Reader& value, std::string& into) {
  auto text = value.text();
  if (!text) return text.error();
  into = std::move(*text);
  return {};
}

Result<void> read_log_level(const Reader& value, Config& config) {
  static constexpr std::string_view kLevels[] = {"debug", "info", "warn", "error"};
  const auto level = value.one_of({kLevels[0], kLevels[1], kLevels[2], kLevels[3]});
  if (!level) return level.error();
  config.log_level = kLevels[*level];
  return {};
}

Result<void> read_key(std::string_view key, const Reader& value, Config& config) {
  if (key == "name") return read_name(value, config);
  if (key == "listen") return read_addresses(value, config.listen);
  if (key == "announce") return read_addresses(value, config.announce);
  if (key == "cpus") return read_cpus(value, config);
  if (key == "memory") return read_memory(value, config);
  if (key == "environments") return read_environments(value, config);
  if (key == "log_level") return read_log_level(value, config);
  return read_program(value, key == "p2pd" ? config.p2pd : config.guard);
}

fs::path own_binary() {
  std::error_code error;
  return fs::read_symlink("/proc/self/exe", error);
}

bool is_program(const fs::path& file) { return !fs::is_directory(file) && ::access(file.c_str(), X_OK) == 0; }

}  // namespace

Result<Config> parse_config(std::string_view text, std::string_view file, Config base) {
  if (base.name.empty()) base.name = default_name();
  if (text.size() > kConfigBytesMax) {
    return Error{ErrorCode::Invalid,
                 fmt::format("{}: has {} bytes, and a configuration at most {}; is it the right file?", file,
                             text.size(), kConfigBytesMax)};
  }
  const auto tree = job::parse_yaml(text, file);
  if (!tree) return tree.error();
  if (tree->kind == job::Tree::Kind::Null) return base;
  const Reader reader(*tree, "", file);
  if (tree->kind != job::Tree::Kind::Map)
    return reader.error("a configuration is a map of settings, such as `name: mill`");
  const auto entries = reader.entries(
      {"name", "listen", "announce", "cpus", "memory", "environments", "p2pd", "guard", "log_level"});
  if (!entries) return entries.error();
  for (const auto& [key, value] : *entries) {
    if (const auto read = read_key(key, value, base); !read) return read.error();
  }
  return base;
}

Result<Config> load_config(const fs::path& file) {
  std::error_code error;
  if (!fs::exists(file, error)) return parse_config("", file.string());
  const auto text = read_file(file, kConfigBytesMax);
  if (!text) return text.error();
  return parse_config(*text, file.string());
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
