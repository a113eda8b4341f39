// Memberships and invites of strangers: what is read is written back the same, and no input makes anybody a
// member.
#include <openssl/sha.h>

#include "base/check.h"
#include "identity/base58.h"
#include "identity/invite.h"

namespace identity = hivemetal::identity;

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
  static const auto swarm = identity::PrivateKey::from_seed(hivemetal::Bytes(32, 1)).value();
  static const auto node = identity::PrivateKey::from_seed(hivemetal::Bytes(32, 2)).value();
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  if (const auto membership = identity::Membership::from_bytes(input)) {
    HIVEMETAL_CHECK(identity::Membership::from_bytes(membership->bytes()).value() == *membership);
    HIVEMETAL_CHECK(!membership->verify(swarm.peer_id(), membership->subject(), 0));
    static_cast<void>(membership->verify(membership->swarm(), membership->subject(), 0));
  }
  // As text, and as the payload of a text whose checksum is right.
  hivemetal::Bytes hash(SHA256_DIGEST_LENGTH, '\0');
  const auto hashed = hivemetal::Bytes(identity::kInvitePrefix) + hivemetal::Bytes(input);
  SHA256(reinterpret_cast<const unsigned char*>(hashed.data()), hashed.size(),
         reinterpret_cast<unsigned char*>(hash.data()));
  const auto text = hivemetal::Bytes(identity::kInvitePrefix) +
                    identity::base58_encode(hivemetal::Bytes(input) + hash.substr(0, 4));
  for (const auto& invite : {identity::Invite::parse(input), identity::Invite::parse(text)}) {
    if (!invite) continue;
    HIVEMETAL_CHECK(!invite->addresses().empty());
    HIVEMETAL_CHECK(!invite->join(node, 0, swarm.peer_id()));
  }
  return 0;
}
