#include "base/result.h"

namespace hivemetal {

std::string_view name_of(ErrorCode code) {
  switch (code) {
    case ErrorCode::Invalid:
      return "invalid";
    case ErrorCode::NotFound:
      return "not found";
    case ErrorCode::Refused:
      return "refused";
    case ErrorCode::Unavailable:
      return "unavailable";
    case ErrorCode::TimedOut:
      return "timed out";
    case ErrorCode::Cancelled:
      return "cancelled";
  }
  return "unknown";
}

Error Error::within(std::string_view context) const {
  std::string text(context);
  text += ": ";
  text += message;
  return {code, std::move(text)};
}

}  // namespace hivemetal
