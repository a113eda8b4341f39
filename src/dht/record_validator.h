// Rules about who may write what: checked on every record that arrives, applied to every record we send.
//
// A record that arrives is checked by the validators in descending priority, each seeing what the one before
// left (a signature is checked and cut off before anybody reads the value). A record that we send passes them
// in ascending order.
#pragma once

#include <memory>
#include <vector>

#include "base/bytes.h"

namespace hivemetal::dht {

// Exactly what is stored and signed. `subkey` is MessagePack, nil (c0) for a regular value.
struct Record {
  Bytes key;  // 20 bytes
  Bytes subkey;
  Bytes value;
  double expiration;
};

class RecordValidator {
 public:
  virtual ~RecordValidator() = default;

  virtual bool validate(const Record& record) const = 0;

  // The value to send in place of record.value.
  virtual Bytes sign(const Record& record) const { return record.value; }

  // The value without what sign() added.
  virtual Bytes strip(const Record& record) const { return record.value; }

  virtual int priority() const { return 0; }
};

class ValidatorChain {
 public:
  void add(std::unique_ptr<RecordValidator> validator);

  bool validate(Record record) const;
  Bytes sign(Record record) const;
  Bytes strip(Record record) const;

  bool empty() const { return validators_.empty(); }

 private:
  std::vector<std::unique_ptr<RecordValidator>> validators_;  // by ascending priority
};

}  // namespace hivemetal::dht
