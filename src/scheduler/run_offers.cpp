// RunState: offers, placements and leases.
#include <algorithm>
#include <fmt/format.h>
#include <set>

#include "scheduler/run_state.h"

namespace hivemetal::scheduler {

using std::chrono::milliseconds;

std::vector<WorkerToPlace> RunState::due(Clock::TimePoint now) const {
  std::vector<WorkerToPlace> workers;
  for (std::uint32_t worker = 0; worker < slots_.size(); ++worker) {
    const Slot& slot = slots_[worker];
    if (slot.state == SlotState::Waiting && slot.not_before <= now)
      workers.push_back({worker, slot.home, slot.avoid});
  }
  return workers;
}

void RunState::ask_if_due(Clock::TimePoint now) {
  if (asking_ || now < ask_at_ || (phase_ != RunPhase::Waiting && phase_ != RunPhase::Running)) return;
  const auto wanted = due(now);
  if (wanted.empty()) {
    ask_at_ = Clock::TimePoint::max();  // until one waits again
    for (const Slot& slot : slots_) {
      if (slot.state == SlotState::Waiting) ask_at_ = std::min(ask_at_, slot.not_before);
    }
    return;
  }
  asking_ = true;
  actions_.push_back(AskOffers{static_cast<std::uint32_t>(wanted.size())});
}

void RunState::offers(Clock::TimePoint now, const std::vector<Candidate>& offered, std::size_t asked,
                      const std::vector<std::string>& refusals) {
  asking_ = false;
  ask_at_ = now + rules_.ask_again;
  std::vector<Candidate> candidates = offered;
  for (Candidate& candidate : candidates) {
    const auto failed = failures_.find(candidate.node);
    candidate.failures = failed == failures_.end() ? 0 : failed->second;
    candidate.workers =
        static_cast<std::uint32_t>(std::count_if(slots_.begin(), slots_.end(), [&](const Slot& slot) {
          return slot.node == candidate.node && (lives(slot.state) || slot.state == SlotState::Placing);
        }));
  }
  std::vector<WorkerToPlace> wanted;
  if (phase_ == RunPhase::Waiting || phase_ == RunPhase::Running) wanted = due(now);
  auto placements = place(spec_.id, spec_.grant, candidates, wanted);
  const auto have = count({SlotState::Placing, SlotState::Starting, SlotState::Running, SlotState::Finished});
  const bool enough = phase_ == RunPhase::Running || have + placements.size() >= spec_.workers_min;
  const auto found = placements.size();
  if (!enough) placements.clear();

  nlohmann::json list = nlohmann::json::array();
  std::set<std::uint64_t> used;
  for (const Placement& placement : placements) used.insert(placement.candidate);
  for (std::size_t i = 0; i < candidates.size(); ++i) {
    const Candidate& candidate = candidates[i];
    const Score score = score_of(candidate, wanted.empty() ? WorkerToPlace{} : wanted.front(), spec_.grant);
    list.push_back({{"node", candidate.node.base58()},
                    {"name", candidate.name},
                    {"score", score.value},
                    {"rtt_ms", candidate.rtt_ms},
                    {"slots", candidate.slots},
                    {"why", score.why}});
    const DeclineOffer offer{candidate.node, candidate.offer};
    if (used.contains(i)) {
      open_offers_.push_back(offer);
    } else {
      actions_.push_back(offer);
    }
  }
  if (wanted.empty()) return;
  nlohmann::json data{{"asked", asked},
                      {"answered", offered.size()},
                      {"candidates", std::move(list)},
                      {"refusals", refusals}};
  if (placements.empty()) {
    const auto needed = enough ? wanted.size() : spec_.workers_min - have;
    return wait_for_place(now,
                          fmt::format("{} of {} workers can be placed now: {} nodes asked, {} offer; ", found,
                                      needed, asked, offered.size()) +
                              (refusals.empty() ? "nobody refused" : refusals.front()),
                          std::move(data));
  }
  note("offers", {}, -1,
       fmt::format("{} of {} nodes offer a place for {} workers", offered.size(), asked, wanted.size()),
       std::move(data));
  for (const Placement& placement : placements) take(now, candidates[placement.candidate], placement);
}

void RunState::wait_for_place(Clock::TimePoint, std::string why, nlohmann::json data) {
  if (reason_ == why) return;  // said already
  reason_ = why;
  note("waiting", {}, -1, std::move(why), std::move(data));
}

void RunState::take(Clock::TimePoint now, const Candidate& candidate, const Placement& placement) {
  Slot& slot = slots_[placement.worker];
  slot.node = candidate.node;
  slot.node_name = candidate.name;
  slot.epoch = next_epoch();
  slot.events_seen = 0;
  const std::uint32_t attempt = ++slot.tries;
  slot.attempts.push_back(
      {fmt::format("{}.{}.{}", spec_.id, placement.worker, attempt), candidate.node, candidate.name});
  move(now, slot, SlotState::Placing);
  reason_.clear();
  note("placed", candidate.node, static_cast<int>(placement.worker),
       fmt::format("worker {} goes to {}: score {:.0f} ({})", placement.worker, candidate.name,
                   placement.score, placement.why),
       {{"node_name", candidate.name},
        {"epoch", slot.epoch},
        {"attempt", slot.attempts.back().id},
        {"score", placement.score},
        {"why", placement.why},
        {"predicted_load", placement.predicted_load}});
  actions_.push_back(TakeLease{placement.worker, candidate.node, candidate.offer, slot.epoch, attempt});
}

// Gives back what no lease was taken of, once all leases of a round are decided.
void RunState::settle_offers() {
  if (count({SlotState::Placing}) > 0) return;
  for (const DeclineOffer& offer : open_offers_) actions_.push_back(offer);
  open_offers_.clear();
}

void RunState::lease_taken(Clock::TimePoint now, std::uint32_t worker, std::uint64_t epoch,
                           const std::string&) {
  Slot& slot = slots_.at(worker);
  if (slot.state != SlotState::Placing || slot.epoch != epoch) return;
  heard_[slot.node] = now;
  if (phase_ == RunPhase::Stopping) {
    slot.epoch = next_epoch();
    actions_.push_back(StopWorker{slot.node, worker, slot.epoch});
    move(now, slot, SlotState::Stopping);
  } else {
    move(now, slot, SlotState::Starting);
  }
  settle_offers();
}

void RunState::lease_failed(Clock::TimePoint now, std::uint32_t worker, std::uint64_t epoch, bool refused,
                            const std::string& why) {
  Slot& slot = slots_.at(worker);
  if (slot.state != SlotState::Placing || slot.epoch != epoch) return;
  if (!refused) {
    heard_[slot.node] = now;
    lose(now, worker, why, /*ghost=*/true);
  } else {
    note("note", slot.node, static_cast<int>(worker),
         fmt::format("{} took its offer back: {}", slot.node_name, why));
    slot.attempts.pop_back();
    slot.avoid = slot.node;
    const PeerId home = slot.home;
    wait_again(now, slot, std::chrono::duration_cast<milliseconds>(rules_.ask_again) / 4);
    slot.home = home;
  }
  if (phase_ == RunPhase::Stopping) move(now, slot, SlotState::Stopped);
  settle_offers();
}

}  // namespace hivemetal::scheduler
