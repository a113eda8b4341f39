#include "wire/protobuf.h"

#include <google/protobuf/stubs/logging.h>

namespace hivemetal::wire {

void silence_protobuf() {
  static const auto previous = google::protobuf::SetLogHandler(nullptr);
  static_cast<void>(previous);
}

}  // namespace hivemetal::wire
