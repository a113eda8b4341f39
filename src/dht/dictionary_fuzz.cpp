// Dictionary values and sub-keys: what is read must be written as something that reads the same.
#include <cstddef>
#include <cstdint>

#include "base/check.h"
#include "dht/messages.h"

using namespace hivemetal;
using namespace hivemetal::dht;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  if (const auto subkey = canonical_subkey(bytes)) HIVEMETAL_CHECK(canonical_subkey(*subkey) == *subkey);
  const auto dictionary = decode_dictionary(bytes);
  if (!dictionary) return 0;
  const auto again = decode_dictionary(encode_dictionary(dictionary->entries, dictionary->latest));
  HIVEMETAL_CHECK(again.has_value());
  HIVEMETAL_CHECK(again->entries == dictionary->entries);
  return 0;
}
