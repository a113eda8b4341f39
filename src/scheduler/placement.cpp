#include "scheduler/placement.h"

#include <algorithm>
#include <cmath>
#include <fmt/format.h>
#include <tuple>

namespace hivemetal::scheduler {

namespace {

constexpr double kGiB = 1024.0 * 1024.0 * 1024.0;

// FNV-1a: the same number on every machine.
std::uint64_t hash_of(const std::string& run, const PeerId& node) {
  std::uint64_t hash = 14695981039346656037ULL;
  const auto add = [&hash](std::string_view text) {
    for (const unsigned char c : text) hash = (hash ^ c) * 1099511628211ULL;
  };
  add(run);
  add(node.bytes());
  return hash;
}

double share(double have, double want) { return std::clamp(want > 0 ? have / want : 1.0, 0.0, 1.0); }

}  // namespace

Score score_of(const Candidate& candidate, const WorkerToPlace& worker, Grant grant) {
  const double cpus = static_cast<double>(grant.milli_cpus) / 1000;
  // Load that is not ours may sit on cores which no lease accounts for.
  const double idle = std::min(candidate.cpus_free, std::max(0.0, candidate.cpus_total - candidate.load));
  Score score;
  score.value += 40 * share(idle, 2 * cpus);
  score.value +=
      20 * share(static_cast<double>(candidate.memory_free), 2 * static_cast<double>(grant.memory));
  score.value += 30 / (1 + std::max(0.0, candidate.rtt_ms) / 50);
  score.why = fmt::format("{:.1f} of {:.1f} cores free, load {:.1f}, {:.1f} GiB free, rtt {:.1f} ms",
                          candidate.cpus_free, candidate.cpus_total, candidate.load,
                          static_cast<double>(candidate.memory_free) / kGiB, candidate.rtt_ms);
  if (!worker.home.empty() && worker.home == candidate.node) {
    score.value += 10;
    score.why += ", ran here before";
  }
  if (candidate.failures > 0) {
    score.value -= 15.0 * std::min<std::uint32_t>(candidate.failures, 3);
    score.why += fmt::format(", failed here {}×", candidate.failures);
  }
  if (candidate.workers > 0) score.why += fmt::format(", has {} of this run", candidate.workers);
  return score;
}

std::vector<Placement> place(const std::string& run, Grant grant, const std::vector<Candidate>& candidates,
                             const std::vector<WorkerToPlace>& workers) {
  std::vector<std::uint32_t> placed(candidates.size(), 0);  // by this call
  std::vector<Placement> placements;
  for (const WorkerToPlace& worker : workers) {
    // Fewest of this run first, then the best score; rounded, so that noise in a round trip decides nothing.
    using Rank = std::tuple<bool, std::uint32_t, long, std::uint64_t>;
    std::optional<std::pair<Rank, std::size_t>> best;
    for (std::size_t i = 0; i < candidates.size(); ++i) {
      const Candidate& candidate = candidates[i];
      if (placed[i] >= candidate.slots) continue;
      const bool avoided = !worker.avoid.empty() && worker.avoid == candidate.node;
      const long score = std::lround(score_of(candidate, worker, grant).value * 2);
      const Rank rank{avoided, candidate.workers + placed[i], -score, hash_of(run, candidate.node)};
      if (!best || rank < best->first) best = {rank, i};
    }
    if (!best) continue;
    const std::size_t index = best->second;
    const Candidate& candidate = candidates[index];
    const Score score = score_of(candidate, worker, grant);
    const double cpus = static_cast<double>(grant.milli_cpus) / 1000;
    const double leased = std::max(0.0, candidate.cpus_total - candidate.cpus_free);
    const double busy = std::max(leased, candidate.load) + cpus * (placed[index] + 1);
    ++placed[index];
    placements.push_back({.worker = worker.worker,
                          .candidate = index,
                          .score = score.value,
                          .predicted_load = candidate.cpus_total > 0 ? busy / candidate.cpus_total : 0,
                          .why = score.why});
  }
  return placements;
}

}  // namespace hivemetal::scheduler
