// Invites: text that one pastes to let a machine join a swarm. docs/formats/invite.md
//
// Whoever holds the text can join until it expires, so it is a secret; it carries the key that certifies the
// joiner, so nobody needs to be up for that. One invite serves any number of machines.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "identity/keys.h"
#include "identity/membership.h"
#include "identity/multiaddr.h"

namespace hivemetal::identity {

inline constexpr std::string_view kInvitePrefix = "hm1-";
inline constexpr std::size_t kInviteTextMax = 4096;
inline constexpr std::size_t kInviteAddressesMax = 8;

struct InviteOptions {
  std::chrono::seconds lifetime = std::chrono::hours(24);                   // in which one can join
  std::chrono::seconds membership_lifetime = std::chrono::hours(365 * 24);  // of those who join
  bool members_may_invite = true;                                           // those who join
  std::optional<Bytes> seed;  // of the invite's key: for vectors; random otherwise
};

// An invite to `swarm_name` by the member `membership`, whose key is `key`. `addresses` are those of members
// that are up, each with its peer id, the best first; the first kInviteAddressesMax are kept.
//   Refused  the membership does not hold now, may not invite, or its chain is as long as chains may be
//   Invalid  no address, one without /p2p, or a lifetime that is not positive
Result<std::string> make_invite(const Membership& membership, const PrivateKey& key,
                                std::string_view swarm_name, const std::vector<Multiaddr>& addresses,
                                double now, const InviteOptions& options = {});

class Invite {
 public:
  // Blanks and line ends are skipped: pasted text is often wrapped. Fails with Invalid if the text is no
  // invite, is truncated or mistyped, is too large or names no address; each message says what to do. An
  // expired invite can be read.
  static Result<Invite> parse(std::string_view text);

  const std::string& swarm_name() const { return swarm_name_; }
  const SwarmId& swarm() const { return membership_.swarm(); }
  const std::vector<Multiaddr>& addresses() const { return addresses_; }                       // never empty
  std::uint64_t join_before() const { return membership_.certificates().back().join_before; }  // Unix seconds

  // The membership of the node with the key `own`. `current` is the swarm that the node belongs to already,
  // if any.
  //   Refused  the invite has expired, is of another swarm than `current`, or its certificates do not hold
  Result<Membership> join(const PrivateKey& own, double now,
                          const std::optional<SwarmId>& current = {}) const;

 private:
  Invite(std::string swarm_name, std::vector<Multiaddr> addresses, PrivateKey key, Membership membership)
      : swarm_name_(std::move(swarm_name)),
        addresses_(std::move(addresses)),
        key_(std::move(key)),
        membership_(std::move(membership)) {}

  std::string swarm_name_;
  std::vector<Multiaddr> addresses_;
  PrivateKey key_;
  Membership membership_;  // of key_
};

}  // namespace hivemetal::identity
