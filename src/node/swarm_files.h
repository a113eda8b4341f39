// Which swarm the node in a directory belongs to: `swarm.json` (name, membership, addresses to join through)
// and, at the swarm's creator, `swarm.key`. Written by `swarm create` and `join` before the daemon runs, read
// by it.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "identity/invite.h"
#include "identity/keys.h"
#include "identity/membership.h"
#include "node/directory.h"

namespace hivemetal::node {

struct SwarmFiles {
  std::string name;
  identity::Membership membership;
  std::vector<std::string> addresses;  // of the invite; empty at the creator
};

// The node's key; made on first use.
Result<identity::PrivateKey> load_or_make_key(const NodeDirectory& directory);

// NotFound, saying how to get one, if the node belongs to no swarm.
Result<SwarmFiles> load_swarm(const NodeDirectory& directory);

// Makes a swarm and this node its first member. Refused if it belongs to one already.
Result<SwarmFiles> create_swarm_in(const NodeDirectory& directory, const std::string& name, double now_unix);

// Joins the invite's swarm. Refused if the node belongs to another one, or the invite does not hold; joining
// the same swarm again renews the membership and the addresses.
Result<SwarmFiles> join_swarm_in(const NodeDirectory& directory, const std::string& invite, double now_unix);

}  // namespace hivemetal::node
