// Random numbers: a seeded generator for decisions, so that a simulation can be repeated, and the
// operating system's for secrets and identifiers.
#pragma once

#include <cstdint>
#include <random>

#include "base/bytes.h"

namespace hivemetal {

using Random = std::mt19937_64;

// `size` bytes from the operating system's generator. For keys, nonces and identifiers.
Bytes secure_random_bytes(std::size_t size);

// `size` bytes from `random`: not for secrets.
Bytes random_bytes(Random& random, std::size_t size);

// A generator seeded by the operating system.
Random seeded_by_system();

}  // namespace hivemetal
