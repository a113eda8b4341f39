#include "scheduler/lease_table.h"

#include <algorithm>

#include "base/check.h"

namespace hivemetal::scheduler {

namespace {

// Beyond these a request is nonsense; sums of them do not overflow.
constexpr std::uint64_t kMilliCpusMax = 1'000'000'000;
constexpr std::uint64_t kMemoryMax = std::uint64_t{1} << 50;

Error fenced(std::uint64_t epoch, std::uint64_t seen) {
  return Error{ErrorCode::Refused, "epoch " + std::to_string(epoch) + " is fenced: epoch " +
                                       std::to_string(seen) + " was seen here"};
}

std::string text_of(Grant grant) {
  return std::to_string(grant.milli_cpus) + "m cpus and " + std::to_string(grant.memory >> 20) + " MiB";
}

}  // namespace

std::string_view name_of(LeaseState state) {
  switch (state) {
    case LeaseState::Starting:
      return "starting";
    case LeaseState::Running:
      return "running";
    case LeaseState::Stopping:
      return "stopping";
    case LeaseState::Ended:
      return "ended";
  }
  return "unknown";
}

Grant LeaseTable::used() const {
  Grant used;
  for (const auto& [id, offer] : offers_) {
    used.milli_cpus += offer.grant.milli_cpus * offer.slots;
    used.memory += offer.grant.memory * offer.slots;
  }
  for (const auto& [key, lease] : leases_) {
    if (lease.state == LeaseState::Ended) continue;
    used.milli_cpus += lease.grant.milli_cpus;
    used.memory += lease.grant.memory;
  }
  return used;
}

Grant LeaseTable::free() const {
  const Grant used = this->used();
  return {capacity_.milli_cpus - std::min(capacity_.milli_cpus, used.milli_cpus),
          capacity_.memory - std::min(capacity_.memory, used.memory)};
}

std::size_t LeaseTable::live() const {
  return static_cast<std::size_t>(std::count_if(leases_.begin(), leases_.end(), [](const auto& entry) {
    return entry.second.state != LeaseState::Ended;
  }));
}

Result<Offered> LeaseTable::offer(Clock::TimePoint now, const PeerId& peer, const std::string& run,
                                  Grant grant, std::uint32_t slots) {
  if (grant.milli_cpus == 0 || grant.memory == 0 || slots == 0 || grant.milli_cpus > kMilliCpusMax ||
      grant.memory > kMemoryMax) {
    return Error{ErrorCode::Invalid,
                 "an offer for " + std::to_string(slots) + " × " + text_of(grant) + " makes no sense"};
  }
  std::erase_if(offers_, [&](const auto& entry) {
    return entry.second.expires <= now || (entry.second.peer == peer && entry.second.run == run);
  });
  const auto of_peer = std::count_if(offers_.begin(), offers_.end(),
                                     [&](const auto& entry) { return entry.second.peer == peer; });
  if (offers_.size() >= options_.offers_max ||
      static_cast<std::size_t>(of_peer) >= options_.offers_per_peer_max) {
    return Error{ErrorCode::Refused, "too many open offers; ask again in a few seconds"};
  }
  const Grant free = this->free();
  const std::uint64_t fit =
      std::min({free.milli_cpus / grant.milli_cpus, free.memory / grant.memory, std::uint64_t{slots}});
  if (fit == 0) return Error{ErrorCode::Refused, "wanted " + text_of(grant) + ", free are " + text_of(free)};
  const std::uint64_t id = next_offer_++;
  const auto& offer = offers_[id] =
      Offer{peer, run, grant, static_cast<std::uint32_t>(fit), now + options_.offer_ttl};
  return Offered{id, offer.slots, offer.expires};
}

void LeaseTable::decline(const PeerId& peer, std::uint64_t offer) {
  const auto found = offers_.find(offer);
  if (found != offers_.end() && found->second.peer == peer) offers_.erase(found);
}

Result<LeaseTable::Taken> LeaseTable::take(Clock::TimePoint now, const PeerId& peer, std::uint64_t offer,
                                           const LeaseKey& key, std::uint64_t epoch, Grant grant,
                                           std::chrono::milliseconds ttl) {
  Taken taken;
  const auto fence = fences_.find({peer, key});
  if (fence != fences_.end() && epoch <= fence->second.epoch) return fenced(epoch, fence->second.epoch);
  const auto old = leases_.find(key);
  if (old != leases_.end()) {
    Lease& lease = old->second;
    if (lease.holder != peer) {
      return Error{ErrorCode::Refused, "worker " + std::to_string(key.worker) + " of " + key.run +
                                           " is leased to " + lease.holder.short_name()};
    }
    if (epoch < lease.epoch) return fenced(epoch, lease.epoch);
    // Asked again because our answer was lost. Under a renewed epoch the request is a late copy of an old
    // one.
    if (epoch == lease.first_epoch) return taken;
    if (epoch == lease.epoch) return fenced(epoch, lease.epoch);
    if (lease.state != LeaseState::Ended) {
      // Two workers of one slot must not live here together, nor may the new one use capacity before it is
      // free.
      lease.epoch = epoch - 1;
      taken.superseded = lease;
      lease.state = LeaseState::Stopping;
      return taken;
    }
  }
  const auto reserved = offers_.find(offer);
  if (reserved == offers_.end() || reserved->second.peer != peer || reserved->second.run != key.run ||
      reserved->second.grant != grant || reserved->second.expires <= now) {
    return Error{ErrorCode::Refused,
                 "offer " + std::to_string(offer) + " has expired or is not for this; ask for a new one"};
  }
  if (old == leases_.end() && leases_.size() >= options_.leases_max) {
    return Error{ErrorCode::Refused, "too many leases on this node"};
  }
  if (--reserved->second.slots == 0) offers_.erase(reserved);
  Lease lease;
  lease.key = key;
  lease.holder = peer;
  lease.epoch = lease.first_epoch = epoch;
  lease.grant = grant;
  lease.ttl = std::clamp(ttl, options_.ttl_min, options_.ttl_max);
  lease.expires = now + lease.ttl;
  leases_[key] = lease;
  taken.started = true;
  return taken;
}

Result<Lease*> LeaseTable::checked(const PeerId& peer, const LeaseKey& key, std::uint64_t epoch) {
  const auto found = leases_.find(key);
  if (found == leases_.end()) {
    return Error{ErrorCode::NotFound, "no lease for worker " + std::to_string(key.worker) + " of " + key.run};
  }
  Lease& lease = found->second;
  if (lease.holder != peer) return Error{ErrorCode::Refused, "the lease belongs to another coordinator"};
  if (epoch < lease.epoch) return fenced(epoch, lease.epoch);
  return &lease;
}

Result<Lease> LeaseTable::renew(Clock::TimePoint now, const PeerId& peer, const LeaseKey& key,
                                std::uint64_t epoch) {
  const auto lease = checked(peer, key, epoch);
  if (!lease) return lease.error();
  (*lease)->epoch = epoch;
  // A worker that is being stopped, or has ended, does not come back by a renewal.
  if ((*lease)->state == LeaseState::Starting || (*lease)->state == LeaseState::Running) {
    (*lease)->expires = now + (*lease)->ttl;
  }
  return **lease;
}

Result<Lease> LeaseTable::release(Clock::TimePoint now, const PeerId& peer, const LeaseKey& key,
                                  std::uint64_t epoch) {
  if (!leases_.contains(key)) raise_fence(now, peer, key, epoch);  // its request may still be under way
  const auto lease = checked(peer, key, epoch);
  if (!lease) return lease.error();
  (*lease)->epoch = epoch;
  const Lease released = **lease;
  if (released.state == LeaseState::Ended) {
    raise_fence(now, peer, key, epoch);
    leases_.erase(key);
  } else {
    (*lease)->state = LeaseState::Stopping;
    (*lease)->expires = now + (*lease)->ttl;
  }
  return released;
}

void LeaseTable::raise_fence(Clock::TimePoint now, const PeerId& peer, const LeaseKey& key,
                             std::uint64_t epoch) {
  std::erase_if(fences_, [now](const auto& entry) { return entry.second.expires <= now; });
  if (fences_.size() >= options_.leases_max) return;
  auto& fence = fences_[{peer, key}];
  fence = {std::max(fence.epoch, epoch), now + options_.ended_kept};
}

void LeaseTable::running(const LeaseKey& key, std::uint64_t first_epoch) {
  const auto found = leases_.find(key);
  if (found == leases_.end() || found->second.first_epoch != first_epoch) return;
  if (found->second.state == LeaseState::Starting) found->second.state = LeaseState::Running;
}

void LeaseTable::stopping(const LeaseKey& key, std::uint64_t first_epoch) {
  const auto found = leases_.find(key);
  if (found == leases_.end() || found->second.first_epoch != first_epoch) return;
  if (found->second.state != LeaseState::Ended) found->second.state = LeaseState::Stopping;
}

void LeaseTable::ended(Clock::TimePoint now, const LeaseKey& key, std::uint64_t first_epoch) {
  const auto found = leases_.find(key);
  if (found == leases_.end() || found->second.first_epoch != first_epoch) return;
  found->second.state = LeaseState::Ended;
  found->second.expires = now + options_.ended_kept;
}

std::vector<Lease> LeaseTable::expire(Clock::TimePoint now) {
  std::erase_if(offers_, [now](const auto& entry) { return entry.second.expires <= now; });
  std::erase_if(fences_, [now](const auto& entry) { return entry.second.expires <= now; });
  std::vector<Lease> expired;
  for (auto it = leases_.begin(); it != leases_.end();) {
    Lease& lease = it->second;
    if (lease.expires > now || lease.state == LeaseState::Stopping) {
      ++it;
    } else if (lease.state == LeaseState::Ended) {
      raise_fence(now, lease.holder, it->first, lease.epoch);
      it = leases_.erase(it);
    } else {
      lease.state = LeaseState::Stopping;
      expired.push_back(lease);
      ++it;
    }
  }
  return expired;
}

std::optional<Clock::TimePoint> LeaseTable::next_expiry() const {
  std::optional<Clock::TimePoint> next;
  const auto consider = [&next](Clock::TimePoint time) { next = next ? std::min(*next, time) : time; };
  for (const auto& [id, offer] : offers_) consider(offer.expires);
  for (const auto& [key, lease] : leases_) {
    if (lease.state != LeaseState::Stopping) consider(lease.expires);
  }
  return next;
}

void LeaseTable::restore(Clock::TimePoint now, Lease lease) {
  lease.expires = now + (lease.state == LeaseState::Ended ? options_.ended_kept : lease.ttl);
  leases_[lease.key] = std::move(lease);
}

std::optional<Lease> LeaseTable::find(const LeaseKey& key) const {
  const auto found = leases_.find(key);
  if (found == leases_.end()) return std::nullopt;
  return found->second;
}

std::vector<Lease> LeaseTable::leases() const {
  std::vector<Lease> all;
  for (const auto& [key, lease] : leases_) all.push_back(lease);
  return all;
}

}  // namespace hivemetal::scheduler
