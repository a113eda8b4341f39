// Whole files of a bounded size, with errors that say what to do.
#pragma once

#include <filesystem>
#include <string_view>
#include <sys/types.h>

#include "base/bytes.h"
#include "base/result.h"

namespace hivemetal::node {

// Fails with NotFound, Refused (permissions), Invalid (larger than `bytes_max`, or no regular file).
Result<Bytes> read_file(const std::filesystem::path& file, std::size_t bytes_max);

// Replaces `file` by a temporary file and rename, durable when it returns. Unavailable if the disk is full.
Result<void> write_file(const std::filesystem::path& file, std::string_view bytes, mode_t mode);

// What `number` (an errno) means for `what` and what to do: "cannot write F: the disk is full; free some
// space…".
Error system_error(std::string_view what, int number);

}  // namespace hivemetal::node
