// One walk towards a key: asks the nodes that BeamSearch picks, several at once, and merges what they hold.
//
// Who wants the latest record need not always ask the whole beam. Records are stored at the nearest nodes (5
// by default). If the nearest ones, 3 with ourselves where we are one of the five, hold the very same record,
// that is it. If they differ, or hold nothing, or the beam shifts, the walk goes on to the beam's end.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <unordered_map>
#include <vector>

#include "base/asio.h"
#include "base/clock.h"
#include "base/notification.h"
#include "dht/beam_search.h"
#include "dht/calls.h"
#include "dht/storage.h"

namespace hivemetal::dht {

// Merges `found` into `best`: dictionaries by sub-key, otherwise the later one wins. True if the greatest
// expiration rose.
bool merge_into(std::optional<Item>& best, Item found);

class Lookup {
 public:
  struct Goal {
    bool values = true;                // false: only the nodes matter
    std::optional<double> sufficient;  // stop at an item that expires then or later
    std::size_t quorum = 0;            // stop when so many nearest nodes agree; 0: never
    std::optional<DhtId> self;         // counts towards the quorum, with what add_own() said,
    std::size_t replicas = 0;          // if it is among so many nearest
  };

  static Goal nodes_only() {
    Goal goal;
    goal.values = false;
    return goal;
  }

  Lookup(asio::any_io_executor executor, Clock& clock, Calls& calls, BeamSearch search,
         std::size_t asked_at_once, Goal goal, Clock::TimePoint deadline);

  // What we store of this key; before start().
  void add_own(const Item& item);

  // Begins to ask, on behalf of `lookup`; it lives on while requests are on their way.
  static void start(const std::shared_ptr<Lookup>& lookup) { advance(lookup); }

  // Returns when the walk is over. It ends with what it has found by `deadline`, looked at whenever an answer
  // comes: each request has a deadline of its own, so the walk is at most one of these late.
  static asio::awaitable<void> wait(std::shared_ptr<Lookup> lookup);

  bool finished() const { return finished_; }
  bool cancelled() const { return cancelled_; }
  const BeamSearch& search() const { return search_; }

  // The best item so far, own ones included.
  const std::optional<Item>& best() const { return best_; }

  // The nearest node that answered and does not hold `best()`, if no nearer one holds it.
  std::optional<Node> nearest_without_best() const;

  // True if every node that anybody mentioned was asked and answered.
  bool saw_everybody() const;

 private:
  // A fingerprint of what a node holds: the same for the same record, or dictionary with the same entries.
  struct Copy {
    double expiration;
    std::size_t digest;

    friend bool operator==(const Copy&, const Copy&) = default;
  };
  static Copy copy_of(const std::optional<Item>& item);

  static void advance(const std::shared_ptr<Lookup>& lookup);
  void take(const Node& node, Result<FindAnswer> answer);
  bool satisfied() const;
  std::size_t nearest_others() const;
  bool quorum_agrees() const;
  void finish();

  Clock& clock_;
  Calls& calls_;
  BeamSearch search_;
  std::size_t asked_at_once_;
  Goal goal_;
  Clock::TimePoint deadline_;
  std::optional<Item> best_;
  std::unordered_map<PeerId, Copy> copies_;  // of nodes that answered
  Copy own_copy_{};
  bool in_quorum_ = false;  // asking no more than the quorum so far
  bool finished_ = false;
  bool cancelled_ = false;
  Notification done_;
};

}  // namespace hivemetal::dht
