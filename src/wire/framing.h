// Messages with their length in front, `uvarint ‖ message`: p2pd's control socket, unary calls, identify.
#pragma once

#include <cstddef>
#include <optional>
#include <string_view>

#include "base/bytes.h"
#include "base/uvarint.h"

namespace hivemetal::wire {

// Appends `uvarint(size) ‖ message`.
void append_delimited(Bytes& out, std::string_view message);

// Cuts a byte stream, fed as it arrives, into its messages. Holds at most one unfinished message beyond what
// was fed last, and never allocates for a length that only was announced.
class DelimitedReader {
 public:
  explicit DelimitedReader(std::size_t message_bytes_max) : message_bytes_max_(message_bytes_max) {}

  void feed(std::string_view bytes) { buffer_.append(bytes); }

  // The next whole message; nullopt if more bytes are needed. Fails with Invalid if the next message is
  // larger than allowed or its length is no number; the stream has no next message then, and every later call
  // fails too.
  Result<std::optional<Bytes>> next();

  // Takes what is left behind the last message: the beginning of what follows on a stream that changes its
  // protocol.
  Bytes take_rest();

 private:
  std::size_t message_bytes_max_;
  Bytes buffer_;
  std::size_t begin_ = 0;  // of what next() has not returned, in buffer_
};

}  // namespace hivemetal::wire
