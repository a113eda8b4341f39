#include "identity/keys.h"

#include <fmt/format.h>
#include <openssl/sha.h>
#include <openssl/x509.h>
#include <utility>

#include "base/check.h"
#include "base/random.h"
#include "identity/base58.h"
#include "identity/crypto.pb.h"
#include "identity/key_file.h"
#include "identity/openssl.h"

namespace hivemetal::identity {

namespace {

constexpr std::size_t kEd25519Bytes = 32;          // of a seed, and of a public key
constexpr std::size_t kKeyMessageBytesMax = 4096;  // an RSA public key of 8192 bits takes 1067
constexpr std::size_t kIdentityHashBytesMax = 42;
constexpr std::string_view kDidKeyPrefix = "did:key:z";  // z: multibase base58
constexpr std::string_view kMulticodecEd25519 = "\xed\x01";

PKeyPointer ed25519_private(std::string_view seed) {
  PKeyPointer key(EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, nullptr, unsigned_data(seed), seed.size()));
  HIVEMETAL_CHECK(key != nullptr);
  return key;
}

Bytes ed25519_public_bytes(std::string_view seed) {
  const PKeyPointer key = ed25519_private(seed);
  Bytes bytes(kEd25519Bytes, '\0');
  std::size_t size = bytes.size();
  HIVEMETAL_CHECK(
      EVP_PKEY_get_raw_public_key(key.get(), reinterpret_cast<unsigned char*>(bytes.data()), &size) == 1);
  return bytes;
}

// The key of a SubjectPublicKeyInfo, or null. Trailing bytes are no part of a key.
PKeyPointer rsa_public(std::string_view der) {
  const unsigned char* at = unsigned_data(der);
  PKeyPointer key(d2i_PUBKEY(nullptr, &at, static_cast<long>(der.size())));
  if (key == nullptr || at != unsigned_data(der) + der.size()) return nullptr;
  return EVP_PKEY_get_base_id(key.get()) == EVP_PKEY_RSA ? std::move(key) : nullptr;
}

Bytes rsa_public_der(EVP_PKEY* key) {
  unsigned char* der = nullptr;
  const int size = i2d_PUBKEY(key, &der);
  HIVEMETAL_CHECK(size > 0);
  Bytes bytes(reinterpret_cast<char*>(der), static_cast<std::size_t>(size));
  OPENSSL_free(der);
  return bytes;
}

Bytes public_key_message(KeyType type, const Bytes& key) {
  proto::PublicKey message;
  message.set_type(static_cast<proto::KeyType>(type));
  message.set_data(key);
  return message.SerializeAsString();
}

// Parses a whole message. Unlike ParseFromArray() it does not write a line to stderr for each one that is
// broken.
template <class Message>
bool parse_key_message(std::string_view bytes, Message& message) {
  return bytes.size() <= kKeyMessageBytesMax &&
         message.ParsePartialFromArray(bytes.data(), static_cast<int>(bytes.size())) &&
         message.IsInitialized();
}

}  // namespace

Result<PublicKey> PublicKey::from_ed25519(std::string_view key) {
  if (key.size() != kEd25519Bytes) {
    return Error{ErrorCode::Invalid,
                 fmt::format("an Ed25519 key has {} bytes, this one {}", kEd25519Bytes, key.size())};
  }
  PublicKey result;
  result.type_ = KeyType::Ed25519;
  result.key_ = Bytes(key);
  result.protobuf_ = public_key_message(result.type_, result.key_);
  return result;
}

Result<PublicKey> PublicKey::from_protobuf(std::string_view bytes) {
  proto::PublicKey message;
  if (!parse_key_message(bytes, message)) {
    return Error{ErrorCode::Invalid, fmt::format("{} bytes that are no libp2p public key", bytes.size())};
  }
  if (message.type() == proto::ED25519) return from_ed25519(message.data());
  if (message.type() != proto::RSA) {
    return Error{ErrorCode::Invalid, fmt::format("a {} key; only Ed25519 and RSA keys are known here",
                                                 proto::KeyType_Name(message.type()))};
  }
  const PKeyPointer key = rsa_public(message.data());
  if (key == nullptr) return Error{ErrorCode::Invalid, "an RSA key that is no SubjectPublicKeyInfo"};
  const int bits = EVP_PKEY_get_bits(key.get());
  if (bits < 2048 || bits > 8192) {
    return Error{ErrorCode::Invalid, fmt::format("an RSA key of {} bits; 2048 to 8192 are accepted", bits)};
  }
  PublicKey result;
  result.type_ = KeyType::Rsa;
  result.key_ = rsa_public_der(key.get());
  result.protobuf_ = public_key_message(result.type_, result.key_);
  return result;
}

Result<PublicKey> PublicKey::from_peer_id(const PeerId& peer) {
  if (peer.empty() || peer.bytes()[0] != 0) {
    return Error{ErrorCode::Invalid,
                 fmt::format("peer id '{}' is a hash of its key, the key is not in it", peer.base58())};
  }
  return from_protobuf(std::string_view(peer.bytes()).substr(2));
}

Result<PublicKey> PublicKey::from_did_key(std::string_view did) {
  const Error wrong{ErrorCode::Invalid, "no did:key of an Ed25519 key; one looks like did:key:z6Mk…"};
  if (!did.starts_with(kDidKeyPrefix) || did.size() > 128) return wrong;
  const auto bytes = base58_decode(did.substr(kDidKeyPrefix.size()));
  if (!bytes || !bytes->starts_with(kMulticodecEd25519)) return wrong;
  return from_ed25519(std::string_view(*bytes).substr(kMulticodecEd25519.size()));
}

PeerId PublicKey::peer_id() const {
  Bytes hash;
  if (protobuf_.size() <= kIdentityHashBytesMax) {
    hash = {'\0', static_cast<char>(protobuf_.size())};
    hash += protobuf_;
  } else {
    hash.resize(SHA256_DIGEST_LENGTH);
    SHA256(unsigned_data(protobuf_), protobuf_.size(), reinterpret_cast<unsigned char*>(hash.data()));
    hash.insert(0, "\x12\x20");
  }
  auto peer = PeerId::from_bytes(hash);
  HIVEMETAL_CHECK(peer.has_value());
  return *std::move(peer);
}

std::string PublicKey::did_key() const {
  HIVEMETAL_CHECK(type_ == KeyType::Ed25519);
  return std::string(kDidKeyPrefix) + base58_encode(Bytes(kMulticodecEd25519) + key_);
}

bool PublicKey::verify(std::string_view message, std::string_view signature) const {
  PKeyPointer key;
  if (type_ == KeyType::Ed25519) {
    key.reset(EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, nullptr, unsigned_data(key_), key_.size()));
  } else {
    key = rsa_public(key_);
  }
  if (key == nullptr) return false;
  const DigestContextPointer context(EVP_MD_CTX_new());
  HIVEMETAL_CHECK(context != nullptr);
  const EVP_MD* digest = type_ == KeyType::Rsa ? EVP_sha256() : nullptr;  // Ed25519 hashes by itself
  return EVP_DigestVerifyInit(context.get(), nullptr, digest, nullptr, key.get()) == 1 &&
         EVP_DigestVerify(context.get(), unsigned_data(signature), signature.size(), unsigned_data(message),
                          message.size()) == 1;
}

PrivateKey PrivateKey::generate() {
  auto key = from_seed(secure_random_bytes(kEd25519Bytes));
  HIVEMETAL_CHECK(key.has_value());
  return *std::move(key);
}

Result<PrivateKey> PrivateKey::from_seed(std::string_view seed) {
  if (seed.size() != kEd25519Bytes) {
    return Error{ErrorCode::Invalid,
                 fmt::format("an Ed25519 seed has {} bytes, this one {}", kEd25519Bytes, seed.size())};
  }
  PrivateKey key;
  key.seed_ = Bytes(seed);
  auto public_key = PublicKey::from_ed25519(ed25519_public_bytes(seed));
  HIVEMETAL_CHECK(public_key.has_value());
  key.public_key_ = *std::move(public_key);
  return key;
}

Result<PrivateKey> PrivateKey::from_protobuf(std::string_view bytes) {
  proto::PrivateKey message;
  if (!parse_key_message(bytes, message)) {
    return Error{ErrorCode::Invalid, "no libp2p private key"};
  }
  if (message.type() != proto::ED25519) {
    return Error{ErrorCode::Invalid, fmt::format("a private key of type {}; a node's key is Ed25519",
                                                 proto::KeyType_Name(message.type()))};
  }
  const std::string_view data = message.data();
  if (data.size() != 2 * kEd25519Bytes) {
    return Error{ErrorCode::Invalid, fmt::format("an Ed25519 private key of {} bytes instead of {}",
                                                 data.size(), 2 * kEd25519Bytes)};
  }
  auto key = from_seed(data.substr(0, kEd25519Bytes));
  if (key && key->public_key_.key_ != data.substr(kEd25519Bytes)) {
    return Error{ErrorCode::Invalid, "an Ed25519 private key whose two halves do not belong together"};
  }
  return key;
}

Bytes PrivateKey::protobuf() const {
  proto::PrivateKey message;
  message.set_type(proto::ED25519);
  message.set_data(seed_ + public_key_.key_);
  return message.SerializeAsString();
}

Result<PrivateKey> PrivateKey::load(const std::filesystem::path& file) {
  const auto bytes = read_key_file(file, kKeyMessageBytesMax);
  if (!bytes) return bytes.error();
  auto key = from_protobuf(*bytes);
  if (!key) return key.error().within(file.string());
  return key;
}

Result<void> PrivateKey::save(const std::filesystem::path& file) const {
  return write_key_file(file, protobuf());
}

Bytes PrivateKey::sign(std::string_view message) const {
  const PKeyPointer key = ed25519_private(seed_);
  const DigestContextPointer context(EVP_MD_CTX_new());
  HIVEMETAL_CHECK(context != nullptr);
  Bytes signature(64, '\0');
  std::size_t size = signature.size();
  HIVEMETAL_CHECK(EVP_DigestSignInit(context.get(), nullptr, nullptr, nullptr, key.get()) == 1);
  HIVEMETAL_CHECK(EVP_DigestSign(context.get(), reinterpret_cast<unsigned char*>(signature.data()), &size,
                                 unsigned_data(message), message.size()) == 1);
  return signature;
}

}  // namespace hivemetal::identity
