// The shape of Hivemind's training progress records, under the key `<run_id>_progress`.
//
// Every Hivemind optimizer refuses records of that key that do not have it, and drops the *whole* dictionary
// of a node that serves one. So does this, and it checks what we send as well.
#pragma once

#include <string_view>

#include "dht/dht_id.h"
#include "dht/record_validator.h"

namespace hivemetal::dht {

// What a trainer tells the others about itself.
struct Progress {
  Bytes peer_id;
  std::uint64_t epoch = 0;
  std::uint64_t samples_accumulated = 0;
  double samples_per_second = 0;
  double time = 0;  // Unix time of the report
  bool client_mode = false;

  friend bool operator==(const Progress&, const Progress&) = default;
};

wire::Value encode(const Progress& progress);

// Fails with Invalid on anything but the six keys with exactly their types: an integer is no float here.
Result<Progress> decode_progress(const wire::Value& value);

class ProgressSchema final : public RecordValidator {
 public:
  explicit ProgressSchema(std::string_view run_id);

  bool validate(const Record& record) const override;

 private:
  Bytes key_;
};

}  // namespace hivemetal::dht
