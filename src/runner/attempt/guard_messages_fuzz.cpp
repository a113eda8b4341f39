// Every line that daemon and guard read from a socket, and every record that they read from disk.
#include <cstdlib>

#include "runner/attempt/messages.h"

namespace {

// What was understood can be written, and is understood again.
template <class Value, class Decode>
void check(std::string_view text, Decode decode) {
  const auto value = decode(text);
  if (!value) return;
  if (!decode(hivemetal::runner::encode(*value))) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace hivemetal::runner;
  if (size == 0) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  switch (data[0] % 5) {
    case 0:
      check<Command>(text, decode_command);
      break;
    case 1:
      check<GuardState>(text, decode_guard_state);
      break;
    case 2:
      check<ExitRecord>(text, decode_exit_record);
      break;
    case 3:
      check<AttemptRecord>(text, decode_attempt_record);
      break;
    default:
      if (const auto spec = decode_guard_spec(text)) {
        const auto line = encode(*spec);
        if (!line || decode_guard_spec(*line).value() != *spec) std::abort();
      }
  }
  return 0;
}
