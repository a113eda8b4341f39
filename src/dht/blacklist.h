// Peers that did not answer are left alone for a while: 5 s, then 10, 20, … for each further failure in a
// row.
#pragma once

#include <cstddef>
#include <unordered_map>

#include "base/clock.h"
#include "identity/peer_id.h"

namespace hivemetal::dht {

class Blacklist {
 public:
  Blacklist(Clock::Duration base, double backoff) : base_(base), backoff_(backoff) {}

  // A failure while the peer is listed anyway changes nothing.
  void failed(const identity::PeerId& peer, Clock::TimePoint now);

  // Takes the peer off the list and forgets its failures.
  void answered(const identity::PeerId& peer) { peers_.erase(peer); }

  bool contains(const identity::PeerId& peer, Clock::TimePoint now) const;

 private:
  static constexpr std::size_t kPeersMax = 4096;
  static constexpr Clock::Duration kLongest = std::chrono::hours(1);

  struct Record {
    Clock::TimePoint until;
    Clock::Duration next;
  };

  Clock::Duration base_;
  double backoff_;
  std::unordered_map<identity::PeerId, Record> peers_;
};

}  // namespace hivemetal::dht
