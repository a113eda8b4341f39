// What a new daemon does about an attempt that an earlier one left: the table of the specification, without
// I/O.
#pragma once

#include "runner/attempt/messages.h"

namespace hivemetal::runner {

struct Found {
  AttemptRecord::State state = AttemptRecord::State::Preparing;  // what the record says
  bool same_boot = true;
  bool guard_answers = false;  // the right process, on the right socket, for the right attempt
  bool exit_recorded = false;  // exit.json is there and complete
  bool populated = false;      // processes in its cgroup or of its user
};

enum class Adoption {
  Load,         // it was over and cleaned; only report it
  Resume,       // watch it again
  TakeExit,     // its end is in exit.json (or in the record); clean up
  LostGuard,    // kill what is left; the exit is unknown
  UnknownExit,  // nothing runs and nobody wrote down why
  LostReboot,   // the machine was restarted meanwhile
  Undo,         // it never ran
};

Adoption adoption_of(const Found& found);

}  // namespace hivemetal::runner
