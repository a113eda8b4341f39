#include "identity/multiaddr.h"

#include <gtest/gtest.h>

namespace hivemetal::identity {
namespace {

constexpr std::string_view kPeer = "12D3KooWBtg3aaRMjxwedh83aGiUkwSxDwUZkzuJcfaqUmo7R3pq";
constexpr std::string_view kPeerHex =
    "002408011220"
    "1ed1e8fae2c4a144b8be8fd4b47bf3d3b34b871c3cacf6010f0e42d474fce27e";

TEST(Multiaddr, HasTheBytesOfTheTableOfCodes) {
  const struct {
    std::string text;
    std::string hex;
  } cases[] = {
      {"/ip4/203.0.113.1/tcp/31337", "04cb007101067a69"},
      {"/ip6/::1/udp/5/quic-v1",
       "29000000000000000000000000000000019102"
       "0005cd03"},
      {"/dns/a.b/tcp/1/ws", "3503612e62060001dd03"},
      {"/dns4/x/tcp/1/wss", "360178060001de03"},
      {"/dns6/x/udp/1/quic",
       "370178910200"
       "01cc03"},
      {"/dnsaddr/x", "380178"},
      {"/unix/tmp/p2p.sock", "90030d2f746d702f7032702e736f636b"},
      {"/ip4/1.2.3.4/tcp/1/p2p/" + std::string(kPeer) + "/p2p-circuit",
       "0401020304060001a50326" + std::string(kPeerHex) + "a202"},
  };
  for (const auto& [text, hex] : cases) {
    const auto address = Multiaddr::parse(text);
    ASSERT_TRUE(address.has_value()) << address.error().message;
    EXPECT_EQ(to_hex(address->bytes()), hex) << text;
    EXPECT_EQ(address->text(), text);
    EXPECT_EQ(Multiaddr::from_bytes(address->bytes()).value(), *address);
  }
}

TEST(Multiaddr, ReadsAPeerIdAsGoAndAsPythonWriteIt) {
  const auto go = Multiaddr::from_bytes(from_hex("a50326" + std::string(kPeerHex)).value()).value();
  const auto python = Multiaddr::from_bytes(from_hex("a503280172" + std::string(kPeerHex)).value()).value();
  EXPECT_EQ(go, python);
  EXPECT_EQ(go.text(), "/p2p/" + std::string(kPeer));
  EXPECT_EQ(Multiaddr::parse("/ipfs/" + std::string(kPeer)).value(), go);
}

TEST(Multiaddr, PutsAPeerOnItsEndAndTakesItOff) {
  const auto peer = PeerId::from_base58(kPeer).value();
  const auto plain = Multiaddr::parse("/ip4/127.0.0.1/tcp/7").value();
  const auto full = plain.with_peer(peer);
  EXPECT_EQ(full.text(), "/ip4/127.0.0.1/tcp/7/p2p/" + std::string(kPeer));
  EXPECT_EQ(full.peer(), peer);
  EXPECT_EQ(full.without_peer(), plain);
  EXPECT_EQ(full.with_peer(peer), full);
  EXPECT_EQ(plain.peer(), std::nullopt);
  const auto relayed = Multiaddr::parse(full.text() + "/p2p-circuit").value();
  EXPECT_EQ(relayed.without_peer(), relayed);
  EXPECT_EQ(relayed.peer(), peer);
}

TEST(Multiaddr, KnowsLoopback) {
  EXPECT_TRUE(Multiaddr::parse("/ip4/127.1.2.3/tcp/1").value().is_loopback());
  EXPECT_TRUE(Multiaddr::parse("/ip6/::1/tcp/1").value().is_loopback());
  EXPECT_FALSE(Multiaddr::parse("/ip4/10.0.0.1/tcp/1").value().is_loopback());
  EXPECT_FALSE(Multiaddr::parse("/dns/localhost/tcp/1").value().is_loopback());
  EXPECT_FALSE(Multiaddr().is_loopback());
}

TEST(Multiaddr, NamesTheComponentThatIsWrong) {
  EXPECT_EQ(Multiaddr::parse("/ip4/1.2.3/tcp/1").error().message, "/ip4/1.2.3: '1.2.3' is no IPv4 address");
  EXPECT_EQ(Multiaddr::parse("/ip4/1.2.3.4/tcp/65536").error().message,
            "/tcp/65536: '65536' is no port (0 to 65535)");
  EXPECT_EQ(Multiaddr::parse("/ip4/1.2.3.4/tcp").error().message,
            "/tcp in '/ip4/1.2.3.4/tcp' lacks its value");
  EXPECT_EQ(Multiaddr::parse("/ip4/1.2.3.4/sctp/1").error().message,
            "/sctp in '/ip4/1.2.3.4/sctp/1' is no protocol known here");
  EXPECT_EQ(Multiaddr::parse("1.2.3.4:5").error().code, ErrorCode::Invalid);
  EXPECT_EQ(Multiaddr::parse("/p2p/xyz").error().message,
            "/p2p: 'xyz' is no peer id; one looks like 12D3KooW… or Qm…");
  for (const std::string_view text :
       {"", "/", "//", "/ip4//tcp/1", "/tcp/-1", "/tcp/+1", "/tcp/1x", "/unix", "/dns/a b"}) {
    EXPECT_FALSE(Multiaddr::parse(text).has_value()) << text;
  }
}

TEST(Multiaddr, RefusesForeignBytesThatAreNoAddress) {
  for (const std::string_view hex : {"", "04", "04010203", "06ff", "3505612e62", "3500",
                                     "350361"
                                     "2f62",
                                     "a50300", "80", "8080808080808001", "ffffffff7f", "a5038004",
                                     "900301"
                                     "2f",
                                     "9003022f61"
                                     "060001"}) {
    EXPECT_EQ(Multiaddr::from_bytes(from_hex(hex).value()).error().code, ErrorCode::Invalid) << hex;
  }
}

}  // namespace
}  // namespace hivemetal::identity
