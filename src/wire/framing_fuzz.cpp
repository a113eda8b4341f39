// A stream gives the same messages, and the same failure, however it is cut into pieces; and their bytes may
// be any of the messages that peers and the daemon send.
#include <vector>

#include "base/check.h"
#include "wire/dht.pb.h"
#include "wire/framing.h"
#include "wire/p2pd.pb.h"
#include "wire/protobuf.h"

namespace wire = hivemetal::wire;
using hivemetal::Bytes;

namespace {

constexpr std::size_t kMessageBytesMax = 1000;

template <class Message>
void read(const Bytes& bytes) {
  const auto message = wire::parse_message<Message>(bytes);
  if (message) HIVEMETAL_CHECK(wire::parse_message<Message>(message->SerializeAsString()).has_value());
}

// The messages of `stream`, fed in pieces of `step` bytes; false if it ended in an error.
bool cut(std::string_view stream, std::size_t step, std::vector<Bytes>& messages) {
  wire::DelimitedReader reader(kMessageBytesMax);
  for (; !stream.empty(); stream.remove_prefix(std::min(step, stream.size()))) {
    reader.feed(stream.substr(0, step));
    for (;;) {
      auto message = reader.next();
      if (!message) return false;
      if (!*message) break;
      messages.push_back(**std::move(message));
    }
  }
  return true;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const unsigned char* data, std::size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  std::vector<Bytes> whole;
  std::vector<Bytes> pieces;
  HIVEMETAL_CHECK(cut(input, size + 1, whole) == cut(input, 3, pieces));
  HIVEMETAL_CHECK(whole == pieces);
  for (const Bytes& message : whole) {
    HIVEMETAL_CHECK(message.size() <= kMessageBytesMax);
    read<wire::p2pd::Request>(message);
    read<wire::p2pd::Response>(message);
    read<wire::p2pd::PersistentConnectionRequest>(message);
    read<wire::p2pd::PersistentConnectionResponse>(message);
    read<wire::dht::PingResponse>(message);
    read<wire::dht::StoreRequest>(message);
    read<wire::dht::FindResponse>(message);
  }
  return 0;
}
