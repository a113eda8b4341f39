// Identifiers of Hivemind's DHT: 160-bit numbers for nodes and for keys. The distance of two is their XOR.
//
// A key's id is the SHA-1 of the raw bytes if the key is a byte string, and of its MessagePack otherwise. A
// node's id is random, chosen anew at every start, and has nothing to do with its libp2p peer id.
#pragma once

#include <array>
#include <compare>
#include <cstddef>
#include <string>
#include <string_view>

#include "base/bytes.h"
#include "base/random.h"
#include "base/result.h"
#include "identity/peer_id.h"
#include "wire/msgpack.h"

namespace hivemetal::dht {

using identity::PeerId;

class DhtId {
 public:
  static constexpr std::size_t kBytes = 20;
  static constexpr unsigned kBits = 160;

  // The number 0, which is also how an absent node id reads.
  DhtId() = default;

  static DhtId sha1_of(std::string_view bytes);
  static DhtId of_key(const wire::Value& key);
  static DhtId random(Random& random);

  // A big-endian number. Fewer than 20 bytes mean leading zeros, as Python reads them. Fails with Invalid for
  // 2^160 and more.
  static Result<DhtId> from_bytes(std::string_view bytes);

  Bytes bytes() const { return {reinterpret_cast<const char*>(bytes_.data()), kBytes}; }
  std::string hex() const { return to_hex(bytes()); }

  DhtId distance_to(const DhtId& other) const;

  // The bit at `index`, counted from the most significant one.
  bool bit(unsigned index) const { return (bytes_[index / 8] >> (7 - index % 8)) & 1; }

  // The same number with the bit at `index` set, and with all bits from `index` on cleared.
  DhtId with_bit(unsigned index) const;
  DhtId prefix(unsigned bits) const;

  friend auto operator<=>(const DhtId&, const DhtId&) = default;

 private:
  std::array<unsigned char, kBytes> bytes_{};
};

// A participant of the DHT: where it stands in the id space, and how to call it.
struct Node {
  DhtId id;
  PeerId peer;

  friend bool operator==(const Node&, const Node&) = default;
};

}  // namespace hivemetal::dht
