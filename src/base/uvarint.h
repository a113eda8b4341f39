// Unsigned LEB128, protobuf's varint: 7 bits per byte, low group first.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "base/bytes.h"

namespace hivemetal {

inline constexpr std::size_t kUvarintBytesMax = 10;

void append_uvarint(Bytes& out, std::uint64_t value);

// Cuts a number from the front of `bytes`. nullopt, and `bytes` as it was, if it ends within the number.
// Fails with Invalid if the number has more than 64 bits.
Result<std::optional<std::uint64_t>> take_uvarint(std::string_view& bytes);

}  // namespace hivemetal
