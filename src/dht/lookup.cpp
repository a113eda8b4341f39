#include "dht/lookup.h"

#include <utility>

#include "base/deadline.h"

namespace hivemetal::dht {

namespace {

std::size_t entries_of(const Item& item) {
  const Dictionary* dictionary = item.dictionary();
  return dictionary == nullptr ? 1 : dictionary->entries.size();
}

asio::awaitable<Result<void>> wait_until_finished(std::shared_ptr<Lookup> lookup, Notification& done) {
  while (!lookup->finished()) co_await done.wait();
  co_return Result<void>();
}

}  // namespace

bool merge_into(std::optional<Item>& best, const Item& found) {
  if (!best) {
    best = found;
    return true;
  }
  const bool later = found.expiration > best->expiration;
  auto* into = std::get_if<Dictionary>(&best->value);
  if (into != nullptr && found.dictionary() != nullptr) {
    into->merge(*found.dictionary());
    best->expiration = std::max(best->expiration, found.expiration);
  } else if (later) {
    *best = found;
  }
  return later;
}

Lookup::Lookup(asio::any_io_executor executor, Clock& clock, Calls& calls, BeamSearch search,
               std::size_t asked_at_once, Goal goal)
    : clock_(clock),
      calls_(calls),
      search_(std::move(search)),
      asked_at_once_(asked_at_once),
      goal_(goal),
      done_(std::move(executor)) {}

void Lookup::add_own(const Item& item) { merge_into(best_, item); }

void Lookup::advance(const std::shared_ptr<Lookup>& lookup) {
  Lookup& self = *lookup;
  if (self.finished_) return;
  if (self.satisfied() || self.calls_.closed()) return self.finish();
  while (self.search_.asking() < self.asked_at_once_) {
    const auto node = self.search_.next();
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
  copies_[node.peer] = answer->item ? Copy{answer->item->expiration, entries_of(*answer->item)} : Copy{0, 0};
  if (answer->item) merge_into(best_, *answer->item);
}

bool Lookup::satisfied() const { return best_ && goal_.sufficient && best_->expiration >= *goal_.sufficient; }

void Lookup::finish() {
  finished_ = true;
  done_.notify_all();
}

asio::awaitable<void> Lookup::wait(std::shared_ptr<Lookup> lookup, Clock::TimePoint deadline) {
  if (lookup->finished_) co_return;
  const auto in_time =
      co_await with_deadline(lookup->clock_, deadline, wait_until_finished(lookup, lookup->done_));
  if (!in_time) lookup->finish();
}

std::optional<Node> Lookup::nearest_without_best() const {
  if (!best_) return std::nullopt;
  for (const Node& node : search_.nearest(search_.asked())) {
    const auto copy = copies_.find(node.peer);
    if (copy == copies_.end()) continue;
    const bool same =
        copy->second.expiration >= best_->expiration && copy->second.entries >= entries_of(*best_);
    return same ? std::nullopt : std::optional(node);
  }
  return std::nullopt;
}

bool Lookup::saw_everybody() const { return search_.exhausted() && search_.all_answered(); }

}  // namespace hivemetal::dht
