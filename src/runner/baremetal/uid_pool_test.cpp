#include "runner/baremetal/uid_pool.h"

#include <gtest/gtest.h>
#include <unistd.h>

namespace hivemetal::runner {
namespace {

struct UidPoolTest : testing::Test {
  UidPoolTest() {
    char name[] = "/tmp/hivemetal-uids-XXXXXX";
    folder = ::mkdtemp(name);
  }
  ~UidPoolTest() override { std::filesystem::remove_all(folder); }

  std::filesystem::path folder;
  UidRange range{2'140'000'000, 2'140'000'003};
};

TEST_F(UidPoolTest, NeverGivesTwoNodesTheSameUser) {
  UidPool first(folder, range, "/node/1"), second(folder, range, "/node/2");
  const auto a = first.allocate("a").value();
  const auto b = second.allocate("a").value();
  EXPECT_NE(a, b);
  ASSERT_EQ(first.owned().size(), 1U);
  EXPECT_EQ(first.owned()[0].uid, a);
  EXPECT_EQ(first.owned()[0].attempt, "a");
}

TEST_F(UidPoolTest, UsesAUserAgainOnlyWhenAllOthersHadTheirTurn) {
  UidPool pool(folder, range, "/node/1");
  std::vector<std::uint32_t> order;
  for (int i = 0; i < 5; ++i) {
    order.push_back(pool.allocate("a").value());
    pool.release(order.back());
  }
  EXPECT_EQ(order, (std::vector<std::uint32_t>{range.first, range.first + 1, range.first + 2, range.first + 3,
                                               range.first}));
}

TEST_F(UidPoolTest, SaysWhenTheRangeIsUsedUp) {
  UidPool pool(folder, range, "/node/1");
  for (int i = 0; i < 4; ++i) ASSERT_TRUE(pool.allocate("a"));
  const auto none = pool.allocate("a");
  ASSERT_FALSE(none);
  EXPECT_EQ(none.error().message.rfind("UID_RANGE_EXHAUSTED", 0), 0U);
}

TEST_F(UidPoolTest, PassesOverAUserThatSomeProcessHas) {
  UidPool pool(folder, {::getuid(), ::getuid()}, "/node/1");
  EXPECT_FALSE(pool.allocate("a"));
}

TEST_F(UidPoolTest, TakesBackTheUsersOfNodesThatAreGone) {
  UidPool gone(folder, range, "/no/such/node"), here(folder, range, folder.string());
  ASSERT_TRUE(gone.allocate("a"));
  ASSERT_TRUE(here.allocate("a"));
  here.reclaim();
  EXPECT_TRUE(gone.owned().empty());
  EXPECT_EQ(here.owned().size(), 1U);
}

}  // namespace
}  // namespace hivemetal::runner
