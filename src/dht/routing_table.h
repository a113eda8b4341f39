// Whom a node knows: Kademlia's buckets, as Hivemind fills them.
//
// The id space is cut into buckets of at most `bucket_size` nodes. A full bucket splits at its midpoint if
// our own id lies in it, or if its depth is not a multiple of `depth_modulo`; so we know our neighbourhood
// well and the rest a little. In a full bucket that must not split, old nodes stay (who has been there long
// tends to stay longer): a newcomer waits as a replacement while the node not heard of for longest is pinged.
//
//      depth 0   [------------------------ full: split -------------------------)
//      depth 1   [------ far away ------)[------- our id: split again ----------)
//
// No I/O here: the caller pings and reports. One peer has one id; a peer that comes back under another one,
// after a restart, takes the place of its former self, so nobody fills our table alone.
#pragma once

#include <cstddef>
#include <optional>
#include <unordered_map>
#include <vector>

#include "dht/dht_id.h"

namespace hivemetal::dht {

class RoutingTable {
 public:
  RoutingTable(DhtId self, std::size_t bucket_size, unsigned depth_modulo);

  // Notes that `node` was heard of just now. Returns a node to ping if `node` found its bucket full; whoever
  // pings it reports with add_or_update() or remove().
  std::optional<Node> add_or_update(const Node& node);

  // Forgets a node that did not answer; the newest replacement moves up.
  void remove(const DhtId& id);
  void remove(const PeerId& peer);

  // The id under which we know `peer`; replacements count.
  std::optional<DhtId> id_of(const PeerId& peer) const;

  // The `count` nodes nearest to `target`, nearest first, without `exclude`. Replacements do not count.
  std::vector<Node> nearest(const DhtId& target, std::size_t count,
                            const std::optional<DhtId>& exclude = {}) const;

  // Nodes in buckets, without replacements.
  std::size_t size() const { return size_; }
  std::size_t bucket_count() const { return buckets_.size(); }

 private:
  struct Bucket {
    DhtId prefix;  // all ids in it begin with the first `depth` bits of this one; the rest is 0
    unsigned depth;
    std::vector<Node> nodes;         // longest silent first
    std::vector<Node> replacements;  // newest last, at most bucket_size
    std::vector<DhtId> pinged;       // nodes somebody is pinging on our behalf
  };

  std::size_t bucket_of(const DhtId& id) const;
  bool may_split(const Bucket& bucket) const;
  void split(std::size_t index);

  DhtId self_;
  std::size_t bucket_size_;
  unsigned depth_modulo_;
  std::vector<Bucket> buckets_;              // by prefix
  std::unordered_map<PeerId, DhtId> id_of_;  // of nodes and replacements
  std::size_t size_ = 0;
};

}  // namespace hivemetal::dht
