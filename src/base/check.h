// HIVEMETAL_CHECK(condition): our own invariants, in release builds too. Never for input.
#pragma once

namespace hivemetal {

[[noreturn]] void check_failed(const char* condition, const char* file, int line);

}  // namespace hivemetal

#define HIVEMETAL_CHECK(condition) \
  ((condition) ? static_cast<void>(0) : ::hivemetal::check_failed(#condition, __FILE__, __LINE__))
