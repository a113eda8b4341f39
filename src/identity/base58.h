// Base58 with Bitcoin's alphabet: the text form of peer ids, did:key and invites. OpenSSL has none.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "base/bytes.h"

namespace hivemetal::identity {

// The work grows with the square of the length; hence a limit on foreign text, in characters.
inline constexpr std::size_t kBase58TextMax = 8192;

std::string base58_encode(std::string_view bytes);

// Fails with Invalid on a character outside the alphabet or on more than kBase58TextMax characters.
Result<Bytes> base58_decode(std::string_view text);

}  // namespace hivemetal::identity
