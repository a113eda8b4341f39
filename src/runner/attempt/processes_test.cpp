#include "runner/attempt/processes.h"

#include <gtest/gtest.h>
#include <unistd.h>

namespace hivemetal::runner {
namespace {

TEST(Processes, ReadsAStatLineWhateverTheNameIs) {
  const auto stat = parse_stat(
      "4711 (a) R (b) 1 S 1 4711 4711 0 -1 4194304 100 0 0 0 5 6 7 8 20 0 1 0 987654 1000 42 "
      "18446744073709551615");
  // The name is "a) R (b": up to the last parenthesis.
  ASSERT_FALSE(stat);
  const auto good = parse_stat(
      "4711 (a) R (b) S 12 4711 4711 0 -1 4194304 100 0 0 0 5 6 7 8 20 0 1 0 987654 1000 42 "
      "18446744073709551615");
  ASSERT_TRUE(good);
  EXPECT_EQ(good->id, (ProcessId{4711, 987654}));
  EXPECT_EQ(good->parent, 12);
  EXPECT_EQ(good->state, 'S');
  EXPECT_EQ(good->cpu_ticks, 26U);
  EXPECT_EQ(good->rss_pages, 42U);
}

TEST(Processes, RefusesLinesThatAreNone) {
  for (const char* line : {"", "1", "1 (x)", "x (y) S 1", "1 (x) S 1 2 3", ") ("})
    EXPECT_FALSE(parse_stat(line)) << line;
}

TEST(Processes, FindsDescendantsInAnyOrder) {
  const std::vector<ProcessStat> all{{{4, 0}, 3, 'S'}, {{3, 0}, 2, 'S'}, {{2, 0}, 1, 'S'}, {{9, 0}, 1, 'S'}};
  EXPECT_EQ(descendants_of(2, all).size(), 2U);
  EXPECT_EQ(descendants_of(9, all).size(), 0U);
}

TEST(Processes, KnowsItselfAndNotItsPidAtAnotherTime) {
  const auto self = stat_of(::getpid());
  ASSERT_TRUE(self);
  EXPECT_TRUE(is_alive(self->id));
  EXPECT_FALSE(is_alive({self->id.pid, self->id.start_time + 1}));
  EXPECT_TRUE(has_uid(::getpid(), ::getuid()));
}

}  // namespace
}  // namespace hivemetal::runner
