#include "identity/base64.h"

#include <openssl/evp.h>

#include "base/check.h"

namespace hivemetal::identity {

std::string base64_encode(std::string_view bytes) {
  std::string text((bytes.size() + 2) / 3 * 4 + 1, '\0');  // EVP_EncodeBlock ends its output with a zero
  const int size =
      EVP_EncodeBlock(reinterpret_cast<unsigned char*>(text.data()),
                      reinterpret_cast<const unsigned char*>(bytes.data()), static_cast<int>(bytes.size()));
  HIVEMETAL_CHECK(size >= 0);
  text.resize(static_cast<std::size_t>(size));
  return text;
}

Result<Bytes> base64_decode(std::string_view text) {
  const Error wrong{ErrorCode::Invalid, "no base64 text"};
  if (text.size() % 4 != 0 || text.size() > (1u << 30)) return wrong;
  Bytes bytes(text.size() / 4 * 3, '\0');
  const int size =
      EVP_DecodeBlock(reinterpret_cast<unsigned char*>(bytes.data()),
                      reinterpret_cast<const unsigned char*>(text.data()), static_cast<int>(text.size()));
  if (size != static_cast<int>(bytes.size())) return wrong;
  if (text.ends_with("==")) {
    bytes.resize(bytes.size() - 2);
  } else if (text.ends_with('=')) {
    bytes.resize(bytes.size() - 1);
  }
  // OpenSSL also takes blanks around, padding in the middle and unused bits that are not 0.
  if (base64_encode(bytes) != text) return wrong;
  return bytes;
}

}  // namespace hivemetal::identity
