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
  EXPECT_EQ(message_of("name: mill\ncpu: 2\n"), "config.yaml:2: unknown key 'cpu'; did you mean 'cpus'?");
}

TEST(Config, SaysWhichValueIsWrongAndWhatToWrite) {
  const std::pair<const char*, const char*> cases[] = {
      {"name: Mill One\n", "config.yaml:1: name is 'Mill One'; use"},
      {"\ncpus: -1\n", "config.yaml:2: cpus is '-1'; it must be a number from 0.01"},
      {"cpus: nan\n", "config.yaml:1: cpus"},
      {"memory: 4GB\n", "GiB"},
      {"memory: 99999999999999999999GiB\n", "config.yaml:1: memory"},
      {"memory: 0\n", "such as 4GiB"},
      {"listen: [tcp://0.0.0.0]\n", "/ip4/0.0.0.0/tcp/31337"},
      {"listen: /ip4/0.0.0.0/tcp/1\n", "listen must be a list"},
      {"environments: {torch: venv}\n", "no absolute path"},
      {"environments: {Torch: /venv}\n", "no name of an environment"},
      {"log_level: loud\n", "must be one of debug, info, warn, error"},
      {"name: a\nname: b\n", "config.yaml:2"},
      {"name: [a]\n", "name must be"},
      {"name: \"a\n", "config.yaml:"},
      {"- a\n", "a map of settings"},
  };
  for (const auto& [text, expected] : cases) EXPECT_THAT(message_of(text), HasSubstr(expected));
}

TEST(Config, RefusesAHugeFileBeforeItIsParsed) {
  EXPECT_THAT(message_of(std::string(kConfigBytesMax + 1, ' ')), HasSubstr("is it the right file?"));
  EXPECT_THAT(message_of(std::string(100'000, '[')), HasSubstr("config.yaml:"));
}

TEST(Config, TakesSettingsOverOthers) {
  Config base;
  base.name = "mill";
  base.cpus = 2;
  base.environments = {{"torch", "/opt/torch"}};
  const auto config = parse_config("cpus: 1\nenvironments: {jax: /opt/jax}\n", "command line", base).value();
  EXPECT_EQ(config.name, "mill");
  EXPECT_EQ(config.cpus, 1);
  EXPECT_EQ(config.environments.size(), 2u);
}

}  // namespace
}  // namespace hivemetal::node
