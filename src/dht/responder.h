// The answers to other nodes' store and find requests. No I/O; what it does is all in NodeState.
#pragma once

#include "base/result.h"
#include "dht/messages.h"
#include "dht/node_state.h"

namespace hivemetal::dht {

class Responder {
 public:
  explicit Responder(NodeState& state) : state_(state) {}

  // True if the item was stored, false if it was refused: invalid by a validator, or no newer than what we
  // hold. An error if the item is broken; Python then fails the whole request, and so does the caller of
  // this.
  Result<bool> store(const StoreItem& item, double now);

  FindReply find(const FindRequest& request, double now);

 private:
  Result<bool> store_dictionary(const StoreItem& item, LocalStorage& storage, double now);

  NodeState& state_;
};

// True if all entries pass; Python drops the whole dictionary for one bad entry, and so do we.
bool all_valid(const ValidatorChain& validators, const DhtId& key, const EntryList& entries);

}  // namespace hivemetal::dht
