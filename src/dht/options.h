// Settings of a DHT node. The defaults are Hivemind's where it has them.
#pragma once

#include <chrono>
#include <cstddef>
#include <optional>

#include "base/clock.h"
#include "dht/dht_id.h"
#include "dht/storage.h"

namespace hivemetal::dht {

struct DhtOptions {
  // Serve nobody and stay out of the others' routing tables: for machines that cannot be reached.
  bool client_mode = false;

  std::size_t bucket_size = 20;  // nodes per bucket, neighbours per answer, width of a search
  std::size_t replicas = 5;      // nodes that store each record
  unsigned depth_modulo = 5;     // see routing_table.h

  Clock::Duration rpc_timeout = std::chrono::seconds(3);
  Clock::Duration search_timeout = std::chrono::seconds(15);
  Clock::Duration join_timeout = std::chrono::seconds(10);  // to reach one of the initial peers
  double clock_offset_s_max = 3;                            // more than this and we refuse to join

  std::size_t requests_max = 64;          // outgoing at any time
  std::size_t requests_per_peer = 1;      // of one kind; what comes on top shares a request
  std::size_t keys_per_request = 16;      // in one rpc_find
  std::size_t store_bytes_max = 1 << 20;  // in one rpc_store of several records
  std::size_t read_quorum = 3;    // nearest nodes that must agree on the latest record; 0: ask them all
  std::size_t asked_at_once = 8;  // nodes, per search

  Clock::Duration blacklist_time = std::chrono::seconds(5);  // after a first failure; 0 switches it off
  double blacklist_backoff = 2;

  bool cache_locally = true;      // what we found
  bool cache_on_store = true;     // what we stored
  std::size_t cache_nearest = 1;  // nodes nearest to a found key that shall cache it too
  Clock::Duration cache_refresh_before_expiry =
      std::chrono::seconds(5);  // of cached records in use; 0 = never

  // In a swarm that fits into one bucket a finished search has seen every node. For this long, stores then go
  // straight to the nearest ones.
  Clock::Duration swarm_known_for = std::chrono::seconds(10);

  StorageLimits storage;
  StorageLimits cache = {.entries_max = 50'000, .bytes_max = 64U * 1024 * 1024};

  std::optional<DhtId> node_id;  // random if not set
};

}  // namespace hivemetal::dht
