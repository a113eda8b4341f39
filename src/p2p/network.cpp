#include "p2p/network.h"

#include <fmt/format.h>

namespace hivemetal::p2p {

namespace {

// The size of a protobuf field with a number below 16 that holds `length` bytes.
std::size_t field_bytes(std::size_t length) {
  std::size_t size = 2 + length;
  for (std::size_t rest = length >> 7; rest != 0; rest >>= 7) ++size;
  return size;
}

constexpr std::size_t kCallIdBytes = 18;  // of PersistentConnectionRequest: tag, length, 16 bytes

}  // namespace

std::size_t unary_request_bytes(const PeerId& peer, std::string_view handle, std::size_t payload) {
  return kCallIdBytes +
         field_bytes(field_bytes(peer.bytes().size()) + field_bytes(handle.size()) + field_bytes(payload));
}

std::size_t unary_reply_bytes(std::size_t payload) {
  return kCallIdBytes + field_bytes(field_bytes(payload));
}

asio::awaitable<Result<Bytes>> read_exactly(Stream& stream, std::size_t size) {
  Bytes bytes(size, '\0');
  for (std::size_t done = 0; done < size;) {
    const auto count = co_await stream.read_some(std::span(bytes).subspan(done));
    if (!count) co_return count.error();
    if (*count == 0) {
      co_return Error{ErrorCode::Invalid, fmt::format("the stream ended after {} of {} bytes", done, size)};
    }
    done += *count;
  }
  co_return bytes;
}

}  // namespace hivemetal::p2p
