#include "dht/routing_table.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace hivemetal::dht {

namespace {

// Removes the node with `id`; false if there is none.
bool erase_id(std::vector<Node>& nodes, const DhtId& id) {
  return std::erase_if(nodes, [&id](const Node& node) { return node.id == id; }) > 0;
}

}  // namespace

RoutingTable::RoutingTable(DhtId self, std::size_t bucket_size, unsigned depth_modulo)
    : self_(self), bucket_size_(bucket_size), depth_modulo_(depth_modulo) {
  HIVEMETAL_CHECK(bucket_size_ > 0 && depth_modulo_ > 0);
  buckets_.push_back({DhtId(), 0, {}, {}, {}});
}

std::size_t RoutingTable::bucket_of(const DhtId& id) const {
  const auto after = std::ranges::upper_bound(buckets_, id, {}, &Bucket::prefix);
  return static_cast<std::size_t>(after - buckets_.begin()) - 1;
}

bool RoutingTable::may_split(const Bucket& bucket) const {
  if (bucket.depth + 1 >= DhtId::kBits) return false;
  return self_.prefix(bucket.depth) == bucket.prefix || bucket.depth % depth_modulo_ != 0;
}

std::optional<Node> RoutingTable::add_or_update(const Node& node) {
  if (node.id == self_) return std::nullopt;
  if (const auto known = id_of(node.peer); known && *known != node.id) remove(*known);

  for (;;) {
    const std::size_t index = bucket_of(node.id);
    Bucket& bucket = buckets_[index];
    std::erase(bucket.pinged, node.id);
    const auto same = std::ranges::find(bucket.nodes, node.id, &Node::id);
    if (same != bucket.nodes.end()) {
      if (same->peer != node.peer) id_of_.erase(same->peer);
      bucket.nodes.erase(same);
    } else if (bucket.nodes.size() < bucket_size_) {
      ++size_;
    } else if (may_split(bucket)) {
      split(index);
      continue;
    } else {
      if (const auto old = std::ranges::find(bucket.replacements, node.id, &Node::id);
          old != bucket.replacements.end()) {
        id_of_.erase(old->peer);
        bucket.replacements.erase(old);
      }
      if (bucket.replacements.size() == bucket_size_) {
        id_of_.erase(bucket.replacements.front().peer);
        bucket.replacements.erase(bucket.replacements.begin());
      }
      bucket.replacements.push_back(node);
      id_of_[node.peer] = node.id;
      for (const Node& oldest : bucket.nodes) {
        if (std::ranges::find(bucket.pinged, oldest.id) != bucket.pinged.end()) continue;
        bucket.pinged.push_back(oldest.id);
        return oldest;
      }
      return std::nullopt;
    }
    erase_id(bucket.replacements, node.id);
    bucket.nodes.push_back(node);
    id_of_[node.peer] = node.id;
    return std::nullopt;
  }
}

void RoutingTable::split(std::size_t index) {
  Bucket whole = std::move(buckets_[index]);
  Bucket halves[2] = {{whole.prefix, whole.depth + 1, {}, {}, {}},
                      {whole.prefix.with_bit(whole.depth), whole.depth + 1, {}, {}, {}}};
  for (Node& node : whole.nodes) halves[node.id.bit(whole.depth)].nodes.push_back(std::move(node));
  for (const DhtId& id : whole.pinged) halves[id.bit(whole.depth)].pinged.push_back(id);
  for (Node& node : whole.replacements) {
    Bucket& half = halves[node.id.bit(whole.depth)];
    const bool room = half.nodes.size() < bucket_size_;
    size_ += room;
    (room ? half.nodes : half.replacements).push_back(std::move(node));
  }
  buckets_[index] = std::move(halves[0]);
  buckets_.insert(buckets_.begin() + static_cast<std::ptrdiff_t>(index) + 1, std::move(halves[1]));
}

void RoutingTable::remove(const DhtId& id) {
  Bucket& bucket = buckets_[bucket_of(id)];
  std::erase(bucket.pinged, id);
  const auto forget = [this, &id](std::vector<Node>& nodes) {
    const auto found = std::ranges::find(nodes, id, &Node::id);
    if (found == nodes.end()) return false;
    id_of_.erase(found->peer);
    nodes.erase(found);
    return true;
  };
  forget(bucket.replacements);
  if (!forget(bucket.nodes)) return;
  --size_;
  if (bucket.replacements.empty()) return;
  bucket.nodes.push_back(std::move(bucket.replacements.back()));
  bucket.replacements.pop_back();
  ++size_;
}

void RoutingTable::remove(const PeerId& peer) {
  if (const auto id = id_of(peer)) remove(*id);
}

std::optional<DhtId> RoutingTable::id_of(const PeerId& peer) const {
  const auto found = id_of_.find(peer);
  return found == id_of_.end() ? std::nullopt : std::optional(found->second);
}

std::vector<Node> RoutingTable::nearest(const DhtId& target, std::size_t count,
                                        const std::optional<DhtId>& exclude) const {
  // Buckets partition the id space by prefix, so every node of a nearer bucket is nearer than any of a
  // farther one.
  std::vector<std::pair<DhtId, const Bucket*>> order;
  order.reserve(buckets_.size());
  for (const Bucket& bucket : buckets_) {
    order.emplace_back(bucket.prefix.distance_to(target.prefix(bucket.depth)), &bucket);
  }
  std::ranges::sort(order, {}, &std::pair<DhtId, const Bucket*>::first);

  std::vector<std::pair<DhtId, const Node*>> found;
  for (const auto& [distance, bucket] : order) {
    if (found.size() >= count) break;
    for (const Node& node : bucket->nodes) {
      if (exclude != node.id) found.emplace_back(node.id.distance_to(target), &node);
    }
  }
  const auto end = found.begin() + static_cast<std::ptrdiff_t>(std::min(count, found.size()));
  std::ranges::partial_sort(found, end, {}, &std::pair<DhtId, const Node*>::first);

  std::vector<Node> nodes;
  for (auto it = found.begin(); it != end; ++it) nodes.push_back(*it->second);
  return nodes;
}

}  // namespace hivemetal::dht
