#include "job/job.h"

#include <fstream>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <nlohmann/json.hpp>

namespace hivemetal::job {
namespace {

namespace fs = std::filesystem;
using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::seconds;

// A folder with train.py in it.
class JobFile : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = (fs::temp_directory_path() / "hivemetal-job-XXXXXX").string();
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    folder_ = fs::canonical(name);
    write("train.py", "print(1)\n");
  }
  void TearDown() override { fs::remove_all(folder_); }

  void write(const fs::path& name, std::string_view text) { std::ofstream(folder_ / name) << text; }

  Result<JobSpec> parse(std::string_view text) const { return parse_job(text, folder_); }

  // The message for a job of two good keys followed by `text`, which begins in line 3.
  std::string message(std::string_view text) const {
    const std::string head = text.find("command:") == std::string_view::npos
                                 ? "name: j\nkind: task\ncommand: [x]\n"
                                 : "name: j\nkind: task\n";
    const auto job = parse(head + std::string(text));
    return job ? "no error" : job.error().message;
  }

  fs::path folder_;
};

constexpr std::string_view kFull = R"(name: fashion
kind: train                 # train | service | notebook | task
runtime: baremetal
nodes: {min: 2, max: 4}     # [1, min]
resources: {cpus: 1.5, memory: 2GiB, disk: 512MiB, gpus: 1, gpu_memory: 8GiB}
environment:
  host: torch
files: [train.py]
command: [python, train.py, --epochs, "5", 7]
env: {BATCH: "64", RATE: 0.1}
network: {egress: swarm}
checkpoint: {path: checkpoints, every: 90s, keep: 2}
restart: {max: 5, backoff: 500ms}
stop: {grace: 1m}
ports: [{name: ui, port: 7860, kind: gradio}]
)";

TEST_F(JobFile, IsReadWithEveryKey) {
  const JobSpec job = parse(kFull).value();
  EXPECT_EQ(job.name, "fashion");
  EXPECT_EQ(job.kind, Kind::Train);
  EXPECT_EQ(job.runtime, Runtime::Baremetal);
  EXPECT_EQ(job.nodes, (Nodes{2, 4}));
  EXPECT_EQ(job.resources, (Resources{1.5, 2ull << 30, 512ull << 20, 1, 8ull << 30}));
  EXPECT_EQ(job.environment.host, "torch");
  EXPECT_EQ(job.files, std::vector<std::string>{"train.py"});
  EXPECT_EQ(job.command, (std::vector<std::string>{"python", "train.py", "--epochs", "5", "7"}));
  EXPECT_EQ(job.env, (std::map<std::string, std::string>{{"BATCH", "64"}, {"RATE", "0.1"}}));
  EXPECT_EQ(job.egress, Egress::Swarm);
  EXPECT_EQ(job.checkpoint, (Checkpoint{"checkpoints", seconds(90), 2}));
  EXPECT_EQ(job.restart, (Restart{5, milliseconds(500)}));
  EXPECT_EQ(job.grace, seconds(60));
  EXPECT_EQ(job.ports, (std::vector<Port>{{"ui", 7860, PortKind::Gradio}}));
}

TEST_F(JobFile, HasDefaultsForAllButThreeKeys) {
  const JobSpec job = parse("name: j\nkind: task\ncommand: [x]\nnodes: {min: 3}\n").value();
  JobSpec expected;
  expected.name = "j";
  expected.kind = Kind::Task;
  expected.command = {"x"};
  expected.nodes = {3, 3};
  EXPECT_EQ(job, expected);
  EXPECT_EQ(job.resources.memory_bytes, 1ull << 30);
  EXPECT_EQ(job.grace, seconds(20));
  EXPECT_EQ(job.egress, Egress::None);
}

TEST_F(JobFile, MayNameADockerImageForOneNode) {
  const JobSpec job = parse("name: j\nkind: task\nruntime: docker\nimage: debian:12\ncommand: [x]\n").value();
  EXPECT_EQ(job.runtime, Runtime::Docker);
  EXPECT_EQ(job.image, "debian:12");
  EXPECT_EQ(message("runtime: docker\n"), "job.yaml:4: runtime docker needs an image; add 'image: NAME'");
  EXPECT_EQ(message("image: x\n"), "job.yaml:4: image needs runtime docker; a baremetal job has none");
  EXPECT_EQ(message("runtime: docker\nimage: x\nnodes: {min: 2}\n"),
            "job.yaml:6: a docker job runs on one node; set nodes.max to 1 or use runtime baremetal");
}

TEST_F(JobFile, NamesTheNearestKnownKey) {
  EXPECT_EQ(parse("name: j\nkind: task\n\ncomand: [x]\n").error().message,
            "job.yaml:4: unknown key 'comand'; did you mean 'command'?");
  EXPECT_EQ(message("resources:\n  cpu: 1\n"),
            "job.yaml:5: unknown key 'cpu' in resources; did you mean 'cpus'?");
  EXPECT_EQ(message("stop: {signal: TERM}\n"), "job.yaml:4: unknown key 'signal' in stop; known keys: grace");
  EXPECT_EQ(message("<<: 1\n"),
            "job.yaml:4: unknown key '<<'; known keys: name, kind, runtime, image, nodes, resources, "
            "environment, files, "
            "command, env, network, checkpoint, restart, stop, ports");
}

TEST_F(JobFile, NeedsNameKindAndCommand) {
  EXPECT_EQ(parse("").error().message,
            "job.yaml: the job is empty; it needs at least name, kind and command");
  EXPECT_EQ(parse("# nothing\n").error().code, ErrorCode::Invalid);
  EXPECT_EQ(parse("name: j\nkind: task\n").error().message, "job.yaml: the key 'command' is missing");
  EXPECT_EQ(parse("- name\n").error().message, "job.yaml:1: the job must be a map, here is a list");
  EXPECT_EQ(parse("hello").error().message, "job.yaml:1: the job must be a map, here is a single value");
}

TEST_F(JobFile, RefusesAnEmptyCommand) {
  EXPECT_EQ(message("command: []\n"),
            "job.yaml:3: command is empty; write the program and its arguments, as [python, train.py]");
  EXPECT_EQ(message("command:\n"),
            "job.yaml:3: command is empty; write the program and its arguments, as [python, train.py]");
  EXPECT_EQ(message("command: ['']\n"), "job.yaml:3: command is empty; its first item is the program to run");
  EXPECT_EQ(message("command: python train.py\n"),
            "job.yaml:3: command must be a list; write it as [python, train.py]");
  EXPECT_EQ(message("command: [a, [b]]\n"), "job.yaml:3: command[1] must be a single value, here is a list");
  EXPECT_EQ(message("command: [a, ]\n"), "no error");
  EXPECT_EQ(message("command: [a, ~]\n"), "job.yaml:3: command[1] must be a single value, here is nothing");
  EXPECT_EQ(message("command: [a, \"b\\0c\"]\n"), "job.yaml:3: command[1] contains a zero byte");
}

TEST_F(JobFile, ExplainsUnits) {
  const std::pair<std::string, std::string> cases[] = {
      {"1GB", "'1GB' has the unknown unit 'GB'; write 1GiB (1 GiB is 1073741824 bytes)"},
      {"512m", "'512m' has the unknown unit 'm'; write 512MiB (1 MiB is 1048576 bytes)"},
      {"1gib", "'1gib' has the unknown unit 'gib'; write 1GiB (1 GiB is 1073741824 bytes)"},
      {"5 apples", "'5 apples' has the unknown unit 'apples'; write KiB, MiB, GiB or TiB"},
      {"1024", "'1024' lacks a unit; write 1024MiB or 1024GiB"},
      {"-1GiB", "'-1GiB' is negative"},
      {"1.5GiB", "'1.5GiB' is no size; write a whole number and its unit, such as 512MiB or 2GiB"},
      {"much", "'much' is no size; write a whole number and its unit, such as 512MiB or 2GiB"},
      {"99999TiB", "'99999TiB' is more than 1024TiB"},
      {"99999999999999999999GiB",
       "'99999999999999999999GiB' is no size; write a whole number and its unit, such as 512MiB or 2GiB"},
  };
  for (const auto& [value, expected] : cases) {
    EXPECT_EQ(message("resources: {memory: " + value + "}\n"), "job.yaml:4: resources.memory: " + expected);
  }
  EXPECT_EQ(message("resources: {memory: 0}\n"),
            "job.yaml:4: resources.memory is less than 1MiB; no program starts with that");
  EXPECT_EQ(message("resources: {disk: 1 GiB, gpu_memory: 0}\n"), "no error");
}

TEST_F(JobFile, ExplainsDurations) {
  const std::pair<std::string, std::string> cases[] = {
      {"60", "'60' lacks a unit; write 60s or 60m"},
      {"-5s", "'-5s' is negative"},
      {"5min", "'5min' has the unknown unit 'min'; write ms, s, m or h"},
      {"soon", "'soon' is no duration; write a whole number and its unit, such as 500ms, 60s, 5m or 1h"},
      {"1000h", "'1000h' is more than 30 days"},
  };
  for (const auto& [value, expected] : cases) {
    EXPECT_EQ(message("restart: {backoff: " + value + "}\n"), "job.yaml:4: restart.backoff: " + expected);
  }
  EXPECT_EQ(parse("name: j\nkind: task\ncommand: [x]\nstop: {grace: 1h}\n").value().grace, hours(1));
  EXPECT_EQ(message("stop: {grace: 2h}\n"), "job.yaml:4: stop.grace is at most 1h");
  EXPECT_EQ(message("checkpoint: {path: c, every: 0}\n"), "job.yaml:4: checkpoint.every must be at least 1s");
}

TEST_F(JobFile, RefusesNumbersThatAreNone) {
  EXPECT_EQ(message("nodes: {min: -1}\n"),
            "job.yaml:4: nodes.min is '-1'; it must be a whole number from 1 to 10000");
  EXPECT_EQ(message("nodes: {min: 2.5}\n"),
            "job.yaml:4: nodes.min is '2.5'; it must be a whole number from 1 to 10000");
  EXPECT_EQ(message("nodes: {min: \"2\"}\n"),
            "job.yaml:4: nodes.min is text; write a whole number from 1 to 10000 without quotes");
  EXPECT_EQ(message("nodes: {min: 99999999999999999999}\n"),
            "job.yaml:4: nodes.min is '99999999999999999999'; it must be a whole number from 1 to 10000");
  EXPECT_EQ(message("nodes:\n  min: 4\n  max: 2\n"),
            "job.yaml:5: nodes.min (4) is greater than nodes.max (2); raise max or lower min");
  EXPECT_EQ(message("nodes: 3\n"), "job.yaml:4: nodes must be a map, here is a single value");
  for (const std::string value : {"-1", "0", "nan", "inf", "1e400", "0x10", "two", "[1]"}) {
    EXPECT_NE(message("resources: {cpus: " + value + "}\n"), "no error") << value;
  }
}

TEST_F(JobFile, RefusesOddNames) {
  for (const std::string& name : std::vector<std::string>{"Fashion", "1st", "a b", "a/b", "..", "-a", "\"\"",
                                                          "ä", std::string(41, 'a')}) {
    EXPECT_EQ(parse("name: " + name + "\nkind: task\ncommand: [x]\n").error().message,
              "job.yaml:1: name: write 1 to 40 characters of a-z, 0-9 and '-', beginning with a letter")
        << name;
  }
  EXPECT_EQ(parse("name: j\nkind: notebook\ncommand: [x]\n").error().message,
            "job.yaml:2: kind 'notebook' comes in a later version; this one runs train and task");
  EXPECT_EQ(parse("name: j\nkind: job\ncommand: [x]\n").error().message,
            "job.yaml:2: kind is 'job'; it must be one of train, task");
}

TEST_F(JobFile, KeepsTheNodesOwnVariables) {
  EXPECT_EQ(message("env: {HIVEMETAL_RUN_ID: x}\n"),
            "job.yaml:4: env.HIVEMETAL_RUN_ID: names that begin with HIVEMETAL_ are set by the node; choose "
            "another");
  EXPECT_EQ(message("env: {A=B: x}\n"),
            "job.yaml:4: env.A=B: a variable's name has letters, digits and '_' only");
  EXPECT_EQ(message("env: {A: }\n"), "job.yaml:4: env.A must be a single value, here is nothing");
}

TEST_F(JobFile, RefusesFilesThatAreMissingOrOutside) {
  write("../outside", "x");
  fs::create_symlink("../outside", folder_ / "link");
  fs::create_symlink("train.py", folder_ / "good-link");
  fs::create_directory(folder_ / "data");
  EXPECT_EQ(message("files:\n  - train.py\n  - model.py\n"), "job.yaml:6: files[1]: no file 'model.py' in " +
                                                                 folder_.string() +
                                                                 "; paths are relative to the job file");
  for (const std::string path :
       {"../outside", "/etc/passwd", "a/../../b", "a//b", "./train.py", "''", "data/"}) {
    EXPECT_NE(message("files: [" + path + "]\n").find("must be a path below the job's folder"),
              std::string::npos)
        << path;
  }
  EXPECT_NE(message("files: [link]\n").find("leads out of the job's folder"), std::string::npos);
  EXPECT_EQ(message("files: [data]\n"),
            "job.yaml:4: files[0]: 'data' is not a regular file; list the files of a folder one by one");
  EXPECT_EQ(message("files: [train.py, train.py]\n"), "job.yaml:4: files[1]: 'train.py' is there twice");
  EXPECT_EQ(message("files: [good-link]\n"), "no error");
  EXPECT_EQ(message("environment: {requirements: req.txt}\n").substr(0, 56),
            "job.yaml:4: environment.requirements: no file 'req.txt' ");
  EXPECT_EQ(message("environment: {host: a, requirements: train.py}\n"),
            "job.yaml:4: environment has host and requirements; keep one of them");
  EXPECT_EQ(message("checkpoint: {path: ../up}\n"),
            "job.yaml:4: checkpoint.path must be a path below the worker's folder, without '..'");
  fs::remove(folder_.parent_path() / "outside");
}

TEST_F(JobFile, RefusesDuplicateKeys) {
  EXPECT_EQ(message("env: {A: 1}\nenv: {A: 2}\n"), "job.yaml:5: key 'env' is there twice");
  EXPECT_EQ(message("env:\n  A: 1\n  A: 2\n"), "job.yaml:6: key 'A' is there twice");
  EXPECT_EQ(message("? [a]\n: b\n"), "job.yaml:4: a key must be text, here is a list");
}

TEST_F(JobFile, RefusesBombsBeforeTheyGoOff) {
  std::string bomb = "a: &a [lol, lol, lol, lol]\n";
  for (char c = 'b'; c <= 'z'; ++c) {
    bomb += fmt::format("{}: &{} [*{}, *{}, *{}, *{}]\n", c, c, char(c - 1), char(c - 1), char(c - 1),
                        char(c - 1));
  }
  EXPECT_EQ(parse(bomb).error().message,
            "job.yaml:1: anchors (&name) are not allowed; write the value out where it is needed");
  EXPECT_EQ(message("env: {A: *x}\n"), "job.yaml:4: the referenced anchor is not defined");
  EXPECT_EQ(message("env: !!python/object {}\n"), "job.yaml:4: tags (!name) are not allowed");
  EXPECT_EQ(message("env: " + std::string(100'000, '[')), "job.yaml:4: nested deeper than 16 levels");
  std::string many = "files: [";
  for (int i = 0; i < 30'000; ++i) many += "a,";
  EXPECT_EQ(message(many + "]\n"), "job.yaml:4: more than 20000 values");
  EXPECT_EQ(message("---\nname: k\n"), "job.yaml:4: a second document; one file is one job");
}

TEST_F(JobFile, RefusesWhatIsNoText) {
  EXPECT_EQ(parse(std::string_view("name: j\nk\0", 10)).error().message,
            "job.yaml:2: byte 0x00 does not belong into a text file; is this a job file?");
  EXPECT_EQ(parse("name: \xff\n").error().message, "job.yaml: not UTF-8; save the file as UTF-8 text");
  EXPECT_EQ(parse("name: [j\n").error().code, ErrorCode::Invalid);
  EXPECT_EQ(parse("\tname: j\n").error().message.substr(0, 11), "job.yaml:1:");
}

TEST_F(JobFile, IsRefusedUnreadWhenItIsLarge) {
  const fs::path big = folder_ / "big.yaml";
  std::ofstream(big).close();
  fs::resize_file(big, 100 << 20);  // sparse
  EXPECT_EQ(load_job(big).error().message,
            "big.yaml: 104857600 bytes are too many for a job file, at most 1048576 are read; is this the "
            "right file?");
  EXPECT_EQ(parse(std::string((1 << 20) + 1, '#')).error().code, ErrorCode::Invalid);
}

TEST_F(JobFile, IsLoadedFromTheDisk) {
  write("job.yaml", kFull);
  EXPECT_EQ(load_job(folder_ / "job.yaml").value(), parse(kFull).value());
  EXPECT_EQ(load_job(folder_ / "none.yaml").error().message,
            "cannot read " + (folder_ / "none.yaml").string() + ": No such file or directory");
  EXPECT_EQ(load_job(folder_).error().message, folder_.string() + " is not a regular file");
  ASSERT_EQ(::mkfifo((folder_ / "pipe").c_str(), 0600), 0);
  EXPECT_EQ(load_job(folder_ / "pipe").error().code, ErrorCode::Invalid);
}

TEST_F(JobFile, BringsItsFiles) {
  write("requirements.txt", "numpy\n");
  fs::permissions(folder_ / "train.py", fs::perms::owner_all);
  JobSpec job = parse(
                    "name: j\nkind: task\ncommand: [x]\nfiles: [train.py]\n"
                    "environment: {requirements: requirements.txt}\n")
                    .value();
  EXPECT_EQ(load_files(job, folder_).value(),
            (std::vector<File>{{"train.py", "print(1)\n", true}, {"requirements.txt", "numpy\n", false}}));
  write("large", std::string(2 << 20, 'x'));
  write("larger", std::string((1 << 20) + 1, 'x'));
  job.files = {"large", "larger"};
  EXPECT_EQ(load_files(job, folder_).error().message,
            "'larger' has 1048577 bytes, with the files before it 3145729; the files of a job may have "
            "3145728 bytes "
            "(3 MiB) together until bundles come in a later version; keep large data on the nodes");
  job.files = {"../x"};
  EXPECT_EQ(load_files(job, folder_).error().code, ErrorCode::Invalid);
}

TEST_F(JobFile, TravelsAsJson) {
  const JobSpec full = parse(kFull).value();
  EXPECT_EQ(from_json(to_json(full)).value(), full);
  EXPECT_EQ(from_json_text(to_json(full).dump()).value(), full);
  const JobSpec small = parse(
                            "name: j\nkind: task\nruntime: docker\nimage: a\ncommand: [x]\n"
                            "environment: {requirements: train.py}\n")
                            .value();
  EXPECT_EQ(from_json(to_json(small)).value(), small);
}

TEST_F(JobFile, FromAPeerIsReadAsStrictly) {
  const auto error = [](std::string_view text) { return from_json_text(text).error().message; };
  EXPECT_EQ(error("{"), "job: no JSON at byte 2");
  EXPECT_EQ(error("null"), "job: the job is empty; it needs at least name, kind and command");
  EXPECT_EQ(error(R"({"name": "j", "kind": "task", "comand": []})"),
            "job: unknown key 'comand'; did you mean 'command'?");
  EXPECT_EQ(error(R"({"name": "j", "name": "k"})"), "job: key 'name' is there twice");
  EXPECT_EQ(error(R"({"name": "j", "kind": "task", "command": ["x"], "nodes": {"min": "1"}})"),
            "job: nodes.min is text; write a whole number from 1 to 10000 without quotes");
  EXPECT_EQ(error(R"({"name": "j", "kind": "task", "command": ["x"], "nodes": {"min": 1.5}})"),
            "job: nodes.min is '1.5'; it must be a whole number from 1 to 10000");
  EXPECT_EQ(error(R"({"name": "j", "kind": "task", "command": ["x"], "files": ["../x"]})"),
            "job: files[0]: '../x' must be a path below the job's folder, without '..'");
  EXPECT_EQ(error(R"({"name": "j", "kind": "task", "command": ["x\u0000y"]})"),
            "job: command[0] contains a zero byte");
  EXPECT_EQ(error(std::string(1000, '[')), "job: nested deeper than 16 levels");
  EXPECT_EQ(from_json_text(std::string(2 << 20, ' ')).error().code, ErrorCode::Invalid);
}

// docs/formats/job-file.md shows these two.
TEST_F(JobFile, MeansTheSameAsTheJsonOfItsFormatPage) {
  const JobSpec job = parse(R"(name: fashion
kind: train                 # train | task
runtime: baremetal          # baremetal | docker
nodes: {min: 2, max: 4}
resources: {cpus: 1, memory: 1GiB, disk: 1GiB, gpus: 0, gpu_memory: 0}
environment:
  host: torch               # or requirements: FILE
files: [train.py]
command: [python, train.py, --epochs, "5"]
env: {BATCH: "64"}
network: {egress: none}     # none | swarm | internet
checkpoint: {path: checkpoints, every: 60s, keep: 3}
restart: {max: 3, backoff: 5s}
stop: {grace: 20s}
ports: [{name: ui, port: 7860, kind: gradio}]
)")
                          .value();
  const auto json = nlohmann::json::parse(
      R"({"name":"fashion","kind":"train","runtime":"baremetal","nodes":{"min":2,"max":4},
 "resources":{"cpus":1.0,"memory":"1GiB","disk":"1GiB","gpus":0,"gpu_memory":"0"},
 "environment":{"host":"torch"},"files":["train.py"],"command":["python","train.py","--epochs","5"],
 "env":{"BATCH":"64"},"network":{"egress":"none"},
 "checkpoint":{"path":"checkpoints","every":"1m","keep":3},
 "restart":{"max":3,"backoff":"5s"},"stop":{"grace":"20s"},
 "ports":[{"name":"ui","port":7860,"kind":"gradio"}]}
)");
  EXPECT_EQ(to_json(job), json);
  EXPECT_EQ(from_json(json).value(), job);
}

}  // namespace
}  // namespace hivemetal::job
