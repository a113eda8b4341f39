// What is missing on this machine for a node to do its work: one sentence and one remedy each.
//
// Every question is answered by trying. What only a running node knows (its clock against the swarm's,
// whether the swarm can be reached) comes from its control API.
#pragma once

#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "node/config.h"

namespace hivemetal::node {

struct Finding {
  std::string check;    // short and stable: "p2pd", "clock", "disk", …
  bool blocks = false;  // a node cannot do its work like this; else it works, only less well
  std::string finding;
  std::string remedy;
};

nlohmann::json to_json(const Finding& finding);

// Asks everything about the machine and, if a node runs in `directory`, the node. Takes some seconds, most of
// them to import hivemind. `checked` gets the names of all checks made.
std::vector<Finding> examine(const std::filesystem::path& directory, const Config& config, double now_unix,
                             std::vector<std::string>* checked);

// For people; "all is well" if nothing was found.
std::string doctor_text(const std::vector<Finding>& findings, const std::vector<std::string>& checked);

}  // namespace hivemetal::node
