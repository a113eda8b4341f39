// The environment and the files with which an attempt starts. No I/O.
#pragma once

#include <map>
#include <string>

#include "base/result.h"
#include "runner/attempt.h"

namespace hivemetal::runner {

// What the program sees: the runner's variables, overridden by those of the spec. Nothing comes from our own.
std::map<std::string, std::string> environment_of(const AttemptSpec& spec, const std::string& work,
                                                  const std::string& temporary, const std::string& kept);

// Invalid, naming the field, if the spec asks for something that no machine could do: an id that is no id, a
// file outside the work folder, no program, a limit of 0.
Result<void> check(const AttemptSpec& spec);

}  // namespace hivemetal::runner
