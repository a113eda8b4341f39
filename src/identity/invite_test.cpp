#include "identity/invite.h"

#include <gtest/gtest.h>

#include "identity/base58.h"

namespace hivemetal::identity {
namespace {

constexpr double kNow = 1'800'000'000;

PrivateKey key_of(char seed) { return PrivateKey::from_seed(Bytes(32, seed)).value(); }

const PrivateKey kSwarm = key_of(1);
const PrivateKey kCreator = key_of(2);
const PrivateKey kNode = key_of(4);
const Membership kMembership = Membership::found(kSwarm, kCreator.peer_id(), 2'000'000'000);
const std::vector<Multiaddr> kAddresses = {
    Multiaddr::parse("/ip4/203.0.113.1/tcp/31337").value().with_peer(kCreator.peer_id())};

std::string invite_text(const InviteOptions& options = {.seed = Bytes(32, 3)}) {
  return make_invite(kMembership, kCreator, "home", kAddresses, kNow, options).value();
}

std::string parse_error(std::string_view text) {
  const auto invite = Invite::parse(text);
  if (invite) return "no error";
  EXPECT_EQ(invite.error().code, ErrorCode::Invalid);
  return invite.error().message;
}

TEST(Invite, LetsANodeJoin) {
  const auto invite = Invite::parse(invite_text()).value();
  EXPECT_EQ(invite.swarm_name(), "home");
  EXPECT_EQ(invite.swarm(), kSwarm.peer_id());
  EXPECT_EQ(invite.addresses(), kAddresses);
  EXPECT_EQ(invite.join_before(), 1'800'086'400u);

  const auto membership = invite.join(kNode, kNow + 60).value();
  EXPECT_TRUE(membership.verify(kSwarm.peer_id(), kNode.peer_id(), kNow + 60).has_value());
  EXPECT_EQ(membership.expires(), 1'831'536'000u) << "a year, not the day in which one can join";
  EXPECT_EQ(Membership::from_bytes(membership.bytes()).value(), membership);
}

TEST(Invite, LetsMembersInviteInTurnUpToTheLongestChain) {
  Membership membership = kMembership;
  PrivateKey key = kCreator;
  for (char i = 10; i < 13; ++i) {
    const auto text = make_invite(membership, key, "home", kAddresses, kNow).value();
    key = key_of(i);
    membership = Invite::parse(text).value().join(key, kNow).value();
  }
  EXPECT_EQ(make_invite(membership, key, "home", kAddresses, kNow).error().message,
            "this node is too many invitations away from the swarm's creator; invite from an earlier member");
}

TEST(Invite, CanGiveMembershipWithoutTheRightToInvite) {
  const auto invite = Invite::parse(invite_text({.members_may_invite = false})).value();
  const auto membership = invite.join(kNode, kNow).value();
  EXPECT_FALSE(membership.may_invite());
  EXPECT_EQ(make_invite(membership, kNode, "home", kAddresses, kNow).error().code, ErrorCode::Refused);
}

TEST(Invite, HasAFreshKeyEachTime) { EXPECT_NE(invite_text({}), invite_text({})); }

TEST(Invite, CanBeWrappedByAMailProgram) {
  std::string text = invite_text();
  for (std::size_t at = 60; at < text.size(); at += 64) text.insert(at, "\r\n  ");
  EXPECT_EQ(Invite::parse("  " + text + "\n").value().swarm(), kSwarm.peer_id());
}

TEST(Invite, SaysThatItIsTruncatedOrMistyped) {
  const std::string text = invite_text();
  const std::string torn =
      "the invite is truncated or mistyped (its checksum is wrong); copy the whole text again";
  for (std::size_t size = kInvitePrefix.size(); size < text.size(); ++size) {
    EXPECT_EQ(parse_error(text.substr(0, size)), torn) << size;
  }
  for (std::size_t i = kInvitePrefix.size(); i < text.size(); ++i) {
    std::string other = text;
    other[i] = other[i] == 'x' ? 'y' : 'x';
    EXPECT_NE(parse_error(other), "no error") << i;
  }
  std::string other = text;
  other[10] = '0';
  EXPECT_EQ(parse_error(other),
            "the invite is mistyped: character 7 (code 0x30) is not of base58; copy the whole text again");
}

TEST(Invite, SaysThatTheTextIsNoneOrTooLarge) {
  EXPECT_EQ(parse_error(""), "this is no invite; one begins with hm1-");
  EXPECT_EQ(parse_error("https://example.org"), "this is no invite; one begins with hm1-");
  EXPECT_EQ(parse_error("hm2-abc"),
            "this invite is of another version of hivemetal; update hivemetal and try again");
  EXPECT_EQ(parse_error("hm1-" + std::string(5000, '1')),
            "5004 characters are too many for an invite, which has at most 4096; paste the invite alone");
}

TEST(Invite, SaysWhenItExpired) {
  const auto invite = Invite::parse(invite_text()).value();
  EXPECT_TRUE(invite.join(kNode, 1'800'086'399).has_value());
  const auto error = invite.join(kNode, 1'800'086'400).error();
  EXPECT_EQ(error.code, ErrorCode::Refused);
  EXPECT_EQ(error.message,
            "the invite expired on 2027-01-16 08:00 UTC; ask a member for a new one (hivemetal invite). If "
            "that time has "
            "not come yet, set this machine's clock");
}

TEST(Invite, SaysThatItIsOfAnotherSwarm) {
  const auto invite = Invite::parse(invite_text()).value();
  EXPECT_TRUE(invite.join(kNode, kNow, kSwarm.peer_id()).has_value()) << "the same swarm again renews";
  const auto error = invite.join(kNode, kNow, key_of(9).peer_id()).error();
  EXPECT_EQ(error.code, ErrorCode::Refused);
  EXPECT_EQ(error.message,
            "the invite is to the swarm home (" + kSwarm.peer_id().base58() + "), this node belongs to " +
                key_of(9).peer_id().base58() +
                "; leave that swarm first, or use another directory (--dir) for a second node");
}

TEST(Invite, NeedsAnAddressWithAPeerId) {
  const auto make = [](std::vector<Multiaddr> addresses) {
    return make_invite(kMembership, kCreator, "home", addresses, kNow);
  };
  EXPECT_EQ(make({}).error().message,
            "an invite needs the address of a node that is up; start this node first");
  EXPECT_EQ(make({Multiaddr::parse("/ip4/1.2.3.4/tcp/1").value()}).error().message,
            "the address /ip4/1.2.3.4/tcp/1 lacks its /p2p part");
  const std::vector<Multiaddr> many(20, kAddresses[0]);
  EXPECT_EQ(Invite::parse(make(many).value()).value().addresses().size(), kInviteAddressesMax);
}

TEST(Invite, IsMadeByMembersOnly) {
  EXPECT_EQ(make_invite(kMembership, kNode, "home", kAddresses, kNow).error().code, ErrorCode::Refused);
  EXPECT_EQ(make_invite(kMembership, kCreator, "home", kAddresses, 2'000'000'001).error().code,
            ErrorCode::Refused);
  EXPECT_EQ(
      make_invite(kMembership, kCreator, "home", kAddresses, kNow, {.lifetime = std::chrono::seconds(0)})
          .error()
          .code,
      ErrorCode::Invalid);
  EXPECT_EQ(make_invite(kMembership, kCreator, "Home", kAddresses, kNow).error().code, ErrorCode::Invalid);
}

// docs/formats/invite.md shows this one.
TEST(Invite, HasTheTextOfItsFormatPage) {
  EXPECT_EQ(invite_text(),
            "hm1-2YjsTyTVgLLKnG4d23bVSVLQkipah7zFnRja5TJKEmwfxBEEf3sQg9XQCJhzZWNRdpjMhzNjRX53VZjj3eMctG"
            "jL6wD9LuMukmrR8sWBUShNddyAEyH6qgKNunaNfJwWwoTt3GpX4PJEE3gxwPBnW1qjsgbDNMseLL7oFcPeMNgkwCqo"
            "3V4pAxkKB8uqsvo9hfpxFqGHZ4y4qcL6jZKL9SiVfhp6ptrvEm5KpHW7QJiXh2GZZ6Ficfae5maXPPHsCBZsMCydQK"
            "PiDTb7Fm9qH8eWbqnLMZHeiVcNGCWPNJb1oaLBWVKTF9SwEZg5ouWGQXztFA2cd7P6KbrCRw3t5bMubz6XKWrY4CaA"
            "3YutiXK9C9yPQgGs7WHpdeGsaLDbuMqHE55nE5GXGM7Txe5qFpDEafjvSWMvhBKKEqkEZXEhXFFeNazvQRCikQQjwG"
            "fifvCDHYCggFNnM63LLDYJrquXZ1ppnMiJ58jCtEQTU");
}

}  // namespace
}  // namespace hivemetal::identity
