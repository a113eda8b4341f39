#include "dht/blacklist.h"

#include <algorithm>

namespace hivemetal::dht {

void Blacklist::failed(const identity::PeerId& peer, Clock::TimePoint now) {
  if (base_ <= Clock::Duration::zero()) return;
  if (peers_.size() >= kPeersMax && !peers_.contains(peer)) {
    std::erase_if(peers_, [now](const auto& entry) { return entry.second.until <= now; });
    if (peers_.size() >= kPeersMax) return;
  }
  const auto [record, is_new] = peers_.try_emplace(peer, Record{now, base_});
  if (!is_new && record->second.until > now) return;
  record->second.until = now + record->second.next;
  const auto longer = std::chrono::duration<double>(record->second.next) * backoff_;
  record->second.next = longer < std::chrono::duration<double>(kLongest)
                            ? std::chrono::duration_cast<Clock::Duration>(longer)
                            : kLongest;
}

bool Blacklist::contains(const identity::PeerId& peer, Clock::TimePoint now) const {
  const auto record = peers_.find(peer);
  return record != peers_.end() && record->second.until > now;
}

}  // namespace hivemetal::dht
