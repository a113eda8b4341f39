// What `node list`, `ps` and `top` show, made of the control API's replies.
#pragma once

#include <cstddef>
#include <string>

#include <nlohmann/json.hpp>

namespace hivemetal::node::show {

// GET /v1/nodes
std::string nodes_text(const nlohmann::json& nodes);

// GET /v1/runs; `now_unix` tells how long runs have taken so far.
std::string runs_text(const nlohmann::json& runs, double now_unix);

// One snapshot of GET /v1/top on a screen of `columns`: nodes with their load, then each run that is not over
// (or the one asked for) with its workers. At most `rows` lines, 0 for no limit.
std::string top_text(const nlohmann::json& snapshot, std::size_t columns, std::size_t rows);

}  // namespace hivemetal::node::show
