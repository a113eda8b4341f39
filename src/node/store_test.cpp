#include "node/store.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "node/file.h"
#include "node/testing.h"

namespace hivemetal::node {
namespace {

using scheduler::Event;
using testing::ElementsAre;
using testing::HasSubstr;

Event event(std::uint64_t sequence, std::string text) {
  Event made;
  made.sequence = sequence;
  made.unix_time = 1700000000.5;
  made.run = "fashion-1";
  made.kind = "note";
  made.text = std::move(text);
  made.data = {{"text", made.text}};
  return made;
}

TEST(Store, KeepsValuesOverARestart) {
  const TemporaryFolder folder;
  const auto file = folder.path() / "state.db";
  const Bytes value("a\0b\xff", 4);
  {
    const auto store = Store::open(file).value();
    ASSERT_TRUE(store->put("run/1/state", "old"));
    ASSERT_TRUE(store->put("run/1/state", value));
    ASSERT_TRUE(store->put("run/2/state", ""));
    ASSERT_TRUE(store->put("host/leases", "x"));
    ASSERT_TRUE(store->erase("host/leases"));
  }
  const auto store = Store::open(file).value();
  EXPECT_EQ(store->get("run/1/state").value(), value);
  EXPECT_EQ(store->get("run/2/state").value(), "");
  EXPECT_EQ(store->get("host/leases").value(), std::nullopt);
  EXPECT_THAT(store->names("run/").value(), ElementsAre("run/1/state", "run/2/state"));
  EXPECT_THAT(store->names("run_").value(), ElementsAre());
  struct stat status{};
  ASSERT_EQ(::stat(file.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600u);
}

TEST(Store, GivesEventsInOrderAndOnce) {
  const TemporaryFolder folder;
  const auto store = Store::open(folder.path() / "state.db").value();
  for (const int i : {1, 2, 3, 2})
    ASSERT_TRUE(store->append(event(static_cast<std::uint64_t>(i), "n" + std::to_string(i))));
  EXPECT_EQ(store->last_sequence("fashion-1").value(), 3u);
  EXPECT_EQ(store->last_sequence("other").value(), 0u);
  const auto found = store->events("fashion-1", 1, 10).value();
  ASSERT_EQ(found.size(), 2u);
  EXPECT_EQ(found[0].text, "n2");
  EXPECT_EQ(found[1].data["text"], "n3");
  EXPECT_EQ(store->events("fashion-1", 0, 1).value().size(), 1u);
  ASSERT_TRUE(store->erase_events("fashion-1"));
  EXPECT_EQ(store->last_sequence("fashion-1").value(), 0u);
}

TEST(Store, KeepsAnEventWhoseTextIsNoUtf8) {
  const TemporaryFolder folder;
  const auto store = Store::open(folder.path() / "state.db").value();
  ASSERT_TRUE(store->append(event(1, "bad \xff byte")));
  EXPECT_EQ(store->events("fashion-1", 0, 1).value().size(), 1u);
}

TEST(Store, RemembersThePeersSeenLast) {
  const TemporaryFolder folder;
  const auto store = Store::open(folder.path() / "state.db").value();
  for (int i = 0; i < 300; ++i)
    ASSERT_TRUE(store->remember_peer("p" + std::to_string(i), "a" + std::to_string(i), i));
  ASSERT_TRUE(store->remember_peer("p299", "moved", 1000));
  EXPECT_THAT(store->peer_addresses(2).value(), ElementsAre("moved", "a298"));
  EXPECT_EQ(store->peer_addresses(1000).value().size(), 256u);
}

TEST(Store, SaysWhatToDoAboutADamagedFile) {
  const TemporaryFolder folder;
  ASSERT_TRUE(write_file(folder.path() / "state.db", std::string(8192, 'x'), 0600));
  EXPECT_THAT(Store::open(folder.path() / "state.db").error().message,
              HasSubstr("the file is damaged; move it away"));
}

TEST(Store, RefusesAValueThatNobodyShouldKeep) {
  const TemporaryFolder folder;
  const auto store = Store::open(folder.path() / "state.db").value();
  EXPECT_EQ(store->put("big", Bytes(8 * 1024 * 1024 + 1, 'x')).error().code, ErrorCode::Invalid);
}

}  // namespace
}  // namespace hivemetal::node
