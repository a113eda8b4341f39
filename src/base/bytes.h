// Byte strings. They are std::string because protobuf's `bytes` fields and every hash, file and socket
// function we call take or give one: no copies at the borders. Text and bytes differ by name, not by type.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"

namespace hivemetal {

using Bytes = std::string;

std::string to_hex(std::string_view bytes);

// Fails with Invalid on an odd length or a character that is no hex digit; blanks are skipped.
Result<Bytes> from_hex(std::string_view text);

}  // namespace hivemetal
