// The walk towards the nodes nearest to a key: best first, along a beam.
//
// Start with the nearest nodes we know, ask the nearest one not asked yet for those *it* knows, and so on
// until the `width` nearest nodes that have not failed were all asked. Whoever calls does the asking, several
// at a time if they like. A node that fails leaves the beam and the next nearest takes its place. Peers may
// lie about whom they know, so the number of nodes asked is bounded, and one peer stands in the beam under
// one id only.
#pragma once

#include <cstddef>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <vector>

#include "dht/dht_id.h"

namespace hivemetal::dht {

class BeamSearch {
 public:
  // `self` is never asked.
  BeamSearch(DhtId target, DhtId self, PeerId self_peer, std::size_t width);

  // Nodes somebody told us about.
  void add(std::span<const Node> nodes);

  // The nearest node that was not asked, of the first `width` of the beam; it counts as being asked from now
  // on.
  std::optional<Node> next() { return next(width_); }
  std::optional<Node> next(std::size_t width);

  // Ends the asking of a node that next() returned.
  void answered(const DhtId& id, std::span<const Node> neighbours);
  void failed(const DhtId& id);

  // Nobody in the beam is left to ask, and nobody is being asked.
  bool exhausted() const;

  // The first `width` nodes of the beam, or all if there are fewer, have answered.
  bool settled(std::size_t width) const;

  // How many nodes that have not failed are nearer than `id`.
  std::size_t nearer_than(const DhtId& id) const;

  // The nearest nodes that have not failed, nearest first, asked or not.
  std::vector<Node> nearest(std::size_t count) const;

  const DhtId& target() const { return target_; }
  std::size_t asked() const { return asked_; }
  std::size_t asking() const { return asking_; }

  // True if everybody anybody told us about was asked and answered.
  bool all_answered() const;

 private:
  static constexpr std::size_t kAskedMax = 500;

  enum class State { Known, Asking, Answered, Failed };
  struct Candidate {
    Node node;
    State state;
  };

  Candidate* candidate(const DhtId& id);
  const Candidate* first_unasked(std::size_t width) const;

  DhtId target_;
  DhtId self_;
  PeerId self_peer_;
  std::size_t width_;
  std::map<DhtId, Candidate> candidates_;  // by distance to the target
  std::set<PeerId> peers_;                 // of the candidates
  std::size_t asked_ = 0;
  std::size_t asking_ = 0;
};

}  // namespace hivemetal::dht
