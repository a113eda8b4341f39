#include "node/doctor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "node/testing.h"

namespace hivemetal::node {
namespace {

using testing::HasSubstr;

TEST(Doctor, NamesWhatIsMissingWithARemedyEach) {
  const TemporaryFolder folder;
  Config config;
  config.p2pd = "/nowhere/p2pd";
  config.guard = "/nowhere/guard";
  config.environments = {{"torch", "/nowhere/venv"}};
  std::vector<std::string> checked;
  const auto findings = examine(folder.path() / "node", config, 1.7e9, &checked);
  std::set<std::string> blocking;
  for (const auto& finding : findings) {
    EXPECT_FALSE(finding.finding.empty());
    EXPECT_FALSE(finding.remedy.empty()) << finding.finding;
    if (finding.blocks) blocking.insert(finding.check);
  }
  EXPECT_THAT(blocking, testing::IsSupersetOf({"p2pd", "guard", "environments", "membership"}));
  EXPECT_EQ(checked.size(), 10u);
  EXPECT_THAT(doctor_text(findings, checked), HasSubstr("remedy: "));
  EXPECT_FALSE(std::filesystem::exists(folder.path() / "node")) << "looking must not make anything";
}

TEST(Doctor, SaysSoIfAllIsWell) { EXPECT_EQ(doctor_text({}, {"a", "b"}), "checked: a, b\nall is well\n"); }

}  // namespace
}  // namespace hivemetal::node
