#include "identity/membership.h"

#include <gtest/gtest.h>
#include <limits>

namespace hivemetal::identity {
namespace {

constexpr double kNow = 1'800'000'000;
constexpr std::uint64_t kLater = 1'900'000'000;

PrivateKey key_of(char seed) { return PrivateKey::from_seed(Bytes(32, seed)).value(); }

Certificate member(const PrivateKey& key, bool may_invite = true) {
  return {key.peer_id(), kLater, may_invite, 0, {}};
}
Certificate invite(const PrivateKey& key, bool may_invite = true) {
  return {key.peer_id(), kLater, may_invite, kLater, {}};
}

const PrivateKey kSwarm = key_of(1);
const PrivateKey kCreator = key_of(2);
const PrivateKey kInvite = key_of(3);
const PrivateKey kNode = key_of(4);
const PrivateKey kOther = key_of(5);

Membership creators() { return Membership::found(kSwarm, kCreator.peer_id(), kLater); }

std::string refusal(const Membership& membership, const PrivateKey& subject, double now = kNow) {
  const auto result = membership.verify(kSwarm.peer_id(), subject.peer_id(), now);
  if (result) return "no error";
  EXPECT_EQ(result.error().code, ErrorCode::Refused);
  return result.error().message;
}

TEST(Membership, HoldsForTheCreatorOfASwarm) {
  const Swarm swarm = create_swarm("home", kCreator.peer_id(), kNow).value();
  EXPECT_EQ(swarm.name, "home");
  EXPECT_EQ(swarm.membership.swarm(), swarm.key.peer_id());
  EXPECT_TRUE(swarm.membership.may_invite());
  EXPECT_TRUE(swarm.membership.verify(swarm.key.peer_id(), kCreator.peer_id(), kNow).has_value());
  EXPECT_TRUE(swarm.membership.verify(swarm.key.peer_id(), kCreator.peer_id(), kNow + 3e8).has_value());
  EXPECT_FALSE(swarm.membership.verify(swarm.key.peer_id(), kCreator.peer_id(), kNow + 4e8).has_value());
}

TEST(Membership, HoldsAlongAChainOfInvites) {
  const auto first = creators().extended(kCreator, invite(kInvite)).extended(kInvite, member(kNode));
  EXPECT_EQ(refusal(first, kNode), "no error");
  EXPECT_EQ(refusal(first.extended(kNode, invite(kOther)).extended(kOther, member(key_of(6))), key_of(6)),
            "no error");
  EXPECT_EQ(refusal(creators().extended(kCreator, member(kNode)), kNode), "no error")
      << "a member signs directly";
}

TEST(Membership, IsOfOneSwarmAndOnePeer) {
  EXPECT_EQ(refusal(creators(), kNode), "a membership of the peer " + kCreator.peer_id().base58() +
                                            ", not of " + kNode.peer_id().base58());
  EXPECT_EQ(
      creators().verify(kOther.peer_id(), kCreator.peer_id(), kNow).error().message,
      "a membership of the swarm " + kSwarm.peer_id().base58() + ", not of " + kOther.peer_id().base58());
}

TEST(Membership, EndsWhenTheFirstOfItsCertificatesDoes) {
  auto short_invite = invite(kInvite);
  short_invite.expires = 1'800'000'100;
  const auto membership = creators().extended(kCreator, short_invite).extended(kInvite, member(kNode));
  EXPECT_EQ(membership.expires(), 1'800'000'100u);
  EXPECT_EQ(refusal(membership, kNode, 1'800'000'099.9), "no error");
  EXPECT_EQ(refusal(membership, kNode, 1'800'000'100),
            "the membership of " + kNode.peer_id().base58() +
                " expired on 2027-01-15 08:01 UTC; ask a member for a new invite");
  EXPECT_NE(refusal(membership, kNode, std::numeric_limits<double>::quiet_NaN()), "no error");
}

TEST(Membership, NeedsTheRightToInviteInEveryLinkAbove) {
  const auto guest = creators().extended(kCreator, member(kNode, /*may_invite=*/false));
  EXPECT_EQ(refusal(guest, kNode), "no error");
  EXPECT_FALSE(guest.may_invite());
  EXPECT_EQ(refusal(guest.extended(kNode, member(kOther)), kOther),
            "membership: certificate 3 is a certificate from a member that may not invite");

  const auto guests = creators().extended(kCreator, invite(kInvite, /*may_invite=*/false));
  EXPECT_EQ(refusal(guests.extended(kInvite, member(kNode, false)), kNode), "no error");
  EXPECT_EQ(refusal(guests.extended(kInvite, member(kNode, true)), kNode),
            "membership: certificate 3 is a right to invite that its invite did not give");
  EXPECT_EQ(refusal(creators()
                        .extended(kCreator, invite(kInvite))
                        .extended(kInvite, invite(kOther))
                        .extended(kOther, member(kNode)),
                    kNode),
            "membership: certificate 3 is an invite made by an invite's key");
  EXPECT_EQ(refusal(guests, kInvite), "an invite's key is no member; join with the invite first");
}

TEST(Membership, IsRefusedAfterAnyBitHasChanged) {
  const Bytes good = creators().extended(kCreator, invite(kInvite)).extended(kInvite, member(kNode)).bytes();
  int read = 0;
  for (std::size_t bit = 0; bit < good.size() * 8; ++bit) {
    Bytes bytes = good;
    bytes[bit / 8] ^= static_cast<char>(1 << bit % 8);
    const auto membership = Membership::from_bytes(bytes);
    if (!membership) continue;
    ++read;
    EXPECT_NE(refusal(*membership, kNode), "no error") << "bit " << bit;
  }
  EXPECT_GT(read, 1000);
}

TEST(Membership, IsRefusedWhenSomebodyElseSigned) {
  const auto forged = Membership::found(kOther, kCreator.peer_id(), kLater);
  EXPECT_NE(refusal(forged, kCreator), "no error");
  // A certificate of one chain in another: the creator of another swarm signed it.
  auto bytes =
      Membership::found(kOther, kCreator.peer_id(), kLater).extended(kCreator, member(kNode)).bytes();
  const auto mine = creators().bytes();
  bytes.replace(0, mine.size(), mine);
  EXPECT_EQ(refusal(Membership::from_bytes(bytes).value(), kNode),
            "membership: certificate 2 is not signed by " + kCreator.peer_id().base58());
}

TEST(Membership, IsReadBackAndLimited) {
  auto chain = creators();
  PrivateKey last = kCreator;
  for (char i = 10; chain.certificates().size() < kCertificatesMax; ++i) {
    const auto next = key_of(i);
    chain = chain.extended(last, member(next));
    last = next;
  }
  EXPECT_LE(chain.bytes().size(), kMembershipBytesMax);
  EXPECT_EQ(Membership::from_bytes(chain.bytes()).value(), chain);
  EXPECT_EQ(refusal(chain, last), "no error");
  const auto longer = chain.extended(last, member(kNode));
  EXPECT_EQ(refusal(longer, kNode), "a chain of too many certificates");
  EXPECT_EQ(Membership::from_bytes(longer.bytes()).error().message,
            "a membership of 9 certificates; it has 1 to 8");
  EXPECT_EQ(Membership::from_bytes("").error().code, ErrorCode::Invalid);
  EXPECT_EQ(Membership::from_bytes(Bytes(3000, 'x')).error().message, "3000 bytes that are no membership");
  EXPECT_EQ(Membership::from_bytes(chain.bytes().substr(0, 100)).error().code, ErrorCode::Invalid);
}

TEST(Swarm, HasAPlainName) {
  for (const std::string& name :
       {std::string(), std::string("Home"), std::string("a b"), std::string("1"), std::string(41, 'a')}) {
    EXPECT_EQ(create_swarm(name, kCreator.peer_id(), kNow).error().message,
              "the name of a swarm has 1 to 40 characters of a-z, 0-9 and '-', beginning with a letter");
  }
}

// docs/formats/membership.md shows this one: the keys of swarm and creator from the seeds 01… and 02….
TEST(Membership, HasTheBytesOfItsFormatPage) {
  EXPECT_EQ(to_hex(creators().bytes()),
            "0a208a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c"
            "126c0a208139770ea87d175f56a35466c34c7ecccb8d8a91b4ee37a25df60f5b8fc9b394"
            "1080e6fe8907"
            "1801"
            "2a40e8ffca3f59e91cb562ebc45aa3e64eebde88b4225b2c10571f430bfff8c90d2f"
            "1f7ec90cdb34c2f5f5f4f0d3bbcfde7a48288bb2dc8e2d7c7c55a160d1152105");
}

}  // namespace
}  // namespace hivemetal::identity
