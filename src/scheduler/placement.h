// Which node gets which worker, and why. No I/O, and the same answer for the same question everywhere.
//
// Nodes are ranked by a score out of 100. One worker per node first, in the order of scores; a node gets a
// second worker only when every other node that fits has one: what the swarm shares is bandwidth and memory,
// and a lost machine should cost one worker.
//
//   cpu      40  free cores against what the worker needs (twice as many = full marks), load of others
//   deducted memory   20  free memory against what the worker needs (twice as much = full marks) network  30
//   measured round trip: 30 at 0 ms, 15 at 50 ms, 6 at 200 ms home     10  this worker ran here before: its
//   checkpoints lie here failures −15 each, −45 at most: workers that failed to start or were lost here in
//   this run
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "identity/peer_id.h"
#include "scheduler/lease_table.h"

namespace hivemetal::scheduler {

// A node that made an offer.
struct Candidate {
  PeerId node;
  std::string name;
  std::uint64_t offer = 0;
  std::uint32_t slots = 0;  // workers it would take
  double cpus_total = 0;
  double cpus_free = 0;  // before this offer
  double load = 0;
  std::uint64_t memory_total = 0;
  std::uint64_t memory_free = 0;
  double rtt_ms = 0;
  std::uint32_t failures = 0;  // of this run here
  std::uint32_t workers = 0;   // of this run that live here already
};

struct WorkerToPlace {
  std::uint32_t worker = 0;
  PeerId home;   // where it ran last; empty if it never ran
  PeerId avoid;  // a node it must not go to unless there is no other; empty if none
};

struct Placement {
  std::uint32_t worker = 0;
  std::size_t candidate = 0;  // index into the candidates
  double score = 0;
  double predicted_load = 0;  // busy share of the node's cores once the worker runs there, 0…
  std::string why;            // "free 3.5 of 4 cores, 6.1 GiB; rtt 0.4 ms; ran here before"
};

// What the node would score for this worker, with the reasons as text.
struct Score {
  double value = 0;
  std::string why;
};
Score score_of(const Candidate& candidate, const WorkerToPlace& worker, Grant grant);

// At most one placement per worker and at most `slots` per candidate, in the order of `workers`. Workers that
// find no slot are left out. Ties are broken by a hash of run and node, so that runs do not all crowd onto
// the same node.
std::vector<Placement> place(const std::string& run, Grant grant, const std::vector<Candidate>& candidates,
                             const std::vector<WorkerToPlace>& workers);

}  // namespace hivemetal::scheduler
