// The verbs of the command line. Each prints its answer (one JSON value with `json`) and returns the exit
// code: 0 done, 1 it failed, 2 what was given is wrong.
//
// `swarm create`, `join` and `invite` work on the directory itself, so they need no daemon; the others ask
// the node that runs in it.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace hivemetal::node {

struct Common {
  std::filesystem::path directory;
  bool json = false;
  double clock_offset_s = 0;  // for tests: as if the system clock were off
};

struct NodeRunOptions {
  std::string settings;  // YAML in the form of config.yaml, from the command line: wins over the file
};

int swarm_create(const Common& common, const std::string& name);
int invite(const Common& common, double hours);
int join(const Common& common, const std::string& invite);
int node_run(const Common& common, const NodeRunOptions& options);
int node_list(const Common& common);
int run_job(const Common& common, const std::filesystem::path& file, bool follow);
int list_runs(const Common& common);
int show_logs(const Common& common, const std::string& run, std::optional<unsigned> worker, bool follow);
int stop_run(const Common& common, const std::string& run);
int show_top(const Common& common, const std::string& run, bool once);
int explain(const Common& common, const std::string& run);
int doctor(const Common& common);
int version(const Common& common);

}  // namespace hivemetal::node
