// What the runner does to the machine for an attempt before and after it runs: folders, users, cgroups,
// records, the guard. All of it blocks (fsync, waits for dying processes), so the runner calls it on a thread
// of its own.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "runner/attempt/files.h"
#include "runner/attempt/messages.h"
#include "runner/baremetal/adoption.h"
#include "runner/baremetal/cgroups.h"
#include "runner/baremetal/confinement.h"
#include "runner/baremetal/options.h"
#include "runner/baremetal/uid_pool.h"

namespace hivemetal::runner {

// The name that a node has in cgroups: short, and the same for the same folder.
std::string node_tag(const std::filesystem::path& directory);

// A guard's two handles: what to say to it, and when it is gone.
struct GuardHandle {
  Fd socket;
  Fd pidfd;
};

class Host {
 public:
  // Makes the folders. Fails if that is not possible, or if there is no guard to start.
  static Result<std::unique_ptr<Host>> open(BareMetalOptions options);

  std::filesystem::path folder_of(const AttemptId& id) const { return attempts_ / id; }
  std::filesystem::path work_of(const AttemptId& id) const { return attempts_ / id / "work"; }
  const std::vector<std::string>& degradations() const { return degradations_; }

  // Everything up to a guard that waits for the word to go. On failure all is undone but the record, which
  // says why.
  struct Prepared {
    AttemptRecord record;
    GuardHandle guard;
  };
  Result<Prepared> prepare(const AttemptSpec& spec);

  // Writes the record; on a full disk into the space that is reserved for it.
  Result<void> save(const AttemptRecord& record, Durability durability = Durability::Synced);

  // After the guard is gone: its exit record, or `fallback` if it left none; kills and removes all that is
  // left of the attempt but its folder. The record that comes back is the one on disk: Cleaned, or Ended if
  // something could not be killed.
  AttemptRecord conclude(AttemptRecord record, ExitRecord fallback);

  // One attempt of an earlier daemon, and what is to be done about it.
  struct Case {
    AttemptRecord record;
    Adoption action;
    GuardHandle guard;  // Resume
    GuardState state;   // Resume
  };
  std::vector<Case> scan();

  // Kills and removes what no record accounts for. `known`: the attempts that still run.
  void remove_leftovers(const std::vector<AttemptId>& known);

  // Gives back the cgroups that hold nothing.
  void remove_empty_cgroups();

  Result<void> remove(const AttemptId& id);
  Result<void> remove_kept(const std::string& name);

 private:
  Host(BareMetalOptions options, CgroupLayout layout, std::string node);

  Result<void> prepare_into(const AttemptSpec& spec, AttemptRecord& record, Prepared& prepared);
  Result<void> make_work(const AttemptSpec& spec, const AttemptRecord& record);
  Result<std::string> make_kept(const std::string& name, const AttemptRecord& record);
  Result<GuardSpec> guard_spec(const AttemptSpec& spec, const AttemptRecord& record, const CgroupPlan& plan);
  Result<GuardHandle> spawn_guard(AttemptRecord& record);
  bool clean(const AttemptRecord& record, bool guard_left_record);
  Case examine(AttemptRecord record);
  std::optional<GuardState> ask_guard(const AttemptRecord& record, GuardHandle& guard);

  BareMetalOptions options_;
  CgroupLayout layout_;
  std::string node_;  // tells the nodes of one machine apart in cgroups
  std::filesystem::path attempts_, kept_;
  UidPool uids_;
  Confinement confinement_;
  std::vector<std::string> degradations_;
};

}  // namespace hivemetal::runner
