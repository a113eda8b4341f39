#include "identity/membership.h"

#include <algorithm>
#include <ctime>
#include <fmt/chrono.h>
#include <fmt/format.h>
#include <utility>

#include "base/check.h"
#include "identity/membership.pb.h"

namespace hivemetal::identity {

namespace {

constexpr std::size_t kPeerIdPrefixBytes = 6;  // `00 24 08 01 12 20` in front of an Ed25519 key
constexpr std::uint64_t kCreatorSeconds = std::uint64_t{10} * 365 * 24 * 3600;
constexpr std::uint64_t kTimeMax = 253'402'300'799;  // the last second of the year 9999
constexpr std::size_t kNameMax = 40;

Error invalid(std::string message) { return {ErrorCode::Invalid, std::move(message)}; }
Error refused(std::string message) { return {ErrorCode::Refused, std::move(message)}; }

// The 32 bytes of an Ed25519 key.
std::string_view raw_key(const PeerId& peer) {
  return std::string_view(peer.bytes()).substr(kPeerIdPrefixBytes);
}

Result<PeerId> peer_of(std::string_view raw) {
  const auto key = PublicKey::from_ed25519(raw);
  if (!key) return key.error();
  return key->peer_id();
}

bool is_ed25519(const PeerId& peer) { return PublicKey::from_peer_id(peer).has_value(); }

void append_be64(Bytes& out, std::uint64_t value) {
  for (int shift = 56; shift >= 0; shift -= 8) out += static_cast<char>(value >> shift & 0xff);
}

// What an issuer signs. Fixed sizes throughout, so that no two certificates have the same bytes.
Bytes signed_bytes(const SwarmId& swarm, const PeerId& issuer, const Certificate& certificate) {
  Bytes bytes = "hivemetal-certificate-1:";
  bytes += raw_key(swarm);
  bytes += raw_key(issuer);
  bytes += raw_key(certificate.subject);
  append_be64(bytes, certificate.expires);
  append_be64(bytes, certificate.join_before);
  bytes += certificate.may_invite ? '\1' : '\0';
  return bytes;
}

// Why `issuer` may not have signed `certificate`; an empty text if it may.
std::string_view broken_rule(const Certificate& issuer, const Certificate& certificate) {
  if (issuer.is_invite()) {
    if (certificate.is_invite()) return "an invite made by an invite's key";
    if (certificate.may_invite && !issuer.may_invite) return "a right to invite that its invite did not give";
    return "";
  }
  return issuer.may_invite ? "" : "a certificate from a member that may not invite";
}

}  // namespace

Result<Membership> Membership::from_bytes(std::string_view bytes) {
  proto::Membership message;
  if (bytes.size() > kMembershipBytesMax ||
      !message.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
    return invalid(fmt::format("{} bytes that are no membership", bytes.size()));
  }
  const auto swarm = peer_of(message.swarm());
  if (!swarm) return swarm.error().within("membership: swarm");
  const int count = message.links_size();
  if (count == 0 || static_cast<std::size_t>(count) > kCertificatesMax) {
    return invalid(fmt::format("a membership of {} certificates; it has 1 to {}", count, kCertificatesMax));
  }
  Membership membership;
  membership.swarm_ = *swarm;
  for (const auto& link : message.links()) {
    auto subject = peer_of(link.subject());
    if (!subject) return subject.error().within("membership: subject");
    if (link.signature().size() != 64 || link.expires() > kTimeMax || link.join_before() > kTimeMax) {
      return invalid("membership: a certificate with a wrong signature size or a time beyond the year 9999");
    }
    membership.certificates_.push_back(
        {*std::move(subject), link.expires(), link.may_invite(), link.join_before(), link.signature()});
  }
  if (membership.bytes() != bytes)
    return invalid("a membership that is not written in the one way it should be");
  return membership;
}

Bytes Membership::bytes() const {
  proto::Membership message;
  message.set_swarm(Bytes(raw_key(swarm_)));
  for (const Certificate& certificate : certificates_) {
    auto& link = *message.add_links();
    link.set_subject(Bytes(raw_key(certificate.subject)));
    link.set_expires(certificate.expires);
    link.set_may_invite(certificate.may_invite);
    link.set_join_before(certificate.join_before);
    link.set_signature(certificate.signature);
  }
  return message.SerializeAsString();
}

std::uint64_t Membership::expires() const {
  std::uint64_t earliest = kTimeMax;
  for (const Certificate& certificate : certificates_) earliest = std::min(earliest, certificate.expires);
  return earliest;
}

Result<void> Membership::verify(const SwarmId& swarm, const PeerId& subject, double now) const {
  if (swarm_ != swarm) {
    return refused(fmt::format("a membership of the swarm {}, not of {}", swarm_.base58(), swarm.base58()));
  }
  if (this->subject() != subject) {
    return refused(
        fmt::format("a membership of the peer {}, not of {}", this->subject().base58(), subject.base58()));
  }
  if (certificates_.back().is_invite())
    return refused("an invite's key is no member; join with the invite first");
  if (certificates_.size() > kCertificatesMax) return refused("a chain of too many certificates");
  if (!(now < static_cast<double>(expires()))) {
    return refused(fmt::format("the membership of {} expired on {}; ask a member for a new invite",
                               subject.base58(), utc_text(expires())));
  }
  for (std::size_t i = 1; i < certificates_.size(); ++i) {
    const auto rule = broken_rule(certificates_[i - 1], certificates_[i]);
    if (!rule.empty()) return refused(fmt::format("membership: certificate {} is {}", i + 1, rule));
  }
  for (std::size_t i = 0; i < certificates_.size(); ++i) {
    const PeerId& issuer = i == 0 ? swarm_ : certificates_[i - 1].subject;
    const auto key = PublicKey::from_peer_id(issuer);
    if (!key || !key->verify(signed_bytes(swarm_, issuer, certificates_[i]), certificates_[i].signature)) {
      return refused(fmt::format("membership: certificate {} is not signed by {}", i + 1, issuer.base58()));
    }
  }
  return {};
}

Membership Membership::found(const PrivateKey& swarm_key, const PeerId& subject, std::uint64_t expires) {
  Membership membership;
  membership.swarm_ = swarm_key.peer_id();
  Certificate certificate{subject, expires, /*may_invite=*/true, /*join_before=*/0, {}};
  certificate.signature = swarm_key.sign(signed_bytes(membership.swarm_, membership.swarm_, certificate));
  membership.certificates_.push_back(std::move(certificate));
  return membership;
}

Membership Membership::extended(const PrivateKey& key, Certificate certificate) const {
  HIVEMETAL_CHECK(key.peer_id() == subject() && is_ed25519(certificate.subject));
  Membership membership = *this;
  certificate.signature = key.sign(signed_bytes(swarm_, key.peer_id(), certificate));
  membership.certificates_.push_back(std::move(certificate));
  return membership;
}

Result<Swarm> create_swarm(std::string_view name, const PeerId& creator, double now) {
  const auto checked = check_swarm_name(name);
  if (!checked) return checked.error();
  if (!is_ed25519(creator))
    return invalid(fmt::format("{} is not the id of an Ed25519 key", creator.base58()));
  PrivateKey key = PrivateKey::generate();
  Membership membership =
      Membership::found(key, creator, static_cast<std::uint64_t>(std::max(now, 0.0)) + kCreatorSeconds);
  return Swarm{std::string(name), std::move(key), std::move(membership)};
}

Result<void> check_swarm_name(std::string_view name) {
  const auto is_lower = [](char c) { return c >= 'a' && c <= 'z'; };
  const auto is_allowed = [&](char c) { return is_lower(c) || (c >= '0' && c <= '9') || c == '-'; };
  if (!name.empty() && name.size() <= kNameMax && is_lower(name[0]) &&
      std::all_of(name.begin(), name.end(), is_allowed)) {
    return {};
  }
  return invalid(fmt::format(
      "the name of a swarm has 1 to {} characters of a-z, 0-9 and '-', beginning with a letter", kNameMax));
}

std::string utc_text(std::uint64_t unix_seconds) {
  return fmt::format("{:%Y-%m-%d %H:%M} UTC",
                     fmt::gmtime(static_cast<std::time_t>(std::min(unix_seconds, kTimeMax))));
}

}  // namespace hivemetal::identity
