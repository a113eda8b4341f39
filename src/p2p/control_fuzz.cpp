// What comes from the control socket, and the greeting of an inbound stream.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "p2p/control.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const auto response = hivemetal::p2p::parse_control_response(bytes);
  if (response) {
    for (const auto& peer : hivemetal::p2p::peers_of(*response)) HIVEMETAL_CHECK(!peer.peer.empty());
  }
  const auto info = hivemetal::p2p::parse_stream_info(bytes);
  if (info) HIVEMETAL_CHECK(!info->peer.empty());
  return 0;
}
