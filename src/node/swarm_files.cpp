#include "node/swarm_files.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "identity/base64.h"
#include "node/file.h"

namespace hivemetal::node {

namespace {

using nlohmann::json;

constexpr std::size_t kSwarmFileBytesMax = 64 * 1024;

Result<void> save(const NodeDirectory& directory, const SwarmFiles& swarm) {
  const json content{{"name", swarm.name},
                     {"swarm", swarm.membership.swarm().base58()},
                     {"membership", identity::base64_encode(swarm.membership.bytes())},
                     {"addresses", swarm.addresses}};
  return write_file(directory.path() / "swarm.json", content.dump(2) + "\n", 0600);
}

Error broken(const NodeDirectory& directory) {
  return Error{
      ErrorCode::Invalid,
      fmt::format("{} is damaged; join the swarm again with a new invite, after moving the file away",
                  (directory.path() / "swarm.json").string())};
}

}  // namespace

Result<identity::PrivateKey> load_or_make_key(const NodeDirectory& directory) {
  const auto file = directory.identity_file();
  std::error_code error;
  if (std::filesystem::exists(file, error)) return identity::PrivateKey::load(file);
  auto key = identity::PrivateKey::generate();
  if (const auto saved = key.save(file); !saved) return saved.error();
  return key;
}

Result<SwarmFiles> load_swarm(const NodeDirectory& directory) {
  const auto text = read_file(directory.path() / "swarm.json", kSwarmFileBytesMax);
  if (!text && text.error().code == ErrorCode::NotFound) {
    return Error{ErrorCode::NotFound, fmt::format("the node in {0} belongs to no swarm; make one with: "
                                                  "hivemetal swarm create NAME --dir {0}, or join one "
                                                  "with: hivemetal join INVITE --dir {0}",
                                                  directory.path().string())};
  }
  if (!text) return text.error();
  const auto content = json::parse(*text, nullptr, /*allow_exceptions=*/false);
  try {
    const auto bytes = identity::base64_decode(content.at("membership").get_ref<const std::string&>());
    if (!bytes) return broken(directory);
    auto membership = identity::Membership::from_bytes(*bytes);
    if (!membership) return broken(directory);
    return SwarmFiles{content.at("name").get<std::string>(), std::move(*membership),
                      content.at("addresses").get<std::vector<std::string>>()};
  } catch (const json::exception&) {
    return broken(directory);
  }
}

Result<SwarmFiles> create_swarm_in(const NodeDirectory& directory, const std::string& name, double now_unix) {
  if (const auto current = load_swarm(directory); current) {
    return Error{
        ErrorCode::Refused,
        fmt::format("the node in {} belongs to the swarm {} already; choose another directory with --dir",
                    directory.path().string(), current->name)};
  } else if (current.error().code != ErrorCode::NotFound) {
    return current.error();
  }
  const auto key = load_or_make_key(directory);
  if (!key) return key.error();
  const auto swarm = identity::create_swarm(name, key->peer_id(), now_unix);
  if (!swarm) return swarm.error();
  if (const auto saved = swarm->key.save(directory.path() / "swarm.key"); !saved) return saved.error();
  SwarmFiles files{swarm->name, swarm->membership, {}};
  if (const auto saved = save(directory, files); !saved) return saved.error();
  return files;
}

Result<SwarmFiles> join_swarm_in(const NodeDirectory& directory, const std::string& text, double now_unix) {
  const auto invite = identity::Invite::parse(text);
  if (!invite) return invite.error();
  const auto current = load_swarm(directory);
  if (!current && current.error().code != ErrorCode::NotFound) return current.error();
  const auto key = load_or_make_key(directory);
  if (!key) return key.error();
  std::optional<identity::SwarmId> belongs;
  if (current) belongs = current->membership.swarm();
  auto membership = invite->join(*key, now_unix, belongs);
  if (!membership) return membership.error();
  SwarmFiles files{invite->swarm_name(), std::move(*membership), {}};
  for (const auto& address : invite->addresses()) files.addresses.push_back(address.text());
  if (const auto saved = save(directory, files); !saved) return saved.error();
  return files;
}

}  // namespace hivemetal::node
