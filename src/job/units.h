// Sizes and durations as job files write them: `512MiB`, `90s`.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace hivemetal::job {

// A whole number and B, KiB, MiB, GiB or TiB; or 0. Fails with Invalid, saying what to write instead.
Result<std::uint64_t> parse_size(std::string_view text);

// A whole number and ms, s, m or h; or 0. At most 30 days.
Result<std::chrono::milliseconds> parse_duration(std::string_view text);

// With the largest unit that keeps the number whole: parse_size() reads it back.
std::string format_size(std::uint64_t bytes);
std::string format_duration(std::chrono::milliseconds duration);

}  // namespace hivemetal::job
