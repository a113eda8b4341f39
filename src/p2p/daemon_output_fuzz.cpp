// What p2pd prints, in pieces of any size.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "p2p/daemon_output.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::string_view bytes(reinterpret_cast<const char*>(data), size);
  hivemetal::p2p::LineReader reader;
  while (!bytes.empty()) {
    const std::size_t piece = 1 + static_cast<unsigned char>(bytes.front()) % bytes.size();
    for (const auto& line : reader.feed(bytes.substr(0, piece))) {
      HIVEMETAL_CHECK(line.size() <= 8192);
      const auto parsed = hivemetal::p2p::parse_daemon_line(line);
      HIVEMETAL_CHECK(parsed.text.size() <= 500);
      for (const char c : parsed.text) HIVEMETAL_CHECK(static_cast<unsigned char>(c) >= 0x20);
    }
    bytes.remove_prefix(piece);
  }
  return 0;
}
