// What a DHT node is made of, without any I/O: shared by the answering and the asking side.
#pragma once

#include <cstdint>
#include <optional>
#include <utility>

#include "dht/dht_id.h"
#include "dht/options.h"
#include "dht/record_validator.h"
#include "dht/routing_table.h"
#include "dht/storage.h"

namespace hivemetal::dht {

struct NodeState {
  NodeState(DhtId id, PeerId self, const DhtOptions& options)
      : id(id),
        peer(std::move(self)),
        client_mode(options.client_mode),
        bucket_size(options.bucket_size),
        table(id, options.bucket_size, options.depth_modulo),
        storage(options.storage),
        cache(options.cache) {}

  DhtId id;
  PeerId peer;
  bool client_mode;
  std::size_t bucket_size;
  RoutingTable table;
  LocalStorage storage;  // what we are responsible for
  LocalStorage cache;    // what we or others found useful to keep
  ValidatorChain validators;

  // The id to tell others: none in client mode, so that nobody adds us to a routing table.
  std::optional<DhtId> announced_id() const { return client_mode ? std::nullopt : std::optional(id); }
};

}  // namespace hivemetal::dht
