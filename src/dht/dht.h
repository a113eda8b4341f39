// Hivemind's distributed hash table: (key → value, expiration) spread over the peers of a swarm.
//
// A node keeps what lies near its own id, answers for it, and finds everything else in a few hops. There are
// regular values and dictionaries, whose sub-keys different peers write. Nothing lasts: each record has an
// expiration, the later one wins, and whoever wants to be found writes again in time. Speaks
// `DHTProtocol.rpc_*` with stock Hivemind 1.1.12 nodes; the record formats are in
// docs/formats/dht-records.md.
//
//      Dht ── what callers see: store, get, caching
//       ├─ Lookup ── one walk towards a key (beam_search.h decides, calls.h asks)
//       ├─ Calls ── outgoing requests, several keys in one; to our own kind over Lines
//       ├─ Responder ── answers to other nodes
//       └─ NodeState ── routing table, storage, cache, validators
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <boost/asio/any_io_executor.hpp>

#include "base/asio.h"
#include "base/clock.h"
#include "base/random.h"
#include "base/task_group.h"
#include "dht/calls.h"
#include "dht/lookup.h"
#include "dht/node_state.h"
#include "dht/options.h"
#include "dht/record_validator.h"
#include "dht/responder.h"
#include "p2p/network.h"
#include "wire/msgpack.h"

namespace hivemetal::dht {

struct Stored {
  wire::Value value;
  double expiration;  // Unix time
};

// One sub-key of a dictionary.
struct Entry {
  wire::Value subkey;
  wire::Value value;
  double expiration;
};

// What a key holds: either `regular`, or the entries of a dictionary.
struct Found {
  std::optional<Stored> regular;
  std::vector<Entry> entries;
};

struct Put {
  wire::Value key;
  std::optional<wire::Value> subkey;
  wire::Value value;
  double expiration;  // Unix time
};

struct DhtStats {
  DhtId node_id;
  std::size_t known_nodes = 0;
  std::size_t stored_entries = 0;
  std::size_t stored_bytes = 0;
  std::size_t cached_entries = 0;
  std::uint64_t requests_sent = 0;
  std::uint64_t requests_failed = 0;
  std::uint64_t requests_served = 0;
  std::size_t lines = 0;                 // streams to our own kind, see lines.h
  std::optional<double> clock_offset_s;  // our clock less that of the peers we joined through
};

struct Welcome;

class Dht {
 public:
  // `network` and `clock` outlive the Dht. Everything runs on `executor`.
  Dht(asio::any_io_executor executor, Clock& clock, p2p::Network& network, DhtOptions options, Random random);
  ~Dht();

  // Registers the handlers (not in client mode) and joins through `initial_peers`, multiaddresses with their
  // /p2p part; none means that we are the first node.
  //   Unavailable  none of the initial peers answered, or none of them can reach us
  //   Refused      our clock differs from theirs by more than 3 s; the message says by how much
  asio::awaitable<Result<void>> start(std::vector<p2p::Multiaddr> initial_peers);

  // Joins through other peers, or again after a start() that found none; fails as start() does.
  asio::awaitable<Result<void>> join(std::vector<p2p::Multiaddr> initial_peers);

  // Ends all background work; calls in progress return Cancelled.
  asio::awaitable<void> stop();

  // Stores at the `replicas` nearest nodes. True if most of those that answered took the record; they refuse
  // one that expires no later than what they hold.
  //   Invalid      the key is nil, the sub-key a list or map, or the record does not fit into a message
  //   Refused      one of our own validators rejects the record
  //   Unavailable  no node could be reached
  asio::awaitable<Result<bool>> store(wire::Value key, std::optional<wire::Value> subkey, wire::Value value,
                                      double expiration);

  // What the key holds, or nothing. With `latest` all nodes near the key are asked and the latest record
  // wins; without it the first that has not expired is good enough, our own cache first. Dictionaries of
  // several nodes are merged, the latest entry per sub-key.
  asio::awaitable<Result<std::optional<Found>>> get(wire::Value key, bool latest);

  // The same for many keys at once; requests to one node travel together. Results are in the order of the
  // input.
  asio::awaitable<std::vector<Result<bool>>> store_many(std::vector<Put> puts);
  asio::awaitable<std::vector<Result<std::optional<Found>>>> get_many(std::vector<wire::Value> keys,
                                                                      bool latest);

  // Before start(), and one of each kind: a record signed twice is refused. A node with validators drops what
  // they reject, from whomever it comes.
  void add_validator(std::unique_ptr<RecordValidator> validator);

  DhtStats stats() const;

 private:
  // One record on its way to its replicas.
  struct Placement;

  asio::awaitable<Result<void>> serve();
  asio::awaitable<void> greet(p2p::Multiaddr address, std::shared_ptr<Welcome> welcome);
  Result<void> judge(const Welcome& welcome);

  asio::awaitable<Result<Bytes>> on_ping(PeerId peer, Bytes request);
  asio::awaitable<Result<Bytes>> on_store(PeerId peer, Bytes request);
  asio::awaitable<Result<Bytes>> on_find(PeerId peer, Bytes request);
  asio::awaitable<void> on_line(std::unique_ptr<p2p::Stream> stream);

  // Keeps the routing table: `peer` was heard of, or did not answer.
  void heard_of(const PeerId& peer, std::optional<DhtId> id, bool answered);
  asio::awaitable<void> check_alive(Node node);
  asio::awaitable<void> hand_over(Node node);

  Result<StoreItem> prepare(const Put& put) const;
  bool later_is_known(const StoreItem& item);
  bool store_here(const StoreItem& item);
  static void advance(const std::shared_ptr<Placement>& placement);
  static asio::awaitable<Result<bool>> wait(std::shared_ptr<Placement> placement);
  void cache_stored(const StoreItem& item, bool accepted);

  std::optional<Item> own_item(const DhtId& key, bool with_cache);
  std::shared_ptr<Lookup> start_lookup(const DhtId& key, Lookup::Goal goal);
  asio::awaitable<void> finish_lookup(std::shared_ptr<Lookup> lookup);
  bool swarm_is_known() const;
  void cache_found(const DhtId& key, const Lookup& lookup);
  void refresh_before_expiry(const DhtId& key, double expiration);
  void refresh_at(const DhtId& key, double time);
  asio::awaitable<void> refresh(DhtId key, Clock::TimePoint time);

  Result<std::optional<Found>> read(const DhtId& key, std::optional<Item> item) const;

  asio::any_io_executor executor_;
  Clock& clock_;
  p2p::Network& network_;
  const DhtOptions options_;
  NodeState state_;
  Responder responder_;
  Calls calls_;
  bool serving_ = false;
  std::uint64_t served_ = 0;
  std::map<PeerId, std::size_t> lines_served_;
  std::optional<double> clock_offset_s_;
  std::optional<Clock::TimePoint> swarm_seen_;  // when a search last met everybody
  std::set<DhtId> refreshing_;                  // keys in the cache that will be searched again
  TaskGroup tasks_;
};

// By how many seconds our clock is ahead of `peer`'s (an address with its /p2p part), to within the time a
// message takes. Joins nothing: for `doctor`.
asio::awaitable<Result<double>> clock_offset_to(p2p::Network& network, Clock& clock, p2p::Multiaddr peer,
                                                Clock::TimePoint deadline);

}  // namespace hivemetal::dht
