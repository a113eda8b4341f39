// JSON as a notation for MessagePack values, which know more kinds:
//
//   {"$bytes": "6b6579"}     a byte string, in hex
//   {"$tuple": [1, "a"]}     a Python tuple
//   {"$ext": [66, "00"]}     any other extension
//   {"$map": [[1, 2], …]}    a map whose keys are no texts (given; taken as well)
#pragma once

#include <nlohmann/json.hpp>

#include "base/result.h"
#include "wire/msgpack.h"

namespace hivemetal::console {

// Fails with Invalid on a wrong `$…` object.
Result<wire::Value> value_of(const nlohmann::json& json);

nlohmann::json json_of(const wire::Value& value);

}  // namespace hivemetal::console
