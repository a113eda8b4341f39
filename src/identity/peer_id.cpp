#include "identity/peer_id.h"

#include <fmt/format.h>

#include "identity/base58.h"

namespace hivemetal::identity {

namespace {

constexpr std::size_t kBase58Max = 64;  // 44 bytes, the longest id, are 61 characters

// True for `00 len ‖ key message`, with a key message of at most 42 bytes: `08 type 12 size ‖ key`.
bool is_identity_multihash(std::string_view bytes) {
  return bytes.size() >= 7 && bytes.size() <= 44 && bytes[0] == 0 &&
         static_cast<std::size_t>(bytes[1]) == bytes.size() - 2 && bytes[2] == 0x08 && bytes[3] >= 0 &&
         bytes[3] <= 3 && bytes[4] == 0x12 && static_cast<std::size_t>(bytes[5]) == bytes.size() - 6;
}

bool is_sha256_multihash(std::string_view bytes) {
  return bytes.size() == 34 && bytes[0] == 0x12 && bytes[1] == 0x20;
}

}  // namespace

Result<PeerId> PeerId::from_bytes(std::string_view bytes) {
  if (!is_identity_multihash(bytes) && !is_sha256_multihash(bytes)) {
    return Error{ErrorCode::Invalid, fmt::format("{} bytes that are no peer id", bytes.size())};
  }
  return PeerId(Bytes(bytes));
}

Result<PeerId> PeerId::from_base58(std::string_view text) {
  if (text.size() > kBase58Max) {
    return Error{ErrorCode::Invalid, fmt::format("a peer id has at most {} characters, this text has {}",
                                                 kBase58Max, text.size())};
  }
  const auto bytes = base58_decode(text);
  if (!bytes) return bytes.error().within(fmt::format("peer id '{}'", text));
  auto peer = from_bytes(*bytes);
  if (!peer) {
    return Error{ErrorCode::Invalid,
                 fmt::format("'{}' is no peer id; one looks like 12D3KooW… or Qm…", text)};
  }
  return peer;
}

std::string PeerId::base58() const { return base58_encode(bytes_); }

std::string PeerId::short_name() const {
  const std::string text = base58();
  return text.size() <= 8 ? text : text.substr(text.size() - 8);
}

}  // namespace hivemetal::identity
