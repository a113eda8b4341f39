// Whether bytes are text.
#pragma once

#include <string_view>

namespace hivemetal {

// True for valid UTF-8: no overlong forms, no surrogates, nothing above U+10FFFF. A zero byte is valid.
bool is_utf8(std::string_view bytes);

}  // namespace hivemetal
