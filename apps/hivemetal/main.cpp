// The command line: which verb with which options. What the verbs do is in src/node/commands.h.
#include <cstdlib>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <functional>

#include <CLI/CLI.hpp>

#include "node/commands.h"
#include "node/directory.h"

namespace {

using namespace hivemetal;  // NOLINT: an app is the end of the line

struct Arguments {
  node::Common common;
  std::string name;
  std::string text;  // an invite, a run
  std::string file;
  double hours = 24;
  unsigned worker = 0;
  bool flag = false;  // --follow, --once
  std::vector<std::string> listen;
  std::vector<std::string> announce;
  std::vector<std::string> environments;
  std::string node_name;
  std::string cpus;
  std::string memory;
  std::string p2pd;
  std::string guard;
  std::string log_level;
};

// Text as YAML's double-quoted scalar.
std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    out += c == '\n' || c == '\t' ? ' ' : c;
  }
  return out + "\"";
}

std::string list_of(const std::vector<std::string>& items) {
  std::vector<std::string> texts;
  for (const auto& item : items) texts.push_back(quoted(item));
  return fmt::format("[{}]", fmt::join(texts, ", "));
}

// The options of `node run` in the form of config.yaml, so that one reader checks both.
std::string settings_of(const Arguments& arguments) {
  std::string out;
  if (!arguments.listen.empty()) out += "listen: " + list_of(arguments.listen) + "\n";
  if (!arguments.announce.empty()) out += "announce: " + list_of(arguments.announce) + "\n";
  if (!arguments.environments.empty()) {
    out += "environments:\n";
    for (const auto& item : arguments.environments) {
      const auto equals = item.find('=');
      out += fmt::format("  {}: {}\n", quoted(item.substr(0, equals)),
                         quoted(equals == std::string::npos ? "" : item.substr(equals + 1)));
    }
  }
  // Numbers stay without quotes: in quotes they would be text.
  if (!arguments.cpus.empty()) out += fmt::format("cpus: {}\n", arguments.cpus);
  if (!arguments.memory.empty()) out += fmt::format("memory: {}\n", arguments.memory);
  const std::pair<const char*, const std::string&> texts[] = {{"name", arguments.node_name},
                                                              {"p2pd", arguments.p2pd},
                                                              {"guard", arguments.guard},
                                                              {"log_level", arguments.log_level}};
  for (const auto& [key, value] : texts) {
    if (!value.empty()) out += fmt::format("{}: {}\n", key, quoted(value));
  }
  return out;
}

class CommandLine {
 public:
  CommandLine()
      : app_("Hivemetal trains one model on many machines that nobody owns together.", "hivemetal") {
    app_.require_subcommand(1);
    app_.set_help_all_flag("--help-all", "Help for every verb");
    app_.fallthrough();
    add_common(app_);
    add_swarm_verbs();
    add_node_verbs();
    add_run_verbs();
    add_other_verbs();
  }

  int run(int argc, char** argv) {
    try {
      app_.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
      if (error.get_exit_code() == 0) return app_.exit(error);
      fmt::print(stderr, "hivemetal: {}; see hivemetal --help\n", error.what());
      return 2;
    }
    if (arguments_.common.directory.empty()) arguments_.common.directory = node::default_directory();
    return action_();
  }

 private:
  CLI::App* verb(CLI::App* parent, const char* name, const char* what, const char* example,
                 std::function<int()> action) {
    auto* command = parent->add_subcommand(name, what);
    command->footer(fmt::format("Example:\n  {}", example));
    command->fallthrough();
    command->callback([this, action = std::move(action)] { action_ = action; });
    return command;
  }

  void add_common(CLI::App& app) {
    app.add_option(
        "--dir", arguments_.common.directory,
        "The node's directory [HIVEMETAL_DIR, /var/lib/hivemetal for root, ~/.local/share/hivemetal]");
    app.add_flag("--json", arguments_.common.json, "Answer in JSON");
    // As if the system clock were off by so many seconds; for tests of what that does.
    app.add_option("--clock-offset", arguments_.common.clock_offset_s)->group("");
  }

  void add_swarm_verbs() {
    auto& a = arguments_;
    auto* swarm = app_.add_subcommand("swarm", "Swarms");
    swarm->require_subcommand(1)->fallthrough();
    auto* create = verb(swarm, "create", "Make a swarm; this node becomes its first member",
                        "hivemetal swarm create mill", [&a] { return node::swarm_create(a.common, a.name); });
    create->add_option("NAME", a.name, "What people call it [swarm]")->default_val("swarm");
    auto* invite = verb(&app_, "invite", "Print an invite: whoever has it can join",
                        "hivemetal invite --hours 2", [&a] { return node::invite(a.common, a.hours); });
    invite->add_option("--hours", a.hours, "How long it can be used [24]");
    auto* join = verb(&app_, "join", "Join the swarm of an invite", "hivemetal join hm1-…",
                      [&a] { return node::join(a.common, a.text); });
    join->add_option("INVITE", a.text, "The text that hivemetal invite printed")->required();
  }

  void add_node_verbs() {
    auto& a = arguments_;
    auto* parent = app_.add_subcommand("node", "This node, and the others");
    parent->require_subcommand(1)->fallthrough();
    auto* run = verb(parent, "run", "Run the node, in the foreground",
                     "hivemetal node run --listen /ip4/0.0.0.0/tcp/31337 --environment torch=/opt/torch",
                     [&a] { return node::node_run(a.common, {settings_of(a)}); });
    run->add_option("--listen", a.listen, "Multiaddress to listen on, may be repeated [/ip4/127.0.0.1/tcp/0]")
        ->take_all()
        ->expected(1);
    run->add_option("--announce", a.announce, "Multiaddress to tell others instead, may be repeated")
        ->take_all()
        ->expected(1);
    run->add_option("--environment", a.environments,
                    "NAME=FOLDER of a Python environment for workers, may be repeated")
        ->take_all()
        ->expected(1);
    run->add_option("--name", a.node_name, "What others see [the host's name]");
    run->add_option("--cpus", a.cpus, "Cores to lend [all]");
    run->add_option("--memory", a.memory, "Memory to lend, such as 4GiB [three quarters]");
    run->add_option("--p2pd", a.p2pd, "libp2p's daemon [that of the hivemind package]");
    run->add_option("--guard", a.guard, "hivemetal-guard [beside this program]");
    run->add_option("--log-level", a.log_level, "debug, info, warn or error [info]");
    verb(parent, "list", "The nodes of the swarm, as this node knows them", "hivemetal node list",
         [&a] { return node::node_list(a.common); });
  }

  void add_run_verbs() {
    auto& a = arguments_;
    auto* run = verb(&app_, "run", "Run a job on the swarm", "hivemetal run job.yaml --follow",
                     [&a] { return node::run_job(a.common, a.file, a.flag); });
    run->add_option("JOB", a.file, "The job file; docs/formats/job-file.md lists its keys")->required();
    run->add_flag("--follow,-f", a.flag, "Show what happens until the run is over");
    verb(&app_, "ps", "The runs submitted at this node", "hivemetal ps",
         [&a] { return node::list_runs(a.common); });
    auto* logs =
        verb(&app_, "logs", "What the workers of a run print", "hivemetal logs -f fashion-7k3q --worker 0",
             [this, &a] {
               return node::show_logs(a.common, a.text,
                                      worker_->count() > 0 ? std::optional(a.worker) : std::nullopt, a.flag);
             });
    logs->add_option("RUN", a.text, "As hivemetal ps lists it")->required();
    logs->add_flag("-f,--follow", a.flag, "Go on until the run is over, across restarts");
    worker_ = logs->add_option("--worker", a.worker, "Only this one, without a prefix");
    auto* stop = verb(&app_, "stop", "Stop a run; returns when its processes are gone",
                      "hivemetal stop fashion-7k3q", [&a] { return node::stop_run(a.common, a.text); });
    stop->add_option("RUN", a.text, "As hivemetal ps lists it")->required();
    auto* top = verb(&app_, "top", "Nodes, load, workers, samples/s, loss and accuracy, live; q ends",
                     "hivemetal top fashion-7k3q", [&a] { return node::show_top(a.common, a.text, a.flag); });
    top->add_option("RUN", a.text, "Only this run");
    top->add_flag("--once", a.flag, "Print one look and end");
    auto* explain = verb(&app_, "explain", "What happened to a run, and why, on one page",
                         "hivemetal explain fashion-7k3q", [&a] { return node::explain(a.common, a.text); });
    explain->add_option("RUN", a.text, "As hivemetal ps lists it")->required();
  }

  void add_other_verbs() {
    auto& a = arguments_;
    verb(&app_, "doctor", "What is missing on this machine, with a remedy each", "hivemetal doctor",
         [&a] { return node::doctor(a.common); });
    verb(&app_, "version", "The version of this program", "hivemetal version --json",
         [&a] { return node::version(a.common); });
  }

  Arguments arguments_;
  CLI::App app_;
  CLI::Option* worker_ = nullptr;
  std::function<int()> action_;
};

}  // namespace

int main(int argc, char** argv) { return CommandLine().run(argc, argv); }
