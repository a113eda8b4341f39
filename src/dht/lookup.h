// One walk towards a key: asks the nodes that BeamSearch picks, several at once, and merges what they hold.
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
bool merge_into(std::optional<Item>& best, const Item& found);

class Lookup {
 public:
  struct Goal {
    bool values = true;                // false: only the nodes matter
    std::optional<double> sufficient;  // stop at an item that expires then or later
  };

  Lookup(asio::any_io_executor executor, Clock& clock, Calls& calls, BeamSearch search,
         std::size_t asked_at_once, Goal goal);

  // What we hold ourselves.
  void add_own(const Item& item);

  // Begins to ask, on behalf of `lookup`; it lives on while requests are on their way.
  static void start(const std::shared_ptr<Lookup>& lookup) { advance(lookup); }

  // Returns when the walk is over, or at `deadline` with what has been found until then.
  static asio::awaitable<void> wait(std::shared_ptr<Lookup> lookup, Clock::TimePoint deadline);

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
  // How complete a node's own copy is.
  struct Copy {
    double expiration;
    std::size_t entries;
  };

  static void advance(const std::shared_ptr<Lookup>& lookup);
  void take(const Node& node, Result<FindAnswer> answer);
  bool satisfied() const;
  void finish();

  Clock& clock_;
  Calls& calls_;
  BeamSearch search_;
  std::size_t asked_at_once_;
  Goal goal_;
  std::optional<Item> best_;
  std::unordered_map<PeerId, Copy> copies_;  // of nodes that answered; 0 entries: it holds nothing
  bool finished_ = false;
  bool cancelled_ = false;
  Notification done_;
};

}  // namespace hivemetal::dht
