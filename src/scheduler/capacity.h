// What a node has to lend, as it tells the swarm through the DHT.
//
// A record is MessagePack: [payload, signature]. The signature is Ed25519 over
//     "hivemetal-capacity-1" ‖ 0 ‖ swarm ‖ 0 ‖ peer id ‖ payload
// so that a record cannot be moved to another node or swarm, and the payload ends with its expiry, so that an
// old one cannot be shown again. The public key is in the peer id. Grammar and an example:
// docs/formats/node-records.md.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "identity/keys.h"
#include "identity/peer_id.h"

namespace hivemetal::scheduler {

using identity::PeerId;

struct CapacityRecord {
  PeerId node;                     // who signed; not in the payload
  std::string name;                // what the owner calls the machine, up to 64 bytes
  std::string version;             // of the program
  double cpus_total = 0;           // cores that the owner lends
  double cpus_free = 0;            // of them not leased or offered
  double load = 0;                 // processes running or waiting now (1-minute average)
  std::uint64_t memory_total = 0;  // bytes
  std::uint64_t memory_free = 0;
  std::uint32_t workers = 0;              // that run here now
  std::vector<std::string> environments;  // names of `environment: {host: NAME}` that this node has
  std::string confinement;                // "C0"…"C3", the level that workers get
  std::vector<std::string> addresses;     // multiaddresses with /p2p
  double time = 0;                        // unix, when it was measured, by the node's clock
  double expires = 0;                     // unix

  friend bool operator==(const CapacityRecord&, const CapacityRecord&) = default;
};

inline constexpr std::size_t kCapacityRecordBytesMax = 8192;

// The signed value. `key` must be record.node's.
Bytes encode_capacity(const CapacityRecord& record, std::string_view swarm, const identity::PrivateKey& key);

// Fails with Invalid if a field is missing, has a wrong type or is out of bounds, with Refused on a wrong
// signature, and with TimedOut if the record has expired at `now_unix`. What is returned has finite numbers,
// and free ≤ total. Fields that we do not know are ignored: a newer node may say more.
Result<CapacityRecord> decode_capacity(std::string_view bytes, std::string_view swarm, const PeerId& node,
                                       double now_unix);

// `hm:nodes:<swarm>:<shard>`; records are spread over kCapacityShards keys by a hash of the peer id.
inline constexpr unsigned kCapacityShards = 4;
std::string capacity_key(std::string_view swarm, unsigned shard);
unsigned capacity_shard(const PeerId& node);

}  // namespace hivemetal::scheduler
