#include "runner/baremetal/environment.h"

#include <gtest/gtest.h>

namespace hivemetal::runner {
namespace {

AttemptSpec a_spec() {
  AttemptSpec spec;
  spec.id = "run.0.1";
  spec.argv = {"true"};
  return spec;
}

TEST(Environment, HoldsOurVariablesAndThoseOfTheSpecAboveThem) {
  AttemptSpec spec = a_spec();
  spec.limits.cpus = 2.5;
  spec.environment = {{"PATH", "/opt/bin"}, {"X", "1"}};
  const auto variables = environment_of(spec, "/w", "/tmp", "/k");
  EXPECT_EQ(variables.at("PATH"), "/opt/bin");
  EXPECT_EQ(variables.at("HOME"), "/w");
  EXPECT_EQ(variables.at("OMP_NUM_THREADS"), "2");
  EXPECT_EQ(variables.at("HIVEMETAL_CHECKPOINTS"), "/k");
  EXPECT_EQ(variables.at("X"), "1");
  EXPECT_FALSE(environment_of(a_spec(), "/w", "/tmp", "").contains("HIVEMETAL_CHECKPOINTS"));
}

TEST(Environment, RefusesFilesOutsideTheWorkFolder) {
  for (const char* path : {"", "/etc/passwd", "../x", "a/../../x", "a/", ".", "./x"}) {
    AttemptSpec spec = a_spec();
    spec.files = {{path, "", false}};
    EXPECT_FALSE(check(spec)) << path;
  }
  AttemptSpec spec = a_spec();
  spec.files = {{"a/b..c/train.py", "", false}};
  EXPECT_TRUE(check(spec));
}

TEST(Environment, RefusesWhatNoMachineCouldDo) {
  const auto fails = [](auto change) {
    AttemptSpec spec = a_spec();
    change(spec);
    return !check(spec);
  };
  EXPECT_TRUE(fails([](AttemptSpec& spec) { spec.argv.clear(); }));
  EXPECT_TRUE(fails([](AttemptSpec& spec) { spec.id = "../up"; }));
  EXPECT_TRUE(fails([](AttemptSpec& spec) { spec.id = ".hidden"; }));
  EXPECT_TRUE(fails([](AttemptSpec& spec) { spec.limits.cpus = 0; }));
  EXPECT_TRUE(fails([](AttemptSpec& spec) { spec.limits.pids = 0; }));
  EXPECT_TRUE(fails([](AttemptSpec& spec) { spec.environment["A=B"] = ""; }));
  EXPECT_TRUE(fails([](AttemptSpec& spec) { spec.keep = "a/b"; }));
  EXPECT_TRUE(fails([](AttemptSpec& spec) { spec.argv.push_back(std::string("a\0b", 3)); }));
}

}  // namespace
}  // namespace hivemetal::runner
