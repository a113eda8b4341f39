#include "node/swarm_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "node/file.h"
#include "node/testing.h"

namespace hivemetal::node {
namespace {

using testing::HasSubstr;

constexpr double kNow = 1.8e9;

std::string invite_of(const NodeDirectory& directory, double now = kNow) {
  const auto swarm = load_swarm(directory).value();
  const auto key = load_or_make_key(directory).value();
  const auto address = identity::Multiaddr::parse("/ip4/127.0.0.1/tcp/4001").value().with_peer(key.peer_id());
  return identity::make_invite(swarm.membership, key, swarm.name, {address}, now).value();
}

TEST(SwarmFiles, MakeTheCreatorTheFirstMember) {
  const TemporaryFolder folder;
  const auto directory = NodeDirectory::open(folder.path() / "a").value();
  EXPECT_THAT(load_swarm(directory).error().message, HasSubstr("hivemetal swarm create NAME --dir"));
  ASSERT_TRUE(create_swarm_in(directory, "mill", kNow));
  const auto swarm = load_swarm(directory).value();
  EXPECT_EQ(swarm.name, "mill");
  EXPECT_TRUE(
      swarm.membership.verify(swarm.membership.swarm(), load_or_make_key(directory).value().peer_id(), kNow));
  EXPECT_THAT(create_swarm_in(directory, "other", kNow).error().message,
              HasSubstr("belongs to the swarm mill already"));
  EXPECT_EQ(create_swarm_in(NodeDirectory::open(folder.path() / "b").value(), "No Name", kNow).error().code,
            ErrorCode::Invalid);
}

TEST(SwarmFiles, LetANodeJoinOnceAndRenew) {
  const TemporaryFolder folder;
  const auto a = NodeDirectory::open(folder.path() / "a").value();
  const auto b = NodeDirectory::open(folder.path() / "b").value();
  ASSERT_TRUE(create_swarm_in(a, "mill", kNow));
  ASSERT_TRUE(join_swarm_in(b, invite_of(a), kNow));
  const auto swarm = load_swarm(b).value();
  EXPECT_EQ(swarm.membership.swarm(), load_swarm(a).value().membership.swarm());
  EXPECT_EQ(swarm.addresses.size(), 1u);
  EXPECT_TRUE(join_swarm_in(b, invite_of(a), kNow));

  const auto c = NodeDirectory::open(folder.path() / "c").value();
  ASSERT_TRUE(create_swarm_in(c, "other", kNow));
  EXPECT_EQ(join_swarm_in(b, invite_of(c), kNow).error().code, ErrorCode::Refused);
  EXPECT_EQ(load_swarm(b).value().name, "mill");
}

TEST(SwarmFiles, KeepNothingOfABadInvite) {
  const TemporaryFolder folder;
  const auto a = NodeDirectory::open(folder.path() / "a").value();
  const auto b = NodeDirectory::open(folder.path() / "b").value();
  ASSERT_TRUE(create_swarm_in(a, "mill", kNow));
  const auto invite = invite_of(a);
  EXPECT_EQ(join_swarm_in(b, invite, kNow + 25 * 3600).error().code, ErrorCode::Refused);
  EXPECT_EQ(join_swarm_in(b, invite.substr(0, invite.size() - 5), kNow).error().code, ErrorCode::Invalid);
  EXPECT_EQ(load_swarm(b).error().code, ErrorCode::NotFound);
}

TEST(SwarmFiles, SayWhatToDoWhenTheyAreDamaged) {
  const TemporaryFolder folder;
  const auto a = NodeDirectory::open(folder.path() / "a").value();
  for (const char* content : {"", "{}", "[]", R"({"name":1,"membership":"AAAA","addresses":[]})",
                              R"({"name":"a","membership":"AAAA","addresses":[]})"}) {
    ASSERT_TRUE(write_file(a.path() / "swarm.json", content, 0600));
    EXPECT_THAT(load_swarm(a).error().message, HasSubstr("is damaged; join the swarm again")) << content;
  }
}

}  // namespace
}  // namespace hivemetal::node
