#include "dht/record_validator.h"

#include <algorithm>
#include <ranges>
#include <utility>

namespace hivemetal::dht {

void ValidatorChain::add(std::unique_ptr<RecordValidator> validator) {
  const auto after = std::ranges::upper_bound(validators_, validator->priority(), {},
                                              [](const auto& held) { return held->priority(); });
  validators_.insert(after, std::move(validator));
}

bool ValidatorChain::validate(Record record) const {
  for (const auto& validator : std::views::reverse(validators_)) {
    if (!validator->validate(record)) return false;
    record.value = validator->strip(record);
  }
  return true;
}

Bytes ValidatorChain::sign(Record record) const {
  for (const auto& validator : validators_) record.value = validator->sign(record);
  return std::move(record.value);
}

Bytes ValidatorChain::strip(Record record) const {
  for (const auto& validator : std::views::reverse(validators_)) record.value = validator->strip(record);
  return std::move(record.value);
}

}  // namespace hivemetal::dht
