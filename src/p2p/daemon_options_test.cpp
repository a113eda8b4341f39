#include "p2p/daemon_options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <string>
#include <vector>

#include "p2p/daemon_output.h"

namespace hivemetal::p2p {
namespace {

using namespace std::chrono_literals;
using testing::Contains;
using testing::ElementsAre;
using testing::Not;
using testing::StartsWith;

Multiaddr address(std::string_view text) { return Multiaddr::parse(text).value(); }

constexpr std::string_view kPeer = "/p2p/12D3KooWBtg3aaRMjxwedh83aGiUkwSxDwUZkzuJcfaqUmo7R3pq";

TEST(DaemonOptions, WriteTheFlagsThatHivemindWrites) {
  DaemonOptions options;
  options.binary = "/bin/p2pd";
  options.identity_file = "/keys/identity.key";
  options.bootstrap_peers = {address("/ip4/127.0.0.1/tcp/1" + std::string(kPeer))};
  const auto line = command_line(options, {address("/ip4/127.0.0.1/tcp/0")}, "/run/control.sock", true);
  EXPECT_EQ(line.front(), "/bin/p2pd");
  for (const char* flag :
       {"-listen=/unix/run/control.sock", "-hostAddrs=/ip4/127.0.0.1/tcp/0", "-dhtServer=1", "-relay=1",
        "-tls=1", "-autonat=1", "-connManager=1", "-natPortMap=0", "-autoRelay=0", "-relayHopLimit=0",
        "-idleTimeout=10s", "-persistentConnMaxMsgSize=4194304", "-id=/keys/identity.key", "-b=1"}) {
    EXPECT_THAT(line, Contains(flag));
  }
  EXPECT_THAT(line, Contains(StartsWith("-bootstrapPeers=/ip4/127.0.0.1/tcp/1/p2p/12D3")));
}

TEST(DaemonOptions, LeaveTheBootstrapPeersToUsAfterARestart) {
  DaemonOptions options;
  options.bootstrap_peers = {address("/ip4/127.0.0.1/tcp/1" + std::string(kPeer))};
  const auto line = command_line(options, {}, "/run/control.sock", false);
  EXPECT_THAT(line, Contains("-b=0"));
  EXPECT_THAT(line, Not(Contains(StartsWith("-bootstrapPeers"))));
}

TEST(DaemonOptions, MapPortsOnlyWhereARouterMayBe) {
  EXPECT_THAT(command_line({}, {address("/ip4/0.0.0.0/tcp/0")}, "/c", true), Contains("-natPortMap=1"));
  DaemonOptions never;
  never.nat_port_map = false;
  EXPECT_THAT(command_line(never, {address("/ip4/0.0.0.0/tcp/0")}, "/c", true), Contains("-natPortMap=0"));
}

TEST(DaemonOptions, RefuseABootstrapPeerWithoutAnId) {
  DaemonOptions options;
  options.bootstrap_peers = {address("/ip4/127.0.0.1/tcp/1")};
  EXPECT_EQ(check_options(options).error().code, ErrorCode::Invalid);
}

TEST(DaemonOptions, RefuseToAnnouncePortZero) {
  DaemonOptions options;
  options.announce_addresses = {address("/ip4/203.0.113.1/tcp/0")};
  EXPECT_EQ(check_options(options).error().code, ErrorCode::Invalid);
}

TEST(PinPorts, KeepsThePortThatWasTakenForPortZero) {
  EXPECT_THAT(pin_ports({address("/ip4/127.0.0.1/tcp/0")},
                        {address("/ip6/::1/tcp/5"), address("/ip4/127.0.0.1/tcp/40001")}),
              ElementsAre(address("/ip4/127.0.0.1/tcp/40001")));
  EXPECT_THAT(pin_ports({address("/ip4/0.0.0.0/tcp/0")}, {address("/ip4/192.0.2.7/tcp/40001")}),
              ElementsAre(address("/ip4/0.0.0.0/tcp/40001")));
  EXPECT_THAT(pin_ports({address("/ip4/0.0.0.0/udp/0/quic-v1"), address("/ip4/0.0.0.0/tcp/4001")},
                        {address("/ip4/192.0.2.7/tcp/4001"), address("/ip4/192.0.2.7/udp/7/quic-v1")}),
              ElementsAre(address("/ip4/0.0.0.0/udp/7/quic-v1"), address("/ip4/0.0.0.0/tcp/4001")));
}

TEST(PinPorts, LeavesPortZeroWhereNothingListens) {
  EXPECT_THAT(pin_ports({address("/ip4/127.0.0.1/tcp/0")}, {}), ElementsAre(address("/ip4/127.0.0.1/tcp/0")));
}

TEST(Backoff, StartsAtOnceThenWaitsLongerUntilItWasHealthyForAWhile) {
  Backoff backoff;
  Clock::TimePoint now{};
  EXPECT_EQ(backoff.next(now), 0s);
  EXPECT_EQ(backoff.next(now += 1s), 200ms);
  EXPECT_EQ(backoff.next(now += 1s), 400ms);
  for (int i = 0; i < 10; ++i) backoff.next(now += 11s);
  EXPECT_EQ(backoff.next(now += 11s), 10s);
  EXPECT_EQ(backoff.next(now += 41s), 0s);
}

TEST(DaemonOutput, KnowsReadinessAndComplaints) {
  using Kind = DaemonLine::Kind;
  EXPECT_EQ(parse_daemon_line("Peer ID: 12D3KooW").kind, Kind::Ready);
  EXPECT_EQ(parse_daemon_line("Control socket: /unix/x").kind, Kind::Plain);
  EXPECT_EQ(parse_daemon_line(R"({"level":"error","msg":"x"})").kind, Kind::Error);
  EXPECT_EQ(parse_daemon_line(R"({"level":"info","msg":"x"})").kind, Kind::Plain);
  EXPECT_EQ(parse_daemon_line("2026/11/22 17:54:29 failed to listen on any addresses").kind, Kind::Error);
  EXPECT_EQ(parse_daemon_line("\x1b[31mred").text, "?[31mred");
}

TEST(DaemonOutput, CutsLinesAndBoundsThem) {
  LineReader reader;
  EXPECT_TRUE(reader.feed("Peer").empty());
  EXPECT_THAT(reader.feed(" ID\r\nnext\nrest"), ElementsAre("Peer ID", "next"));
  EXPECT_TRUE(reader.feed(std::string(100'000, 'x')).empty());
  EXPECT_EQ(reader.feed("\n").at(0).size(), 8192U);
}

}  // namespace
}  // namespace hivemetal::p2p
