// Records that claim an owner, and progress records, as a stranger writes them.
#include <cstddef>
#include <cstdint>

#include "base/check.h"
#include "dht/progress_schema.h"
#include "dht/signed_record.h"

using namespace hivemetal;
using namespace hivemetal::dht;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  const std::size_t cut = size == 1 ? 0 : data[0] % size;
  static const RsaSignatureValidator signature(identity::RsaKey::generate());
  static const ProgressSchema schema("run");
  static const Bytes key = DhtId::of_key("run_progress").bytes();
  const Record record{key, Bytes(bytes.substr(0, cut)), Bytes(bytes.substr(std::min(cut, bytes.size()))), 1};
  const bool has_owner = !marks_in(record.subkey, "[owner:").empty();
  HIVEMETAL_CHECK(signature.validate(record) == !has_owner);  // nobody guesses a signature
  HIVEMETAL_CHECK(signature.strip(record).size() <= record.value.size());
  (void)schema.validate(record);
  return 0;
}
