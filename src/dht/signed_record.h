// Records that only their owner can change: Hivemind's RSASignatureValidator.
//
// A record is protected if its key or sub-key contains `[owner:ssh-rsa AAAA…]`. Its value then ends in
// `[signature:BASE64]`: RSA-PSS with SHA-256 over the MessagePack tuple (key, sub-key, value, expiration).
// Since the expiration is signed, nobody else can keep a record alive. docs/formats/dht-records.md has the
// bytes.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "dht/record_validator.h"
#include "identity/rsa_key.h"

namespace hivemetal::dht {

class RsaSignatureValidator final : public RecordValidator {
 public:
  // `key` signs our records. Hivemind makes one per process and forgets it at the end.
  explicit RsaSignatureValidator(identity::RsaKey key);

  // The sub-key that makes a record ours: `[owner:ssh-rsa AAAA…]`.
  const Bytes& owner_marker() const { return marker_; }

  bool validate(const Record& record) const override;
  Bytes sign(const Record& record) const override;
  Bytes strip(const Record& record) const override;
  int priority() const override { return 10; }

 private:
  identity::RsaKey key_;
  Bytes marker_;
};

// The bytes under a record's signature.
Bytes signed_bytes(const Record& record);

// What `[PREFIX…]` holds wherever it occurs in `text`: matches of the regular expression `\[PREFIX(.+?)\]`,
// in which the dot matches no line end. The views point into `text`.
std::vector<std::string_view> marks_in(std::string_view text, std::string_view prefix);

}  // namespace hivemetal::dht
