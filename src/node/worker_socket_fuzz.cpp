// Lines that a worker sends: any bytes, and the daemon lives on.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "node/worker_socket.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view line(reinterpret_cast<const char*>(data), size);
  if (const auto event = hivemetal::node::parse_worker_line(line))
    (void)event->dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  return 0;
}
