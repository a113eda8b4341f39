#include "node/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "node/testing.h"

namespace hivemetal::node {
namespace {

using testing::HasSubstr;

std::string message_of(std::string_view text) {
  const auto config = parse_config(text, "config.yaml");
  EXPECT_FALSE(config.has_value()) << text;
  return config ? "" : config.error().message;
}

TEST(Config, HasADefaultForEveryKey) {
  const auto config = parse_config("", "config.yaml").value();
  EXPECT_EQ(config.listen, std::vector<std::string>{"/ip4/127.0.0.1/tcp/0"});
  EXPECT_FALSE(config.name.empty());
  EXPECT_FALSE(config.cpus.has_value());
}

TEST(Config, ReadsEveryKey) {
  const auto config = parse_config(
                          "name: mill\nlisten: [/ip4/0.0.0.0/tcp/31337]\nannounce: "
                          "[/dns4/mill.example/tcp/31337]\ncpus: 1.5\n"
                          "memory: 4GiB\nenvironments: {torch: /opt/torch}\np2pd: /opt/p2pd\nguard: "
                          "/opt/guard\nlog_level: debug\n",
                          "config.yaml")
                          .value();
  EXPECT_EQ(config.name, "mill");
  EXPECT_EQ(config.listen[0], "/ip4/0.0.0.0/tcp/31337");
  EXPECT_EQ(config.announce[0], "/dns4/mill.example/tcp/31337");
  EXPECT_EQ(config.cpus, 1.5);
  EXPECT_EQ(config.memory_bytes, 4ULL << 30);
  EXPECT_EQ(config.environments.at("torch"), "/opt/torch");
  EXPECT_EQ(config.p2pd, "/opt/p2pd");
  EXPECT_EQ(config.log_level, "debug");
}

TEST(Config, NamesTheLineAndTheNearestKeyOfAnUnknownOne) {
  EXPECT_EQ(message_of("name: mill\ncpu: 2\n"), "config.yaml:2: unknown key \"cpu\"; did you mean \"cpus\"?");
}

TEST(Config, SaysWhichValueIsWrongAndWhatToWrite) {
  EXPECT_THAT(message_of("name: Mill One\n"),
              HasSubstr("config.yaml:1: name: \"Mill One\" is not valid; use"));
  EXPECT_THAT(message_of("\ncpus: -1\n"),
              HasSubstr("config.yaml:2: cpus: \"-1\" is not valid; write a number above 0"));
  EXPECT_THAT(message_of("cpus: nan\n"), HasSubstr("not valid"));
  EXPECT_THAT(message_of("memory: 4GB\n"), HasSubstr("MiB, GiB or TiB"));
  EXPECT_THAT(message_of("memory: 99999999999999999999GiB\n"), HasSubstr("not valid"));
  EXPECT_THAT(message_of("listen: [tcp://0.0.0.0]\n"), HasSubstr("/ip4/0.0.0.0/tcp/31337"));
  EXPECT_THAT(message_of("environments: {torch: venv}\n"), HasSubstr("no absolute path"));
  EXPECT_THAT(message_of("name: a\nname: b\n"), HasSubstr("config.yaml:2: \"name\" is set twice"));
  EXPECT_THAT(message_of("name: [a]\n"), HasSubstr("must be one value"));
  EXPECT_THAT(message_of("name: \"a\n"), HasSubstr("config.yaml:"));
  EXPECT_THAT(message_of("- a\n"), HasSubstr("must be a map"));
}

TEST(Config, RefusesAHugeFileBeforeItIsParsed) {
  EXPECT_THAT(message_of(std::string(kConfigBytesMax + 1, ' ')), HasSubstr("is it the right file?"));
  EXPECT_THAT(message_of(std::string(100'000, '[')), HasSubstr("config.yaml:"));
}

TEST(Config, ReadsBackWhatItSaved) {
  const TemporaryFolder folder;
  Config config;
  config.name = "mill";
  config.listen = {"/ip4/127.0.0.1/tcp/4001"};
  config.cpus = 0.5;
  config.memory_bytes = 512ULL << 20;
  config.environments = {{"torch", "/opt/torch"}};
  ASSERT_TRUE(save_config(config, folder.path() / "config.yaml"));
  const auto read = load_config(folder.path() / "config.yaml").value();
  EXPECT_EQ(read.name, config.name);
  EXPECT_EQ(read.listen, config.listen);
  EXPECT_EQ(read.cpus, config.cpus);
  EXPECT_EQ(read.memory_bytes, config.memory_bytes);
  EXPECT_EQ(read.environments, config.environments);
}

}  // namespace
}  // namespace hivemetal::node
