// Parsing protobuf messages that strangers sent.
#pragma once

#include <cstdint>
#include <fmt/format.h>
#include <google/protobuf/message_lite.h>
#include <string_view>

#include "base/bytes.h"

namespace hivemetal::wire {

// Keeps the library from writing a line to stderr for each message it refuses: peers decide how many that
// are.
void silence_protobuf();

// Fails with Invalid if `bytes` is no such message or lacks a required field.
template <class Message>
Result<Message> parse_message(std::string_view bytes) {
  silence_protobuf();
  Message message;
  if (bytes.size() > INT32_MAX ||
      !message.ParsePartialFromArray(bytes.data(), static_cast<int>(bytes.size())) ||
      !message.IsInitialized()) {
    return Error{ErrorCode::Invalid,
                 fmt::format("{} bytes that are no {}", bytes.size(), message.GetTypeName())};
  }
  return message;
}

}  // namespace hivemetal::wire
