// The flight recorder: what happened to a run, in order, and why.
//
// Every decision of the scheduler and every message of a worker becomes one event. `hivemetal explain RUN`,
// `top`, `logs` and the web console read the same list; nothing else tells the story of a run. A decision
// carries its reasons: the scores of all candidates with a `placed`, the silence measured with a `lost`.
//
//   kind        of a decision; data
//   submitted   name, min, max, command
//   offers      asked, answered, candidates: [{node, name, score, rtt_ms, slots, why}]
//   placed      worker went to a node; node_name, epoch, attempt, score, why, predicted_load
//   waiting     a worker cannot be placed now; why
//   started     pid, start_ms
//   lost        a node stopped answering; silent_ms, why
//   ended       a worker's process ended; reason, code, signal, detail, memory_peak, cpu_s
//   replaced    a lost or ended worker runs again; after_ms since it was noticed, from, to
//   fenced      a node came back with a worker that has been replaced; it was told to stop it
//   resumed     the coordinator was restarted, or a silent node answered again before it was replaced
//   finished | failed | stopped   the run is over
//   metrics | round | checkpoint | note | …   what a worker said on HIVEMETAL_SOCKET: its JSON object as data
#pragma once

#include <cstdint>
#include <string>

#include <nlohmann/json.hpp>

#include "base/result.h"

namespace hivemetal::scheduler {

struct Event {
  std::uint64_t sequence = 0;  // 1, 2, 3, … within a run
  double unix_time = 0;        // by the coordinator's clock
  std::string run;
  std::string kind;
  std::string node;  // base58 peer id, empty if none is concerned
  int worker = -1;   // index of the worker, -1 if none is concerned
  std::string text;  // one sentence for a person
  nlohmann::json data = nlohmann::json::object();
};

nlohmann::json to_json(const Event& event);

// Fails with Invalid if a member is missing or has another type.
Result<Event> event_from_json(const nlohmann::json& json);

class EventSink {
 public:
  virtual ~EventSink() = default;

  // Takes an event without sequence number and run; the sink fills them in.
  virtual void record(Event event) = 0;
};

}  // namespace hivemetal::scheduler
