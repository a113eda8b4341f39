#include "runner/baremetal/adoption.h"

namespace hivemetal::runner {

Adoption adoption_of(const Found& found) {
  using State = AttemptRecord::State;
  if (found.state == State::Cleaned) return Adoption::Load;
  if (found.state == State::Ended || found.exit_recorded) return Adoption::TakeExit;
  if (!found.same_boot) return Adoption::LostReboot;
  if (found.guard_answers) return Adoption::Resume;
  if (found.state == State::Preparing || found.state == State::Launching) return Adoption::Undo;
  return found.populated ? Adoption::LostGuard : Adoption::UnknownExit;
}

}  // namespace hivemetal::runner
