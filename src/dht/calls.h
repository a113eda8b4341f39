// Requests to other nodes.
//
// A search asks many nodes about one key, and many searches run at once; sent one by one, the requests would
// cost more than anything else a node does. So what is wanted of one peer is gathered: at most
// `requests_per_peer` are on their way, and all that comes up meanwhile goes along with the next one. A lone
// request leaves at once.
//
// Every outcome is reported to `heard`, which keeps the routing table; peers that do not answer a find are
// blacklisted for a while.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/asio.h"
#include "base/clock.h"
#include "base/notification.h"
#include "base/task_group.h"
#include "dht/blacklist.h"
#include "dht/lines.h"
#include "dht/messages.h"
#include "dht/node_state.h"
#include "dht/options.h"
#include "p2p/network.h"

namespace hivemetal::dht {

// What a node answered about one key. `item` has passed the validators and has not expired.
struct FindAnswer {
  std::optional<DhtId> sender;
  std::optional<Item> item;
  std::vector<Node> neighbours;
};

// An answer that somebody waits for. It is called exactly once: with Cancelled if nobody else does.
template <class T>
class Promise {
 public:
  using Function = std::function<void(Result<T>)>;

  explicit Promise(Function function) : function_(std::move(function)) {}
  Promise(Promise&& other) noexcept : function_(std::exchange(other.function_, nullptr)) {}
  Promise& operator=(Promise&& other) noexcept {
    std::swap(function_, other.function_);
    return *this;
  }
  ~Promise() {
    if (function_) function_(Error{ErrorCode::Cancelled, "the DHT node is stopping"});
  }

  void operator()(Result<T> result) {
    if (const auto function = std::exchange(function_, nullptr)) function(std::move(result));
  }

 private:
  Function function_;
};

struct PingOutcome {
  std::optional<DhtId> id;
  bool available = false;  // the peer says that it reached us
  std::optional<double> peer_time;
  double asked = 0;  // our Unix time before and after
  double answered = 0;
};

class Calls {
 public:
  using FindDone = Promise<FindAnswer>;
  using StoreDone = Promise<bool>;

  // Called for every peer that answered, with its node id, or did not.
  using Heard = std::function<void(const PeerId& peer, std::optional<DhtId> id, bool answered)>;

  Calls(asio::any_io_executor executor, Clock& clock, p2p::Network& network, const DhtOptions& options,
        NodeState& state, Heard heard);

  // What `peer` knows about `key`.
  void find(const PeerId& peer, DhtId key, FindDone::Function done);

  // Whether `peer` took the item.
  void store(const PeerId& peer, StoreItem item, StoreDone::Function done);

  // With `validate` the peer pings us back before it answers.
  asio::awaitable<Result<PingOutcome>> ping(PeerId peer, bool validate, Clock::TimePoint deadline);

  // Says that `peer` will be called often.
  void prepare(const PeerId& peer) {
    if (!closed_) lines_.prepare(peer);
  }

  bool blacklisted(const PeerId& peer) const { return blacklist_.contains(peer, clock_.now()); }

  // Everything outstanding ends with Cancelled, and so does everything asked later.
  asio::awaitable<void> close();
  bool closed() const { return closed_; }

  std::size_t lines() const { return lines_.open(); }
  std::uint64_t sent() const { return sent_; }
  std::uint64_t failed() const { return failed_; }

 private:
  struct PendingFind {
    DhtId key;
    FindDone done;
  };
  struct PendingStore {
    StoreItem item;
    StoreDone done;
  };
  struct Outbox {
    std::deque<PendingFind> finds;
    std::deque<PendingStore> stores;
    std::size_t find_senders = 0;
    std::size_t store_senders = 0;
  };

  asio::awaitable<void> send_finds(PeerId peer);
  asio::awaitable<void> send_stores(PeerId peer);
  asio::awaitable<void> store_one_by_one(PeerId peer, std::vector<PendingStore> batch);
  asio::awaitable<Result<Bytes>> call(PeerId peer, std::string_view handle, Bytes request,
                                      Clock::TimePoint deadline);
  asio::awaitable<Result<std::vector<bool>>> call_store(PeerId peer, std::vector<StoreItem> items);

  void deliver(const PeerId& peer, const std::vector<DhtId>& keys, std::vector<PendingFind> batch,
               Result<FindReply> reply);
  FindAnswer answer_of(const DhtId& key, std::optional<DhtId> sender, FindResult result) const;
  void not_answered(const PeerId& peer, const Error& error);
  void forget_if_idle(const PeerId& peer);

  asio::any_io_executor executor_;
  Clock& clock_;
  p2p::Network& network_;
  const DhtOptions& options_;
  NodeState& state_;
  Heard heard_;
  Blacklist blacklist_;
  Lines lines_;
  std::unordered_map<PeerId, Outbox> outboxes_;
  std::size_t in_flight_ = 0;
  Notification landed_;
  bool closed_ = false;
  std::uint64_t sent_ = 0;
  std::uint64_t failed_ = 0;
  TaskGroup tasks_;
};

}  // namespace hivemetal::dht
