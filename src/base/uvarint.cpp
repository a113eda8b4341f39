#include "base/uvarint.h"

namespace hivemetal {

void append_uvarint(Bytes& out, std::uint64_t value) {
  for (; value >= 0x80; value >>= 7) out += static_cast<char>(value | 0x80);
  out += static_cast<char>(value);
}

Result<std::optional<std::uint64_t>> take_uvarint(std::string_view& bytes) {
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < bytes.size() && i < kUvarintBytesMax; ++i) {
    const auto byte = static_cast<unsigned char>(bytes[i]);
    if (i + 1 == kUvarintBytesMax && byte > 1) break;  // bits 64 and above
    value |= static_cast<std::uint64_t>(byte & 0x7f) << (7 * i);
    if (byte >= 0x80) continue;
    bytes.remove_prefix(i + 1);
    return value;
  }
  if (bytes.size() >= kUvarintBytesMax) return Error{ErrorCode::Invalid, "a varint of more than 64 bits"};
  return std::nullopt;
}

}  // namespace hivemetal
