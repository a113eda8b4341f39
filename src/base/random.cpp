#include "base/random.h"

#include <openssl/rand.h>

#include "base/check.h"

namespace hivemetal {

Bytes secure_random_bytes(std::size_t size) {
  Bytes bytes(size, '\0');
  HIVEMETAL_CHECK(RAND_bytes(reinterpret_cast<unsigned char*>(bytes.data()), static_cast<int>(size)) == 1);
  return bytes;
}

Bytes random_bytes(Random& random, std::size_t size) {
  Bytes bytes(size, '\0');
  for (char& byte : bytes) byte = static_cast<char>(random() & 0xff);
  return bytes;
}

Random seeded_by_system() {
  std::random_device device;
  std::seed_seq seed{device(), device(), device(), device()};
  return Random(seed);
}

}  // namespace hivemetal
