// Who belongs to a swarm, with nothing central.
//
// A swarm is an Ed25519 key. It certifies the node of its creator; who is certified may invite, and an invite
// carries a fresh key of its own, with which the joiner certifies itself. A *membership* is the chain of
// these certificates:
//
//     swarm key ──> creator's node ──> invite key ──> node ──> invite key ──> node
//
// Whoever knows the swarm's id can check a chain, and nobody has to be up to issue one. Nothing in it is
// secret: it speaks for the node whose peer id is at its end, and the transport proves who that is.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "identity/keys.h"

namespace hivemetal::identity {

// The peer id of the swarm's key: `12D3KooW…`.
using SwarmId = PeerId;

// One link of the chain: its issuer says that the subject belongs to the swarm.
struct Certificate {
  PeerId subject;
  std::uint64_t expires = 0;  // Unix seconds
  bool may_invite =
      false;  // whether the subject may, or for an invite's key: whether those who join by it may

  // Not 0 for the key of an invite: it may certify one more link and nothing below it, until then. That
  // moment is kept by those who join; a joiner with changed software is stopped by `expires` alone.
  std::uint64_t join_before = 0;

  Bytes signature;

  bool is_invite() const { return join_before != 0; }

  friend bool operator==(const Certificate&, const Certificate&) = default;
};

inline constexpr std::size_t kCertificatesMax = 8;
inline constexpr std::size_t kMembershipBytesMax = 2048;

class Membership {
 public:
  // Reads what bytes() wrote. Fails with Invalid on more than kMembershipBytesMax bytes, more than
  // kCertificatesMax certificates, or none. A membership that was read still says nothing: verify() it.
  static Result<Membership> from_bytes(std::string_view bytes);
  Bytes bytes() const;

  const SwarmId& swarm() const { return swarm_; }
  const std::vector<Certificate>& certificates() const { return certificates_; }  // never empty
  const PeerId& subject() const { return certificates_.back().subject; }
  bool may_invite() const { return certificates_.back().may_invite && !certificates_.back().is_invite(); }

  // The earliest end of a certificate in the chain, in Unix seconds.
  std::uint64_t expires() const;

  // No error if the chain makes `subject` a member of `swarm` at `now` (Unix seconds); else Refused with the
  // reason.
  Result<void> verify(const SwarmId& swarm, const PeerId& subject, double now) const;

  // A chain of one certificate, signed by the swarm's key.
  static Membership found(const PrivateKey& swarm_key, const PeerId& subject, std::uint64_t expires);

  // This chain and one certificate more, signed by `key`, which must be that of subject(); its `signature` is
  // made here. Does not check whether the result verifies.
  Membership extended(const PrivateKey& key, Certificate certificate) const;

  friend bool operator==(const Membership&, const Membership&) = default;

 private:
  Membership() = default;

  SwarmId swarm_;
  std::vector<Certificate> certificates_;
};

struct Swarm {
  std::string name;  // [a-z][a-z0-9-]{0,39}: a label, nothing proves it
  PrivateKey key;    // only needed again when the creator's membership ends; its peer id is the swarm's id
  Membership membership;  // of the creator's node, for ten years
};

// A new swarm. Fails with Invalid if `name` is none.
Result<Swarm> create_swarm(std::string_view name, const PeerId& creator, double now);

// Fails with Invalid, saying what a name looks like.
Result<void> check_swarm_name(std::string_view name);

// "2026-11-22 17:30 UTC"
std::string utc_text(std::uint64_t unix_seconds);

}  // namespace hivemetal::identity
