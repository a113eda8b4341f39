// The bytes of the persistent connection: cut into messages, then parsed.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "p2p/persistent.h"
#include "wire/framing.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  (void)hivemetal::p2p::parse_daemon_message(bytes);
  hivemetal::wire::DelimitedReader reader(1024);
  reader.feed(bytes);
  for (;;) {
    const auto next = reader.next();
    if (!next || !next->has_value()) break;
    const auto message = hivemetal::p2p::parse_daemon_message(**next);
    if (!message) continue;
    HIVEMETAL_CHECK(message->call_id.size() == 16);
    HIVEMETAL_CHECK(message->data.size() <= size + 64);
  }
  return 0;
}
