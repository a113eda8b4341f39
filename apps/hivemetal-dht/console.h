// The commands of hivemetal-dht: one JSON object per line in, one per line out, in the order in which they
// finish.
//
//   {"id": 1, "do": "store", "key": "k", "value": 1, "ttl": 60}                     {"id": 1, "stored": true}
//   {"id": 2, "do": "store", "key": "k", "subkey": "s", "value": 1, "ttl": 60}
//   {"id": 3, "do": "store_many", "records": [{"key": …, "value": …, "ttl": …}, …]}  {"id": 3, "stored":
//   [true, …]}
//   {"id": 4, "do": "get", "key": "k", "latest": true}                              {"id": 4, "found": …}
//   {"id": 5, "do": "get_many", "keys": ["a", "b"], "latest": false}                {"id": 5, "found": […,
//   …]}
//   {"id": 6, "do": "stats"}                                                        {"id": 6, "node_id": …,
//   …}
//
// `found` is null, {"value": …, "expiration": …} or {"entries": [{"subkey": …, "value": …, "expiration": …},
// …]}. `ttl` is in seconds; `expiration`, Unix time, may stand in its place. A sub-key {"$owner": true} is
// our own owner marker. Whatever fails is answered with {"id": …, "error": "…"}.
#pragma once

#include <string>

#include <nlohmann/json.hpp>

#include "base/asio.h"
#include "base/clock.h"
#include "dht/dht.h"

namespace hivemetal::console {

class Console {
 public:
  // `owner_marker` is empty if the node signs nothing.
  Console(dht::Dht& dht, Clock& clock, Bytes owner_marker)
      : dht_(dht), clock_(clock), owner_marker_(std::move(owner_marker)) {}

  // Runs one command and returns its answer.
  asio::awaitable<nlohmann::json> run(std::string line);

 private:
  asio::awaitable<Result<nlohmann::json>> run(nlohmann::json command);
  Result<dht::Put> put_of(const nlohmann::json& record) const;

  dht::Dht& dht_;
  Clock& clock_;
  Bytes owner_marker_;
};

}  // namespace hivemetal::console
