// What a node has promised to whom. No I/O: time is an argument, processes are somebody else's.
//
// A coordinator that looks for a place asks for an *offer*: the node sets capacity aside for it, for a few
// seconds. A *lease* turns a part of the offer into the right to run one worker, and lasts as long as it is
// renewed. Three things must always hold, whatever peers send and in whatever order:
//
//   - offers and live leases together never exceed the node's capacity;
//   - there is at most one lease per worker of a run, and one lease starts its worker at most once;
//   - *epochs fence*: a coordinator numbers its decisions. Who has seen epoch 7 of a worker refuses 6, so a
//   message that
//     was late, or a coordinator that has been succeeded, changes nothing.
//
//      offer ──take──▶ Starting ─▶ Running ─▶ Ended      (ended leases hold no capacity; they wait for the
//      coordinator to
//        │ expires        │  expiry, stop  │              read the exit, and are forgotten after a while)
//        ▼                └──▶ Stopping ◀──┘
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "identity/peer_id.h"

namespace hivemetal::scheduler {

using identity::PeerId;

// What one worker gets of a node. Thousandths of a core, so that sums are exact.
struct Grant {
  std::uint64_t milli_cpus = 0;
  std::uint64_t memory = 0;  // bytes

  friend bool operator==(const Grant&, const Grant&) = default;
};

struct LeaseKey {
  std::string run;
  std::uint32_t worker = 0;

  friend auto operator<=>(const LeaseKey&, const LeaseKey&) = default;
};

enum class LeaseState { Starting, Running, Stopping, Ended };

std::string_view name_of(LeaseState state);

struct Lease {
  LeaseKey key;
  PeerId holder;                  // the coordinator
  std::uint64_t epoch = 0;        // of its last accepted message
  std::uint64_t first_epoch = 0;  // that the worker was started under: names the attempt
  Grant grant;
  LeaseState state = LeaseState::Starting;
  Clock::TimePoint expires;
  std::chrono::milliseconds ttl{0};
};

struct Offered {
  std::uint64_t id = 0;
  std::uint32_t slots = 0;  // workers of the asked size; 1 or more
  Clock::TimePoint expires;
};

struct LeaseTableOptions {
  std::chrono::milliseconds offer_ttl{3'000};
  std::chrono::milliseconds ttl_min{2'000};
  std::chrono::milliseconds ttl_max{120'000};
  std::chrono::milliseconds ended_kept{600'000};
  std::size_t offers_max = 256;  // at a time
  std::size_t offers_per_peer_max = 16;
  std::size_t leases_max = 1024;  // live and ended
};

class LeaseTable {
 public:
  LeaseTable(Grant capacity, LeaseTableOptions options = {}) : capacity_(capacity), options_(options) {}

  // Sets up to `slots` grants aside. A new offer to the same peer for the same run replaces the old one.
  // Refused if not even one fits, with what is free; Invalid if the grant is 0.
  Result<Offered> offer(Clock::TimePoint now, const PeerId& peer, const std::string& run, Grant grant,
                        std::uint32_t slots);

  // Gives an offer back before it expires.
  void decline(const PeerId& peer, std::uint64_t offer);

  struct Taken {
    bool started = false;  // false: there is nothing to start
    std::optional<Lease>
        superseded;  // a live lease of an older epoch; it is Stopping now, ask again when it has ended
  };

  // Turns one slot of an offer into a lease. Asking again with the same epoch changes nothing. Refused: no
  // such offer, of another peer, run or size; an older epoch; the worker is leased to another coordinator.
  Result<Taken> take(Clock::TimePoint now, const PeerId& peer, std::uint64_t offer, const LeaseKey& key,
                     std::uint64_t epoch, Grant grant, std::chrono::milliseconds ttl);

  // Extends a lease and raises its epoch. NotFound: no such lease (it ended long ago, or never was). Refused:
  // another coordinator's, or an older epoch.
  Result<Lease> renew(Clock::TimePoint now, const PeerId& peer, const LeaseKey& key, std::uint64_t epoch);

  // A live lease becomes Stopping and keeps its capacity until ended() is called; an Ended one is forgotten.
  // Fails as renew() does.
  Result<Lease> release(Clock::TimePoint now, const PeerId& peer, const LeaseKey& key, std::uint64_t epoch);

  // What became of the worker; ignored if the lease is gone or was started under another epoch.
  void running(const LeaseKey& key, std::uint64_t first_epoch);
  void stopping(const LeaseKey& key, std::uint64_t first_epoch);
  void ended(Clock::TimePoint now, const LeaseKey& key, std::uint64_t first_epoch);

  // Drops what is over at `now`. Returns the leases that nobody renewed: they are Stopping from now on and
  // their workers must be stopped.
  std::vector<Lease> expire(Clock::TimePoint now);

  // When expire() has something to do next.
  std::optional<Clock::TimePoint> next_expiry() const;

  // After a restart: puts a lease back as it was, with a full ttl.
  void restore(Clock::TimePoint now, Lease lease);

  std::optional<Lease> find(const LeaseKey& key) const;
  std::vector<Lease> leases() const;

  Grant capacity() const { return capacity_; }
  Grant free() const;        // neither offered nor leased
  std::size_t live() const;  // leases that are not Ended

  // The owner lends more or less from now on; what is leased stays leased, even beyond.
  void set_capacity(Grant capacity) { capacity_ = capacity; }

 private:
  struct Offer {
    PeerId peer;
    std::string run;
    Grant grant;
    std::uint32_t slots;
    Clock::TimePoint expires;
  };

  Result<Lease*> checked(const PeerId& peer, const LeaseKey& key, std::uint64_t epoch);
  Grant used() const;
  void raise_fence(Clock::TimePoint now, const PeerId& peer, const LeaseKey& key, std::uint64_t epoch);

  // What was seen of a worker whose lease is forgotten: late copies of requests do not start it again.
  struct Fence {
    std::uint64_t epoch = 0;
    Clock::TimePoint expires;
  };

  Grant capacity_;
  LeaseTableOptions options_;
  std::uint64_t next_offer_ = 1;
  std::map<std::uint64_t, Offer> offers_;
  std::map<LeaseKey, Lease> leases_;
  std::map<std::pair<PeerId, LeaseKey>, Fence> fences_;
};

}  // namespace hivemetal::scheduler
