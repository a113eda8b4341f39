// What a function returns that can fail for a reason outside the program: a peer, the network, the disk,
// a process, a user. Our own bugs end in HIVEMETAL_CHECK, and "simply not there" is std::optional.
#pragma once

#include <string>
#include <string_view>
#include <utility>

#include <tl/expected.hpp>

namespace hivemetal {

// What the caller can do about it.
enum class ErrorCode {
  Invalid,      // the input is wrong; the same call fails again
  NotFound,     // the thing named does not exist
  Refused,      // understood, and not allowed
  Unavailable,  // the other side is not there; later may work
  TimedOut,     // no answer within the deadline
  Cancelled,    // we are shutting down
};

std::string_view name_of(ErrorCode code);

struct Error {
  ErrorCode code;
  std::string message;

  // The same error with context in front: "dial 12D3…: connection refused".
  Error within(std::string_view context) const;

  friend bool operator==(const Error&, const Error&) = default;
};

// tl::expected behind our own name: std::expected of libstdc++ 12 has no monadic members.
template <class T>
class [[nodiscard]] Result : public tl::expected<T, Error> {
 public:
  using Base = tl::expected<T, Error>;
  using Base::Base;
  Result(Base base) : Base(std::move(base)) {}                   // NOLINT: implicit on purpose
  Result(Error error) : Base(tl::unexpect, std::move(error)) {}  // NOLINT: `return Error{…};`
};

}  // namespace hivemetal
