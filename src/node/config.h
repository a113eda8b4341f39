// config.yaml in the node's directory: what its owner decided. The page is docs/formats/config.md.
//
// Every key has a default, so an absent file is a valid one. A key that is not known is an error with its
// line, because a misspelt limit that is silently ignored lends out more than its owner wanted.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace hivemetal::node {

inline constexpr std::size_t kConfigBytesMax = 256 * 1024;

struct Config {
  std::string name;  // [host name] what people see; [a-z0-9-], at most 32
  std::vector<std::string> listen{"/ip4/127.0.0.1/tcp/0"};  // multiaddrs; tcp/0 takes a free port
  std::vector<std::string> announce;                // what others are told instead of the listen addresses
  std::optional<double> cpus;                       // what is lent; [all]
  std::optional<std::uint64_t> memory_bytes;        // what is lent; [three quarters of the machine]
  std::map<std::string, std::string> environments;  // name → folder with bin/
  std::string p2pd;                                 // path of libp2p's daemon; [p2p::find_p2pd()]
  std::string guard;                                // path of hivemetal-guard; [beside this binary]
  std::string log_level = "info";                   // debug, info, warn, error
};

// The settings of `text` over those of `base`. Fails with Invalid; the message reads
// `FILE:LINE: what is wrong; what to do`.
Result<Config> parse_config(std::string_view text, std::string_view file, Config base = {});

// The file's settings, or the defaults if there is no file.
Result<Config> load_config(const std::filesystem::path& file);

// A name for a node that was given none: the host name, cut to what a name may be.
std::string default_name();

// The guard that runs workers: the configured path, then beside this binary.
Result<std::filesystem::path> find_guard(const Config& config);

}  // namespace hivemetal::node
