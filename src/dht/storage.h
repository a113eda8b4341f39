// What a node holds for others until it expires.
//
// A key holds either a regular value or a dictionary: sub-keys with a value and an expiration each. Newer
// wins, and newer means *strictly* later expiration; so two nodes that met the same records in another order
// agree. Values and sub-keys are the bytes that travelled: serialized, perhaps signed. Sub-keys are in
// canonical MessagePack.
//
//   arriving        key empty   regular value held              dictionary held
//   regular         take        take if later                   take if later than all of it
//   sub-key         take        take if later (a dictionary     take if the sub-key is new
//                               replaces it)                    or later than before
//
// A record that is refused changes nothing. (In Python it overwrites the expiry bookkeeping, and the newer
// record dies with the refused one.) Peers decide what is stored here, hence the limits: at the limit the
// record nearest to its expiration goes first.
#pragma once

#include <cstddef>
#include <map>
#include <set>
#include <utility>
#include <variant>
#include <vector>

#include "base/bytes.h"
#include "dht/dht_id.h"

namespace hivemetal::dht {

// Serialized, perhaps signed.
struct TimedBytes {
  Bytes value;
  double expiration;

  friend bool operator==(const TimedBytes&, const TimedBytes&) = default;
};

// Entries in the order in which they were sent.
using EntryList = std::vector<std::pair<Bytes, TimedBytes>>;

// A dictionary value: ext 0x50 on the wire, `[maxsize, latest expiration, [[sub-key, value, expiration],
// …]]`.
struct Dictionary {
  std::map<Bytes, TimedBytes> entries;  // by sub-key
  double latest;                        // the greatest expiration ever put in

  Dictionary();

  // Keeps the entry if its sub-key is new or its expiration strictly later; says whether it did.
  bool put(const Bytes& subkey, const TimedBytes& entry);

  // Takes whatever is later in `other`.
  void merge(const Dictionary& other);

  EntryList list() const { return {entries.begin(), entries.end()}; }

  void remove_expired(double now);

  friend bool operator==(const Dictionary&, const Dictionary&) = default;
};

// What a key holds. For a dictionary `expiration` is its latest.
struct Item {
  std::variant<Bytes, Dictionary> value;
  double expiration;

  const Dictionary* dictionary() const { return std::get_if<Dictionary>(&value); }
};

struct StorageLimits {
  std::size_t entries_max = 200'000;                // regular values and dictionary entries together
  std::size_t bytes_max = 256U * 1024 * 1024;       // keys, sub-keys, values and a little per entry
  std::size_t dictionary_bytes_max = 3'500 * 1024;  // one dictionary must fit into one reply of 4 MiB
};

class LocalStorage {
 public:
  explicit LocalStorage(StorageLimits limits = {}) : limits_(limits) {}

  // True if the record was taken. `now` is Unix time; a record with expiration < now is refused, NaN too.
  bool store(const DhtId& key, Bytes value, double expiration, double now);
  bool store_subkey(const DhtId& key, const Bytes& subkey, Bytes value, double expiration, double now);

  // Stores the entries in order and stops at the first one refused, as Python does; true if all were taken.
  bool store_dictionary(const DhtId& key, const EntryList& entries, double now);

  // Takes of `item` whatever is later than what we hold: a regular value, or entry by entry.
  void merge(const DhtId& key, const Item& item, double now);

  // What the key holds at `now`, or nullptr. Valid until the next call that is not const.
  const Item* find(const DhtId& key, double now);

  // All keys that hold something at `now`.
  std::vector<DhtId> keys(double now);

  std::size_t entries() const { return by_expiration_.size(); }
  std::size_t bytes() const { return bytes_; }

 private:
  // One regular value or one dictionary entry, in the order in which they go.
  struct Slot {
    double expiration;
    DhtId key;
    bool in_dictionary;
    Bytes subkey;

    friend auto operator<=>(const Slot&, const Slot&) = default;
  };

  struct Held {
    Item item;
    std::size_t bytes = 0;  // of all its entries
  };

  void remove_expired(double now);
  void add(Held& held, Slot slot, Bytes value);
  void drop(const Slot& slot);
  void drop_all(const DhtId& key);
  void make_room();
  void trim_dictionary(const DhtId& key);
  bool holds(const Slot& slot) const { return by_expiration_.contains(slot); }

  StorageLimits limits_;
  std::map<DhtId, Held> held_;
  std::set<Slot> by_expiration_;
  std::size_t bytes_ = 0;
};

}  // namespace hivemetal::dht
