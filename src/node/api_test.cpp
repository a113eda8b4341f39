#include "node/api.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <yaml-cpp/yaml.h>

#include "node/testing.h"

namespace hivemetal::node {
namespace {

// The repository, found from where the test was built.
std::filesystem::path repository() {
  auto folder = std::filesystem::read_symlink("/proc/self/exe").parent_path();
  while (!std::filesystem::exists(folder / "docs/api/openapi.yaml") && folder.has_relative_path())
    folder = folder.parent_path();
  return folder;
}

TEST(Api, HasExactlyTheRoutesThatItsDescriptionHas) {
  const YAML::Node document = YAML::LoadFile(repository() / "docs/api/openapi.yaml");
  std::set<std::string> described;
  for (const auto& path : document["paths"]) {
    for (const auto& item : path.second) {
      auto method = item.first.as<std::string>();
      if (method == "parameters") continue;
      std::transform(method.begin(), method.end(), method.begin(),
                     [](unsigned char c) { return std::toupper(c); });
      const auto content = item.second["responses"]["200"]["content"];
      const bool stream = content && content["text/event-stream"];
      described.insert(method + " " + path.first.as<std::string>() + (stream ? " stream" : ""));
    }
  }
  Api api({});
  std::set<std::string> served;
  for (const auto& route : api.routes())
    served.insert(route.method + " " + route.pattern + (route.stream ? " stream" : ""));
  EXPECT_EQ(served, described);
}

TEST(Api, ReadsWhereAReaderOfLogsWas) {
  const auto cursors = parse_cursors("0:1:4096,3:0:77").value();
  ASSERT_EQ(cursors.size(), 2u);
  EXPECT_EQ(cursors.at(0).attempt, 1u);
  EXPECT_EQ(cursors.at(0).offset, 4096u);
  EXPECT_EQ(cursors.at(3).offset, 77u);
  EXPECT_TRUE(parse_cursors("").value().empty());
  for (const auto* wrong : {"1", "1:2", "1:2:", "1:2:x", "1:2:3:4", ":1:2", "a:1:2", "99999999999:0:0"}) {
    EXPECT_FALSE(parse_cursors(wrong).has_value()) << wrong;
  }
}

}  // namespace
}  // namespace hivemetal::node
