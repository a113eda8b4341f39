#include "identity/invite.h"

#include <algorithm>
#include <fmt/format.h>
#include <openssl/sha.h>
#include <utility>

#include "base/check.h"
#include "base/random.h"
#include "identity/base58.h"
#include "identity/membership.pb.h"

namespace hivemetal::identity {

namespace {

constexpr std::size_t kChecksumBytes = 4;

Error invalid(std::string message) { return {ErrorCode::Invalid, std::move(message)}; }
Error refused(std::string message) { return {ErrorCode::Refused, std::move(message)}; }

Bytes checksum(std::string_view payload) {
  const Bytes text = Bytes(kInvitePrefix) + Bytes(payload);
  Bytes hash(SHA256_DIGEST_LENGTH, '\0');
  SHA256(reinterpret_cast<const unsigned char*>(text.data()), text.size(),
         reinterpret_cast<unsigned char*>(hash.data()));
  return hash.substr(0, kChecksumBytes);
}

std::string without_blanks(std::string_view text) {
  std::string result;
  std::copy_if(text.begin(), text.end(), std::back_inserter(result),
               [](char c) { return c != ' ' && c != '\t' && c != '\n' && c != '\r'; });
  return result;
}

// The payload of an invite's text, its checksum verified.
Result<Bytes> payload_of(std::string_view pasted) {
  if (pasted.size() > kInviteTextMax) {
    return invalid(
        fmt::format("{} characters are too many for an invite, which has at most {}; paste the invite alone",
                    pasted.size(), kInviteTextMax));
  }
  const std::string text = without_blanks(pasted);
  if (!text.starts_with(kInvitePrefix)) {
    if (text.starts_with("hm"))
      return invalid("this invite is of another version of hivemetal; update hivemetal and try again");
    return invalid("this is no invite; one begins with hm1-");
  }
  const auto bytes = base58_decode(std::string_view(text).substr(kInvitePrefix.size()));
  if (!bytes) {
    return invalid(
        fmt::format("the invite is mistyped: {}; copy the whole text again", bytes.error().message));
  }
  const Error torn =
      invalid("the invite is truncated or mistyped (its checksum is wrong); copy the whole text again");
  if (bytes->size() <= kChecksumBytes) return torn;
  const auto payload = std::string_view(*bytes).substr(0, bytes->size() - kChecksumBytes);
  if (!bytes->ends_with(checksum(payload))) return torn;
  return Bytes(payload);
}

}  // namespace

Result<std::string> make_invite(const Membership& membership, const PrivateKey& key,
                                std::string_view swarm_name, const std::vector<Multiaddr>& addresses,
                                double now, const InviteOptions& options) {
  const auto named = check_swarm_name(swarm_name);
  if (!named) return named.error();
  const auto verified = membership.verify(membership.swarm(), key.peer_id(), now);
  if (!verified) return verified.error().within("this node cannot invite");
  if (!membership.may_invite()) {
    return refused(
        "this node was let into the swarm without the right to invite; ask the member that invited it");
  }
  if (membership.certificates().size() + 2 > kCertificatesMax) {
    return refused(
        "this node is too many invitations away from the swarm's creator; invite from an earlier member");
  }
  if (options.lifetime.count() <= 0 || options.membership_lifetime < options.lifetime) {
    return invalid("an invite needs a positive lifetime that is not longer than the membership it gives");
  }
  if (addresses.empty())
    return invalid("an invite needs the address of a node that is up; start this node first");

  const auto invite_key = options.seed ? PrivateKey::from_seed(*options.seed) : PrivateKey::generate();
  if (!invite_key) return invite_key.error();
  const auto now_seconds = static_cast<std::uint64_t>(std::max(now, 0.0));
  Certificate certificate;
  certificate.subject = invite_key->peer_id();
  certificate.may_invite = options.members_may_invite;
  certificate.expires = std::min(
      membership.expires(), now_seconds + static_cast<std::uint64_t>(options.membership_lifetime.count()));
  certificate.join_before =
      std::min(certificate.expires, now_seconds + static_cast<std::uint64_t>(options.lifetime.count()));

  proto::Invite message;
  message.set_name(std::string(swarm_name));
  for (std::size_t i = 0; i < std::min(addresses.size(), kInviteAddressesMax); ++i) {
    if (!addresses[i].peer())
      return invalid(fmt::format("the address {} lacks its /p2p part", addresses[i].text()));
    message.add_addresses(addresses[i].bytes());
  }
  message.set_seed(invite_key->seed());
  HIVEMETAL_CHECK(
      message.mutable_membership()->ParseFromString(membership.extended(key, certificate).bytes()));

  const Bytes payload = message.SerializeAsString();
  std::string text = std::string(kInvitePrefix) + base58_encode(payload + checksum(payload));
  if (text.size() > kInviteTextMax) return invalid("the addresses are too long for an invite; give fewer");
  return text;
}

Result<Invite> Invite::parse(std::string_view text) {
  const auto payload = payload_of(text);
  if (!payload) return payload.error();
  const Error broken = invalid("the invite cannot be read although its checksum is right; ask for a new one");

  proto::Invite message;
  if (!message.ParseFromString(*payload) || !check_swarm_name(message.name())) return broken;
  auto key = PrivateKey::from_seed(message.seed());
  auto membership = Membership::from_bytes(message.membership().SerializeAsString());
  if (!key || !membership || membership->subject() != key->peer_id() ||
      !membership->certificates().back().is_invite()) {
    return broken;
  }
  if (message.addresses_size() == 0) {
    return invalid(
        "the invite names no address of a member; ask for one that was made while its node was running");
  }
  if (static_cast<std::size_t>(message.addresses_size()) > kInviteAddressesMax) return broken;
  std::vector<Multiaddr> addresses;
  for (const auto& bytes : message.addresses()) {
    auto address = Multiaddr::from_bytes(bytes);
    if (!address || !address->peer()) return broken;
    addresses.push_back(*std::move(address));
  }
  return Invite(message.name(), std::move(addresses), *std::move(key), *std::move(membership));
}

Result<Membership> Invite::join(const PrivateKey& own, double now,
                                const std::optional<SwarmId>& current) const {
  if (current && *current != swarm()) {
    return refused(
        fmt::format("the invite is to the swarm {} ({}), this node belongs to {}; leave that swarm first, or "
                    "use another directory (--dir) for a second node",
                    swarm_name_, swarm().base58(), current->base58()));
  }
  if (!(now < static_cast<double>(join_before()))) {
    return refused(
        fmt::format("the invite expired on {}; ask a member for a new one (hivemetal invite). If that time "
                    "has not come yet, set this machine's clock",
                    utc_text(join_before())));
  }
  const Certificate& invite = membership_.certificates().back();
  auto membership = membership_.extended(key_, {own.peer_id(), invite.expires, invite.may_invite, 0, {}});
  const auto verified = membership.verify(swarm(), own.peer_id(), now);
  if (!verified) return verified.error().within("the invite does not hold");
  return membership;
}

}  // namespace hivemetal::identity
