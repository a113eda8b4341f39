#include "dht/beam_search.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace hivemetal::dht {

BeamSearch::BeamSearch(DhtId target, DhtId self, PeerId self_peer, std::size_t width)
    : target_(target), self_(self), self_peer_(std::move(self_peer)), width_(width) {}

void BeamSearch::add(std::span<const Node> nodes) {
  for (const Node& node : nodes) {
    if (node.id == self_ || node.peer == self_peer_) continue;
    const DhtId distance = node.id.distance_to(target_);
    if (candidates_.contains(distance) || !peers_.insert(node.peer).second) continue;
    candidates_.emplace(distance, Candidate{node, State::Known});
  }
}

const BeamSearch::Candidate* BeamSearch::first_unasked(std::size_t width) const {
  if (asked_ >= kAskedMax) return nullptr;
  std::size_t in_beam = 0;
  for (const auto& [distance, candidate] : candidates_) {
    if (in_beam == width) return nullptr;
    if (candidate.state == State::Known) return &candidate;
    in_beam += candidate.state != State::Failed;
  }
  return nullptr;
}

std::optional<Node> BeamSearch::next(std::size_t width) {
  const Candidate* found = first_unasked(width);
  if (found == nullptr) return std::nullopt;
  candidate(found->node.id)->state = State::Asking;
  ++asked_;
  ++asking_;
  return found->node;
}

BeamSearch::Candidate* BeamSearch::candidate(const DhtId& id) {
  const auto found = candidates_.find(id.distance_to(target_));
  HIVEMETAL_CHECK(found != candidates_.end());
  return &found->second;
}

void BeamSearch::answered(const DhtId& id, std::span<const Node> neighbours) {
  candidate(id)->state = State::Answered;
  --asking_;
  add(neighbours);
}

void BeamSearch::failed(const DhtId& id) {
  candidate(id)->state = State::Failed;
  --asking_;
}

bool BeamSearch::exhausted() const { return asking_ == 0 && first_unasked(width_) == nullptr; }

bool BeamSearch::settled(std::size_t width) const {
  std::size_t in_beam = 0;
  for (const auto& [distance, candidate] : candidates_) {
    if (in_beam == width) break;
    if (candidate.state == State::Known || candidate.state == State::Asking) return false;
    in_beam += candidate.state == State::Answered;
  }
  return true;
}

std::size_t BeamSearch::nearer_than(const DhtId& id) const {
  const auto end = candidates_.lower_bound(id.distance_to(target_));
  return static_cast<std::size_t>(std::count_if(
      candidates_.begin(), end, [](const auto& entry) { return entry.second.state != State::Failed; }));
}

bool BeamSearch::all_answered() const {
  return std::ranges::all_of(candidates_,
                             [](const auto& entry) { return entry.second.state == State::Answered; });
}

std::vector<Node> BeamSearch::nearest(std::size_t count) const {
  std::vector<Node> nodes;
  for (const auto& [distance, candidate] : candidates_) {
    if (nodes.size() == count) break;
    if (candidate.state != State::Failed) nodes.push_back(candidate.node);
  }
  return nodes;
}

}  // namespace hivemetal::dht
