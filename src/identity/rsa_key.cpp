#include "identity/rsa_key.h"

#include <openssl/core_names.h>
#include <openssl/rsa.h>
#include <optional>
#include <utility>

#include "base/check.h"
#include "identity/base64.h"
#include "identity/openssl.h"

namespace hivemetal::identity {

namespace {

constexpr std::string_view kTextPrefix = "ssh-rsa ";
constexpr std::string_view kBlobName = "ssh-rsa";
constexpr std::size_t kTextMax = 4096;  // a key of 8192 bits takes 1.4 thousand characters
constexpr int kExponentBitsMax = 64;    // larger ones only make verifying slow
constexpr int kSha256Bytes = 32;

void append_be32_prefixed(Bytes& out, std::string_view bytes) {
  const auto size = static_cast<std::uint32_t>(bytes.size());
  for (const int shift : {24, 16, 8, 0}) out += static_cast<char>(size >> shift & 0xff);
  out += bytes;
}

// The next be32-prefixed string of an OpenSSH blob, cut from its front.
std::optional<std::string_view> take_string(std::string_view& blob) {
  if (blob.size() < 4) return std::nullopt;
  std::uint32_t size = 0;
  for (int i = 0; i < 4; ++i) size = size << 8 | static_cast<unsigned char>(blob[i]);
  blob.remove_prefix(4);
  if (size > blob.size()) return std::nullopt;
  const auto string = blob.substr(0, size);
  blob.remove_prefix(size);
  return string;
}

// OpenSSH's mpint: big-endian, with a zero in front where the first bit is set.
Bytes mpint(const BIGNUM* number) {
  Bytes bytes(static_cast<std::size_t>(BN_num_bytes(number)), '\0');
  BN_bn2bin(number, reinterpret_cast<unsigned char*>(bytes.data()));
  if (!bytes.empty() && (bytes[0] & 0x80) != 0) bytes.insert(bytes.begin(), '\0');
  return bytes;
}

NumberPointer number_of(std::string_view bytes) {
  return NumberPointer(BN_bin2bn(unsigned_data(bytes), static_cast<int>(bytes.size()), nullptr));
}

NumberPointer number_parameter(const EVP_PKEY* key, const char* name) {
  BIGNUM* number = nullptr;
  HIVEMETAL_CHECK(EVP_PKEY_get_bn_param(key, name, &number) == 1);
  return NumberPointer(number);
}

PKeyPointer public_key(const BIGNUM* modulus, const BIGNUM* exponent) {
  const ParamBuilderPointer builder(OSSL_PARAM_BLD_new());
  HIVEMETAL_CHECK(builder != nullptr);
  HIVEMETAL_CHECK(OSSL_PARAM_BLD_push_BN(builder.get(), OSSL_PKEY_PARAM_RSA_N, modulus) == 1);
  HIVEMETAL_CHECK(OSSL_PARAM_BLD_push_BN(builder.get(), OSSL_PKEY_PARAM_RSA_E, exponent) == 1);
  const ParamsPointer params(OSSL_PARAM_BLD_to_param(builder.get()));
  const PKeyContextPointer context(EVP_PKEY_CTX_new_from_name(nullptr, "RSA", nullptr));
  HIVEMETAL_CHECK(params != nullptr && context != nullptr);
  EVP_PKEY* key = nullptr;
  if (EVP_PKEY_fromdata_init(context.get()) != 1 ||
      EVP_PKEY_fromdata(context.get(), &key, EVP_PKEY_PUBLIC_KEY, params.get()) != 1) {
    return nullptr;
  }
  return PKeyPointer(key);
}

// The key of `ssh-rsa AAAA… comment`, or null.
PKeyPointer parse_openssh(std::string_view text) {
  if (!text.starts_with(kTextPrefix) || text.size() > kTextMax) return nullptr;
  text.remove_prefix(kTextPrefix.size());
  const auto bytes = base64_decode(text.substr(0, text.find(' ')));
  if (!bytes) return nullptr;
  std::string_view blob = *bytes;
  const auto name = take_string(blob);
  const auto exponent_bytes = take_string(blob);
  const auto modulus_bytes = take_string(blob);
  if (name != kBlobName || !exponent_bytes || !modulus_bytes || !blob.empty()) return nullptr;

  const NumberPointer exponent = number_of(*exponent_bytes);
  const NumberPointer modulus = number_of(*modulus_bytes);
  HIVEMETAL_CHECK(exponent != nullptr && modulus != nullptr);
  const int bits = BN_num_bits(modulus.get());
  if (bits < 2048 || bits > 8192 || BN_num_bits(exponent.get()) > kExponentBitsMax) return nullptr;
  return public_key(modulus.get(), exponent.get());
}

// Sets padding, hash and the longest salt that fits, which a verifier must expect exactly.
bool set_pss(EVP_PKEY_CTX* context, const EVP_PKEY* key) {
  const int encoded_bytes = (EVP_PKEY_get_bits(key) + 6) / 8;
  const int salt_bytes = encoded_bytes - kSha256Bytes - 2;
  return EVP_PKEY_CTX_set_rsa_padding(context, RSA_PKCS1_PSS_PADDING) == 1 &&
         EVP_PKEY_CTX_set_rsa_mgf1_md(context, EVP_sha256()) == 1 &&
         EVP_PKEY_CTX_set_rsa_pss_saltlen(context, salt_bytes) == 1;
}

}  // namespace

struct RsaKey::Key {
  PKeyPointer pkey;
};

RsaKey::RsaKey(std::unique_ptr<Key> key) : key_(std::move(key)) {
  Bytes blob;
  append_be32_prefixed(blob, kBlobName);
  append_be32_prefixed(blob, mpint(number_parameter(key_->pkey.get(), OSSL_PKEY_PARAM_RSA_E).get()));
  append_be32_prefixed(blob, mpint(number_parameter(key_->pkey.get(), OSSL_PKEY_PARAM_RSA_N).get()));
  openssh_text_ = std::string(kTextPrefix) + base64_encode(blob);
}

RsaKey::RsaKey(RsaKey&&) noexcept = default;
RsaKey& RsaKey::operator=(RsaKey&&) noexcept = default;
RsaKey::~RsaKey() = default;

RsaKey RsaKey::generate() {
  auto key = std::make_unique<Key>(Key{PKeyPointer(EVP_RSA_gen(2048))});  // e = 65537
  HIVEMETAL_CHECK(key->pkey != nullptr);
  return RsaKey(std::move(key));
}

Bytes RsaKey::sign_pss(std::string_view message) const {
  const DigestContextPointer context(EVP_MD_CTX_new());
  HIVEMETAL_CHECK(context != nullptr);
  EVP_PKEY_CTX* parameters = nullptr;
  HIVEMETAL_CHECK(EVP_DigestSignInit(context.get(), &parameters, EVP_sha256(), nullptr, key_->pkey.get()) ==
                  1);
  HIVEMETAL_CHECK(set_pss(parameters, key_->pkey.get()));
  Bytes signature(static_cast<std::size_t>(EVP_PKEY_get_size(key_->pkey.get())), '\0');
  std::size_t size = signature.size();
  HIVEMETAL_CHECK(EVP_DigestSign(context.get(), reinterpret_cast<unsigned char*>(signature.data()), &size,
                                 unsigned_data(message), message.size()) == 1);
  signature.resize(size);
  return signature;
}

bool verify_pss(std::string_view openssh_text, std::string_view message, std::string_view signature) {
  const PKeyPointer key = parse_openssh(openssh_text);
  if (key == nullptr) return false;
  const DigestContextPointer context(EVP_MD_CTX_new());
  HIVEMETAL_CHECK(context != nullptr);
  EVP_PKEY_CTX* parameters = nullptr;
  return EVP_DigestVerifyInit(context.get(), &parameters, EVP_sha256(), nullptr, key.get()) == 1 &&
         set_pss(parameters, key.get()) &&
         EVP_DigestVerify(context.get(), unsigned_data(signature), signature.size(), unsigned_data(message),
                          message.size()) == 1;
}

}  // namespace hivemetal::identity
