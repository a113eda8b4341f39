#include "dht/lookup.h"

#include <algorithm>
#include <functional>
#include <string_view>
#include <utility>

namespace hivemetal::dht {

bool merge_into(std::optional<Item>& best, Item found) {
  if (!best) {
    best = std::move(found);
    return true;
  }
  const bool later = found.expiration > best->expiration;
  auto* into = std::get_if<Dictionary>(&best->value);
  if (into != nullptr && found.dictionary() != nullptr) {
    into->merge(*found.dictionary());
    best->expiration = std::max(best->expiration, found.expiration);
  } else if (later) {
    *best = std::move(found);
  }
  return later;
}

Lookup::Lookup(asio::any_io_executor executor, Clock& clock, Calls& calls, BeamSearch search,
               std::size_t asked_at_once, Goal goal, Clock::TimePoint deadline)
    : clock_(clock),
      calls_(calls),
      search_(std::move(search)),
      asked_at_once_(asked_at_once),
      goal_(goal),
      deadline_(deadline),
      in_quorum_(goal.quorum > 0),
      done_(std::move(executor)) {}

void Lookup::add_own(const Item& item) {
  merge_into(best_, item);
  own_copy_ = copy_of(item);
}

Lookup::Copy Lookup::copy_of(const std::optional<Item>& item) {
  if (!item) return {0, 0};
  Copy copy{item->expiration, 0};
  if (const Dictionary* dictionary = item->dictionary()) {
    const std::hash<std::string_view> hash_text;
    const std::hash<double> hash_number;
    for (const auto& [subkey, entry] : dictionary->entries) {
      copy.digest += hash_text(subkey) * 31 + hash_number(entry.expiration) * 17;
    }
  }
  return copy;
}

void Lookup::advance(const std::shared_ptr<Lookup>& lookup) {
  Lookup& self = *lookup;
  if (self.finished_) return;
  if (self.satisfied() || self.calls_.closed() || self.clock_.now() >= self.deadline_) return self.finish();
  if (self.in_quorum_ && self.search_.settled(self.nearest_others())) {
    if (self.quorum_agrees()) return self.finish();
    self.in_quorum_ = false;
  }
  while (self.search_.asking() < self.asked_at_once_) {
    const auto node = self.in_quorum_ ? self.search_.next(self.nearest_others()) : self.search_.next();
    if (!node) break;
    if (self.calls_.blacklisted(node->peer)) {
      self.search_.failed(node->id);
      continue;
    }
    self.calls_.find(node->peer, self.search_.target(), [lookup, node = *node](Result<FindAnswer> answer) {
      lookup->take(node, std::move(answer));
      advance(lookup);
    });
  }
  if (self.search_.exhausted()) self.finish();
}

void Lookup::take(const Node& node, Result<FindAnswer> answer) {
  if (!answer) {
    cancelled_ |= answer.error().code == ErrorCode::Cancelled;
    return search_.failed(node.id);
  }
  // A node that calls itself something else is not where we were told; what it says still counts.
  if (answer->sender == node.id) {
    search_.answered(node.id, answer->neighbours);
  } else {
    search_.failed(node.id);
    search_.add(answer->neighbours);
  }
  if (!goal_.values) return;
  copies_[node.peer] = copy_of(answer->item);
  if (answer->item) merge_into(best_, std::move(*answer->item));
}

bool Lookup::satisfied() const { return best_ && goal_.sufficient && best_->expiration >= *goal_.sufficient; }

// How many of the quorum's nodes are others.
std::size_t Lookup::nearest_others() const {
  const bool with_us = goal_.self && search_.nearer_than(*goal_.self) < goal_.replicas;
  return goal_.quorum - with_us;
}

bool Lookup::quorum_agrees() const {
  if (!best_) return false;
  const Copy best = copy_of(best_);
  const std::size_t others = nearest_others();
  if (others < goal_.quorum && own_copy_ != best) return false;
  const auto nodes = search_.nearest(others);
  return nodes.size() == others && std::ranges::all_of(nodes, [&](const Node& node) {
           const auto copy = copies_.find(node.peer);
           return copy != copies_.end() && copy->second == best;
         });
}

void Lookup::finish() {
  finished_ = true;
  done_.notify_all();
}

asio::awaitable<void> Lookup::wait(std::shared_ptr<Lookup> lookup) {
  while (!lookup->finished_) co_await lookup->done_.wait();
}

std::optional<Node> Lookup::nearest_without_best() const {
  if (!best_) return std::nullopt;
  for (const Node& node : search_.nearest(search_.asked())) {
    const auto copy = copies_.find(node.peer);
    if (copy == copies_.end()) continue;
    const bool same = copy->second == copy_of(best_);
    return same ? std::nullopt : std::optional(node);
  }
  return std::nullopt;
}

bool Lookup::saw_everybody() const { return search_.exhausted() && search_.all_answered(); }

}  // namespace hivemetal::dht
