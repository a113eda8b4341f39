#include "runner/attempt.h"

namespace hivemetal::runner {

std::string_view name_of(AttemptState state) {
  switch (state) {
    case AttemptState::Starting:
      return "starting";
    case AttemptState::Running:
      return "running";
    case AttemptState::Stopping:
      return "stopping";
    case AttemptState::Ended:
      return "ended";
  }
  return "unknown";
}

bool is_valid_attempt_id(std::string_view id) {
  if (id.empty() || id.size() > 64 || id.front() == '.' || id.front() == '-') return false;
  for (const char c : id) {
    if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '-')) return false;
  }
  return true;
}

}  // namespace hivemetal::runner
