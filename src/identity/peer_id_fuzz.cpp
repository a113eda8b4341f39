// Peer ids, base58 and base64: what is read is written back the same.
#include "base/check.h"
#include "identity/base58.h"
#include "identity/base64.h"
#include "identity/keys.h"

namespace identity = hivemetal::identity;

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  if (size <= 512) HIVEMETAL_CHECK(identity::base58_decode(identity::base58_encode(input)).value() == input);
  if (const auto bytes = identity::base58_decode(input))
    HIVEMETAL_CHECK(identity::base58_encode(*bytes) == input);
  if (const auto bytes = identity::base64_decode(input))
    HIVEMETAL_CHECK(identity::base64_encode(*bytes) == input);
  for (const auto& peer : {identity::PeerId::from_bytes(input), identity::PeerId::from_base58(input)}) {
    if (!peer) continue;
    HIVEMETAL_CHECK(identity::PeerId::from_base58(peer->base58()).value() == *peer);
    if (const auto key = identity::PublicKey::from_peer_id(*peer)) {
      HIVEMETAL_CHECK(key->peer_id() == *peer);
    }
  }
  return 0;
}
