// Keys as libp2p knows them: a node's own Ed25519 key, and the public keys, Ed25519 or RSA, of other peers.
// The RSA keys that sign Hivemind's DHT records are in rsa_key.h.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "base/bytes.h"
#include "identity/peer_id.h"

namespace hivemetal::identity {

enum class KeyType { Rsa = 0, Ed25519 = 1 };  // numbers of libp2p's crypto.proto

class PublicKey {
 public:
  // Parses libp2p's PublicKey protobuf. Fails with Invalid; RSA keys must have 2048 to 8192 bits.
  static Result<PublicKey> from_protobuf(std::string_view bytes);

  // From 32 raw bytes. Fails with Invalid on another length.
  static Result<PublicKey> from_ed25519(std::string_view key);

  // The key inside an Ed25519 peer id; fails with Invalid for an id that only hashes its key.
  static Result<PublicKey> from_peer_id(const PeerId& peer);

  // `did:key:z6Mk…` for Ed25519. Source: W3C CCG did:key, multicodec 0xed.
  static Result<PublicKey> from_did_key(std::string_view did);

  KeyType type() const { return type_; }
  const Bytes& protobuf() const { return protobuf_; }  // field 1, then field 2, both present
  PeerId peer_id() const;
  std::string did_key() const;  // only for Ed25519

  // True if `signature` (64 bytes Ed25519; PKCS#1 v1.5 with SHA-256 for RSA) is this key's for `message`.
  bool verify(std::string_view message, std::string_view signature) const;

 private:
  friend class PrivateKey;

  KeyType type_ = KeyType::Ed25519;
  Bytes protobuf_;
  Bytes key_;  // 32 raw bytes, or SubjectPublicKeyInfo DER
};

class PrivateKey {
 public:
  // A new Ed25519 key from the operating system's random numbers.
  static PrivateKey generate();

  // From a 32-byte seed: for tests and vectors. Fails with Invalid on another length.
  static Result<PrivateKey> from_seed(std::string_view seed);

  // The key file of libp2p: a PrivateKey protobuf, Ed25519 (`08 01 12 40 ‖ seed ‖ public key`).
  static Result<PrivateKey> from_protobuf(std::string_view bytes);
  Bytes protobuf() const;

  // Fails with NotFound if there is no file, with Refused if it can be read by anyone but its owner, with
  // Invalid if it is no key.
  static Result<PrivateKey> load(const std::filesystem::path& file);

  // Writes with mode 0600, by a temporary file and rename.
  Result<void> save(const std::filesystem::path& file) const;

  const PublicKey& public_key() const { return public_key_; }
  PeerId peer_id() const { return public_key_.peer_id(); }
  const Bytes& seed() const { return seed_; }  // a secret

  Bytes sign(std::string_view message) const;  // 64 bytes

 private:
  Bytes seed_;  // 32 bytes
  PublicKey public_key_;
};

}  // namespace hivemetal::identity
