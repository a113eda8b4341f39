// Whatever a peer sends as a request or a reply: read, stored, answered, read again.
#include <cstddef>
#include <cstdint>

#include "base/check.h"
#include "dht/messages.h"
#include "dht/responder.h"

using namespace hivemetal;
using namespace hivemetal::dht;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
  static const DhtOptions options{
      .storage = {.entries_max = 64, .bytes_max = 1 << 16, .dictionary_bytes_max = 1 << 14},
      .cache = {.entries_max = 64, .bytes_max = 1 << 16, .dictionary_bytes_max = 1 << 14}};
  static NodeState state(DhtId::sha1_of("self"), {}, options);
  Responder responder(state);
  switch (data[0] % 6) {
    case 0:
      if (const auto request = decode_store_request(bytes)) {
        for (const StoreItem& item : request->items) (void)responder.store(item, 1000);
        HIVEMETAL_CHECK(state.storage.entries() <= 64 && state.storage.bytes() <= 1 << 16);
        FindRequest find;
        for (const StoreItem& item : request->items) {
          if (find.keys.size() < 8) find.keys.push_back(item.key);
        }
        HIVEMETAL_CHECK(decode_find_reply(encode(responder.find(find, 1000))).has_value());
      }
      break;
    case 1:
      if (const auto request = decode_find_request(bytes)) {
        HIVEMETAL_CHECK(decode_find_reply(encode(responder.find(*request, 1000)))->results.size() ==
                        request->keys.size());
      }
      break;
    case 2:
      if (const auto reply = decode_find_reply(bytes)) {
        const auto again = decode_find_reply(encode(*reply));
        HIVEMETAL_CHECK(again && again->results.size() == reply->results.size());
      }
      break;
    case 3:
      (void)decode_store_reply(bytes);
      break;
    case 4:
      (void)decode_ping_request(bytes);
      break;
    default:
      (void)decode_ping_reply(bytes);
      break;
  }
  return 0;
}
