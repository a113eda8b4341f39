#include "dht/dht_id.h"

#include <algorithm>
#include <openssl/evp.h>

#include "base/check.h"

namespace hivemetal::dht {

DhtId DhtId::sha1_of(std::string_view bytes) {
  DhtId id;
  unsigned size = kBytes;
  HIVEMETAL_CHECK(EVP_Digest(bytes.data(), bytes.size(), id.bytes_.data(), &size, EVP_sha1(), nullptr) == 1);
  HIVEMETAL_CHECK(size == kBytes);
  return id;
}

DhtId DhtId::of_key(const wire::Value& key) {
  const Bytes* raw = key.as_bin();
  return sha1_of(raw != nullptr ? *raw : wire::encode(key));
}

DhtId DhtId::random(Random& random) {
  DhtId id;
  std::ranges::generate(id.bytes_, [&random] { return static_cast<unsigned char>(random()); });
  return id;
}

Result<DhtId> DhtId::from_bytes(std::string_view bytes) {
  const std::size_t zeros = std::min(bytes.find_first_not_of('\0'), bytes.size());
  const std::string_view digits = bytes.substr(zeros);
  if (digits.size() > kBytes) {
    return Error{ErrorCode::Invalid,
                 "a DHT id must be below 2^160, this one has " + std::to_string(bytes.size()) + " bytes"};
  }
  DhtId id;
  std::ranges::copy(digits, id.bytes_.end() - static_cast<std::ptrdiff_t>(digits.size()));
  return id;
}

DhtId DhtId::distance_to(const DhtId& other) const {
  DhtId distance;
  for (std::size_t i = 0; i < kBytes; ++i) distance.bytes_[i] = bytes_[i] ^ other.bytes_[i];
  return distance;
}

DhtId DhtId::with_bit(unsigned index) const {
  DhtId id = *this;
  id.bytes_[index / 8] |= static_cast<unsigned char>(0x80U >> (index % 8));
  return id;
}

DhtId DhtId::prefix(unsigned bits) const {
  DhtId id;
  const std::size_t whole = bits / 8;
  std::copy_n(bytes_.begin(), whole, id.bytes_.begin());
  if (bits % 8 != 0) id.bytes_[whole] = static_cast<unsigned char>(bytes_[whole] & (0xff00U >> (bits % 8)));
  return id;
}

}  // namespace hivemetal::dht
