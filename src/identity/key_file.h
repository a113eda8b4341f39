// Small files with secrets: readable by their owner alone, and never half written.
#pragma once

#include <cstddef>
#include <filesystem>
#include <string_view>

#include "base/bytes.h"

namespace hivemetal::identity {

// Fails with NotFound if there is no such file, with Refused if another user could read or write it, with
// Invalid if it has more than `size_max` bytes.
Result<Bytes> read_key_file(const std::filesystem::path& file, std::size_t size_max);

// Writes with mode 0600 into a temporary file beside, then renames; a file of that name is replaced.
Result<void> write_key_file(const std::filesystem::path& file, std::string_view bytes);

}  // namespace hivemetal::identity
