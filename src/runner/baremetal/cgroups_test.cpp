#include "runner/baremetal/cgroups.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace hivemetal::runner {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::IsEmpty;

// Debian 12 with systemd.
constexpr const char* kPureV2 =
    "22 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw\n"
    "25 22 0:22 / /sys rw,nosuid,nodev,noexec,relatime shared:6 - sysfs sysfs rw\n"
    "29 25 0:26 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";

// A micro-VM: every v1 controller on its own, cgroup2 beside them.
constexpr const char* kHybrid =
    "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n"
    "32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n"
    "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n"
    "37 31 0:34 / /sys/fs/cgroup/freezer rw,relatime - cgroup cgroup rw,freezer\n"
    "39 31 0:36 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids\n"
    "40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd\n"
    "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";

// Memory still v1, the rest on cgroup2; cpu and cpuacct share a mount on another machine.
constexpr const char* kSplit =
    "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n"
    "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";

constexpr const char* kPureV1 =
    "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct\n"
    "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n"
    "37 31 0:34 / /sys/fs/cgroup/freezer rw,relatime - cgroup cgroup rw,freezer\n"
    "39 31 0:36 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids\n";

Limits limits() {
  Limits limits;
  limits.cpus = 1.5;
  limits.memory_bytes = 1'000'000'000;
  limits.pids = 64;
  return limits;
}

std::string value_of(const CgroupPlan& plan, const std::string& file) {
  for (const CgroupWrite& write : plan.writes) {
    if (write.file == file) return write.value;
  }
  return "not written";
}

TEST(Cgroups, PutEverythingIntoOnePlaceOnPureV2) {
  CgroupLayout layout = parse_mountinfo(kPureV2);
  layout.v2_controllers = {"cpuset", "cpu", "io", "memory", "pids"};
  EXPECT_EQ(layout.name(), "pure v2");
  const CgroupPlan plan = plan_cgroups(layout, "", "n0", "run.0.1", limits());
  const std::string place = "/sys/fs/cgroup/hivemetal/n0/jobs/run.0.1";
  EXPECT_EQ(plan.cgroup2, place);
  EXPECT_THAT(plan.cgroup1, IsEmpty());
  EXPECT_THAT(plan.missing, IsEmpty());
  EXPECT_EQ(plan.memory2, place);
  EXPECT_EQ(value_of(plan, place + "/cpu.max"), "150000 100000");
  EXPECT_EQ(value_of(plan, place + "/memory.max"), "1000000000");
  EXPECT_EQ(value_of(plan, place + "/memory.oom.group"), "1");
  EXPECT_EQ(value_of(plan, place + "/pids.max"), "64");
}

TEST(Cgroups, EnableEachV2ControllerOnTheWholeWayDown) {
  CgroupLayout layout = parse_mountinfo(kPureV2);
  layout.v2_controllers = {"memory"};
  const CgroupPlan plan = plan_cgroups(layout, "", "n0", "a", limits());
  using Enable = std::pair<std::filesystem::path, std::string>;
  EXPECT_THAT(plan.enable,
              ElementsAre(Enable{"/sys/fs/cgroup/cgroup.subtree_control", "+memory"},
                          Enable{"/sys/fs/cgroup/hivemetal/cgroup.subtree_control", "+memory"},
                          Enable{"/sys/fs/cgroup/hivemetal/n0/cgroup.subtree_control", "+memory"},
                          Enable{"/sys/fs/cgroup/hivemetal/n0/jobs/cgroup.subtree_control", "+memory"}));
  EXPECT_THAT(plan.missing, ElementsAre("cpu", "pids"));
}

TEST(Cgroups, LimitByV1AndKillByCgroup2OnAHybridMachine) {
  const CgroupLayout layout = parse_mountinfo(kHybrid);
  EXPECT_EQ(layout.name(), "hybrid");
  const CgroupPlan plan = plan_cgroups(layout, "", "n0", "a", limits());
  EXPECT_EQ(plan.cgroup2, "/sys/fs/cgroup/unified/hivemetal/n0/jobs/a");
  EXPECT_EQ(plan.guard, "/sys/fs/cgroup/unified/hivemetal/n0/guards/a");
  EXPECT_THAT(plan.cgroup1,
              ElementsAre("/sys/fs/cgroup/cpu/hivemetal/n0/a", "/sys/fs/cgroup/memory/hivemetal/n0/a",
                          "/sys/fs/cgroup/pids/hivemetal/n0/a"));
  EXPECT_EQ(plan.memory1, "/sys/fs/cgroup/memory/hivemetal/n0/a");
  EXPECT_TRUE(plan.freezer.empty());
  EXPECT_EQ(value_of(plan, "/sys/fs/cgroup/cpu/hivemetal/n0/a/cpu.cfs_quota_us"), "150000");
  EXPECT_FALSE(layout.v1.contains("name=systemd"));
}

TEST(Cgroups, TakeEachControllerWhereItIs) {
  CgroupLayout layout = parse_mountinfo(kSplit);
  layout.v2_controllers = {"cpu", "pids"};
  EXPECT_EQ(layout.name(), "split");
  const CgroupPlan plan = plan_cgroups(layout, "", "n0", "a", limits());
  EXPECT_THAT(plan.cgroup1, ElementsAre("/sys/fs/cgroup/memory/hivemetal/n0/a"));
  EXPECT_EQ(value_of(plan, "/sys/fs/cgroup/unified/hivemetal/n0/jobs/a/pids.max"), "64");
  EXPECT_EQ(value_of(plan, "/sys/fs/cgroup/memory/hivemetal/n0/a/memory.limit_in_bytes"), "1000000000");
}

TEST(Cgroups, FreezeToKillWithoutCgroup2) {
  const CgroupLayout layout = parse_mountinfo(kPureV1);
  EXPECT_EQ(layout.name(), "pure v1");
  const CgroupPlan plan = plan_cgroups(layout, "", "n0", "a", limits());
  EXPECT_TRUE(plan.cgroup2.empty());
  EXPECT_EQ(plan.freezer, "/sys/fs/cgroup/freezer/hivemetal/n0/a");
  EXPECT_THAT(plan.cgroup1, Contains(plan.freezer));
  EXPECT_THAT(plan.cgroup1, Contains("/sys/fs/cgroup/cpu,cpuacct/hivemetal/n0/a"));
}

TEST(Cgroups, GoBelowTheFolderThatTheOwnerNamed) {
  const CgroupPlan plan = plan_cgroups(parse_mountinfo(kHybrid), "owner.slice", "n0", "a", limits());
  EXPECT_EQ(plan.cgroup2, "/sys/fs/cgroup/unified/owner.slice/hivemetal/n0/jobs/a");
}

TEST(Cgroups, SkipMountsTheyMayNotWriteAndReadEscapedPaths) {
  const CgroupLayout layout = parse_mountinfo(
      "1 0 0:1 / /a ro,relatime - cgroup2 cgroup2 rw\n"
      "2 0 0:2 / /with\\040blank rw shared:2 master:1 - cgroup2 cgroup2 rw\n"
      "a line that is none\n");
  EXPECT_EQ(layout.v2, "/with blank");
  EXPECT_EQ(parse_mountinfo("").name(), "none");
}

TEST(Cgroups, AcceptALimitThatTheKernelRoundsDownByLessThanAPage) {
  const CgroupWrite memory{"f", "1000000000", "memory", true};
  EXPECT_TRUE(reads_back(memory, "1000000000\n"));
  EXPECT_TRUE(reads_back(memory, "999997440\n"));
  EXPECT_FALSE(reads_back(memory, "999990000\n"));
  EXPECT_FALSE(reads_back(memory, "1000003584\n"));
  EXPECT_FALSE(reads_back(memory, "max\n"));
  const CgroupWrite exact{"f", "150000 100000", "cpu"};
  EXPECT_TRUE(reads_back(exact, "150000 100000\n"));
  EXPECT_FALSE(reads_back(exact, "max 100000\n"));
}

}  // namespace
}  // namespace hivemetal::runner
