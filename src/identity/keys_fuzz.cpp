// Key messages, did:key and OpenSSH text from strangers.
#include "base/check.h"
#include "identity/keys.h"
#include "identity/rsa_key.h"

namespace identity = hivemetal::identity;

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  if (const auto key = identity::PublicKey::from_protobuf(input)) {
    const auto again = identity::PublicKey::from_protobuf(key->protobuf());
    HIVEMETAL_CHECK(again && again->protobuf() == key->protobuf() && again->peer_id() == key->peer_id());
    HIVEMETAL_CHECK(!key->verify(input, input));
  }
  if (const auto key = identity::PrivateKey::from_protobuf(input)) {
    HIVEMETAL_CHECK(identity::PrivateKey::from_protobuf(key->protobuf())->peer_id() == key->peer_id());
  }
  if (const auto key = identity::PublicKey::from_did_key(input)) HIVEMETAL_CHECK(key->did_key() == input);
  HIVEMETAL_CHECK(!identity::verify_pss(input, "message", input));
  return 0;
}
