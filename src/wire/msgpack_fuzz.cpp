// What is read is written and read again the same. Bytes are compared, not values: a NaN equals nothing.
#include "base/check.h"
#include "wire/msgpack.h"

namespace wire = hivemetal::wire;

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
  const auto value = wire::decode(std::string_view(reinterpret_cast<const char*>(data), size));
  if (!value) return 0;
  const auto bytes = wire::encode(*value);
  const auto again = wire::decode(bytes);
  HIVEMETAL_CHECK(again && wire::encode(*again) == bytes);
  static_cast<void>(value->find("a"));
  return 0;
}
