// A user of its own for every attempt on this machine, whichever node started it.
//
// Users in use are files in one machine-wide folder, named after the number; their content says whose they
// are, so that a node which lost an attempt finds and frees its users again. A lock file there orders the
// nodes.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <sys/types.h>
#include <vector>

#include "base/result.h"

namespace hivemetal::runner {

struct UidRange {
  // Unused in systemd's published map and in Debian's; not 61184-65519, where dynamic users of services live.
  std::uint32_t first = 1'879'048'192;
  std::uint32_t last = 2'147'352'575;
};

class UidPool {
 public:
  // `folder` is made if need be; `owner` is the node, one line.
  UidPool(std::filesystem::path folder, UidRange range, std::string owner)
      : folder_(std::move(folder)), range_(range), owner_(std::move(owner)) {}

  // The least recently used user that no attempt and no process has. Fails with Refused and
  // UID_RANGE_EXHAUSTED.
  Result<std::uint32_t> allocate(const std::string& attempt);

  void release(std::uint32_t uid);

  // Frees the users of nodes whose folder is gone, as of a test that was killed. Users that some process has
  // stay.
  void reclaim();

  // The users that belong to this node.
  struct Entry {
    std::uint32_t uid;
    std::string owner;
    std::string attempt;
  };
  std::vector<Entry> owned() const;

 private:
  std::vector<Entry> entries() const;

  std::filesystem::path folder_;
  UidRange range_;
  std::string owner_;
};

}  // namespace hivemetal::runner
