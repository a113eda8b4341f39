// libp2p peer ids.
//
// A peer id is a multihash of the peer's public key in its protobuf form. Keys of up to 42 bytes (Ed25519)
// are carried whole (`00 24 08 01 12 20 ‖ key`, base58 `12D3KooW…`), longer ones (RSA) as SHA-256 (`12 20 ‖
// hash`, base58 `Qm…`). Hence the public key of an Ed25519 peer can be read from its id. Source: libp2p
// specs, peer-ids.md.
#pragma once

#include <compare>
#include <functional>
#include <string>
#include <string_view>

#include "base/bytes.h"

namespace hivemetal::identity {

class PeerId {
 public:
  // An id that equals no peer's; only for members that are filled in later.
  PeerId() = default;

  // Fails with Invalid if the bytes are no identity multihash of a key and no SHA-256 multihash.
  static Result<PeerId> from_bytes(std::string_view bytes);

  // Fails with Invalid on a character outside base58 (Bitcoin's alphabet) or on wrong bytes.
  static Result<PeerId> from_base58(std::string_view text);

  const Bytes& bytes() const { return bytes_; }
  std::string base58() const;

  // The last 8 characters of base58(), for logs and tables.
  std::string short_name() const;

  bool empty() const { return bytes_.empty(); }

  friend auto operator<=>(const PeerId&, const PeerId&) = default;

 private:
  explicit PeerId(Bytes bytes) : bytes_(std::move(bytes)) {}

  Bytes bytes_;
};

}  // namespace hivemetal::identity

template <>
struct std::hash<hivemetal::identity::PeerId> {
  std::size_t operator()(const hivemetal::identity::PeerId& id) const {
    return std::hash<std::string>()(id.bytes());
  }
};
