// Base64 with the standard alphabet and padding, as OpenSSH keys and Hivemind's signatures are written.
#pragma once

#include <string>
#include <string_view>

#include "base/bytes.h"

namespace hivemetal::identity {

std::string base64_encode(std::string_view bytes);

// Fails with Invalid on anything but one padded text: no blanks, no line ends, no other alphabet.
Result<Bytes> base64_decode(std::string_view text);

}  // namespace hivemetal::identity
