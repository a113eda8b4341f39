#include "dht/signed_record.h"

#include <algorithm>
#include <utility>

#include "identity/base64.h"
#include "wire/msgpack.h"

namespace hivemetal::dht {

namespace {

constexpr std::string_view kOwner = "[owner:";
constexpr std::string_view kSignature = "[signature:";

bool contains(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

}  // namespace

std::vector<std::string_view> marks_in(std::string_view text, std::string_view prefix) {
  std::vector<std::string_view> marks;
  for (std::size_t at = text.find(prefix); at != std::string_view::npos; at = text.find(prefix, at)) {
    const std::size_t begin = at + prefix.size();
    // At least one character of any kind but a line end, up to the first bracket behind it.
    const std::size_t end = text.find(']', std::min(begin + 1, text.size()));
    if (end == std::string_view::npos) break;
    const std::string_view inside = text.substr(begin, end - begin);
    if (inside.find('\n') != std::string_view::npos) {
      ++at;
      continue;
    }
    marks.push_back(inside);
    at = end + 1;
  }
  return marks;
}

Bytes signed_bytes(const Record& record) {
  return wire::encode(wire::Value::tuple({wire::Value::bin(record.key), wire::Value::bin(record.subkey),
                                          wire::Value::bin(record.value), record.expiration}));
}

RsaSignatureValidator::RsaSignatureValidator(identity::RsaKey key) : key_(std::move(key)) {
  marker_ = Bytes(kOwner) + key_.openssh_text() + "]";
}

bool RsaSignatureValidator::validate(const Record& record) const {
  auto owners = marks_in(record.key, kOwner);
  std::ranges::copy(marks_in(record.subkey, kOwner), std::back_inserter(owners));
  if (owners.empty()) return true;
  if (!std::ranges::all_of(owners, [&owners](std::string_view owner) { return owner == owners.front(); }))
    return false;

  const auto signatures = marks_in(record.value, kSignature);
  if (signatures.size() != 1) return false;
  const auto signature = identity::base64_decode(signatures.front());
  if (!signature) return false;
  const Record unsigned_record{record.key, record.subkey, strip(record), record.expiration};
  return identity::verify_pss(owners.front(), signed_bytes(unsigned_record), *signature);
}

Bytes RsaSignatureValidator::sign(const Record& record) const {
  if (!contains(record.key, marker_) && !contains(record.subkey, marker_)) return record.value;
  Bytes value = record.value;
  value += kSignature;
  value += identity::base64_encode(key_.sign_pss(signed_bytes(record)));
  value += ']';
  return value;
}

Bytes RsaSignatureValidator::strip(const Record& record) const {
  Bytes value;
  std::string_view rest = record.value;
  for (const std::string_view mark : marks_in(record.value, kSignature)) {
    const auto begin = static_cast<std::size_t>(mark.data() - rest.data()) - kSignature.size();
    value += rest.substr(0, begin);
    rest.remove_prefix(begin + kSignature.size() + mark.size() + 1);
  }
  value += rest;
  return value;
}

}  // namespace hivemetal::dht
