// `hivemetal explain RUN`: the flight recorder on one page.
//
//   a headline        what became of the run, in how long, with how many recoveries
//   the timeline      submission, offers with their scores, placements with their reasons, starts, losses,
//                     replacements; averaging rounds condensed to one line each, and many alike to one line
//   one round         worker by worker: matchmaking, all-reduce, peers
//   recoveries        step by step, with the seconds between
#pragma once

#include <string>
#include <vector>

#include <nlohmann/json.hpp>

namespace hivemetal::node::show {

// `run` is GET /v1/runs/{id}, `events` the list of its events.
std::string explain_text(const nlohmann::json& run, const std::vector<nlohmann::json>& events);

// One event as one line, for `run --follow`.
std::string event_text(const nlohmann::json& event, double start_unix);

}  // namespace hivemetal::node::show
