#include "wire/framing.h"

#include <fmt/format.h>
#include <utility>

namespace hivemetal::wire {

void append_delimited(Bytes& out, std::string_view message) {
  append_uvarint(out, message.size());
  out += message;
}

Result<std::optional<Bytes>> DelimitedReader::next() {
  std::string_view rest = std::string_view(buffer_).substr(begin_);
  const auto size = take_uvarint(rest);
  if (!size) return size.error().within("length of a message");
  if (!size->has_value()) return std::nullopt;
  if (**size > message_bytes_max_) {
    return Error{ErrorCode::Invalid,
                 fmt::format("a message of {} bytes, at most {} are accepted", **size, message_bytes_max_)};
  }
  if (**size > rest.size()) return std::nullopt;

  Bytes message(rest.substr(0, **size));
  begin_ = buffer_.size() - rest.size() + message.size();
  // Dropping the front costs a copy of the rest: only when it is the larger half.
  if (begin_ * 2 >= buffer_.size()) {
    buffer_.erase(0, begin_);
    begin_ = 0;
  }
  return message;
}

Bytes DelimitedReader::take_rest() {
  buffer_.erase(0, begin_);
  begin_ = 0;
  return std::exchange(buffer_, {});
}

}  // namespace hivemetal::wire
