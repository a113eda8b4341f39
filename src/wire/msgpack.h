// MessagePack as Hivemind's serializer writes it.
//
// Text and byte strings differ, integers take the shortest form, floats always 8 bytes, maps keep their
// order, and a Python tuple is an extension (0x40) whose payload is an array: a list and a tuple of the same
// elements have different bytes, hence different DHT keys. Two equal values have equal bytes.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/bytes.h"

namespace hivemetal::wire {

class Value;
struct MapEntry;

using Array = std::vector<Value>;
using Map = std::vector<MapEntry>;  // in the order of the bytes; keys may be of any kind, and repeat

// An extension other than the tuple, uninterpreted.
struct Ext {
  std::int8_t code;
  Bytes data;

  friend bool operator==(const Ext&, const Ext&) = default;
};

inline constexpr std::int8_t kTupleCode = 0x40;

class Value {
 public:
  Value();  // nil
  Value(std::nullptr_t);
  Value(std::same_as<bool> auto value) : Value(Data(value)) {}  // constrained: a pointer is no truth value
  Value(double value);
  Value(std::integral auto value)
    requires(!std::same_as<decltype(value), bool>)
      : Value(std::cmp_less_equal(value, INT64_MAX) ? Data(static_cast<std::int64_t>(value))
                                                    : Data(static_cast<std::uint64_t>(value))) {}
  Value(const char* text);
  Value(std::string_view text);
  Value(std::string text);
  Value(Array items);
  Value(Map entries);
  Value(Ext ext);

  Value(const Value&);
  Value(Value&&) noexcept;
  Value& operator=(const Value&);
  Value& operator=(Value&&) noexcept;
  ~Value();

  static Value bin(Bytes bytes);
  static Value tuple(Array items);

  // Null, or nullopt, if the value is of another kind. No kind is converted to another, but any integer that
  // fits is given as either integer type.
  bool is_nil() const;
  std::optional<bool> as_bool() const;
  std::optional<std::int64_t> as_int64() const;
  std::optional<std::uint64_t> as_uint64() const;
  std::optional<double> as_double() const;
  std::optional<double> as_number() const;  // a double or an integer
  const std::string* as_text() const;
  const Bytes* as_bin() const;
  const Array* as_array() const;
  const Array* as_tuple() const;
  const Map* as_map() const;
  const Ext* as_ext() const;

  // The value of a map's first entry with this text as its key; null if there is none or this is no map.
  const Value* find(std::string_view key) const;

  friend bool operator==(const Value& a, const Value& b);

 private:
  friend struct Encoder;

  struct Bin {
    Bytes bytes;
    friend bool operator==(const Bin&, const Bin&) = default;
  };
  struct Tuple {
    Array items;
    bool operator==(const Tuple& other) const;
  };
  // uint64_t only for what int64_t cannot hold.
  using Data = std::variant<std::monostate, bool, std::int64_t, std::uint64_t, double, std::string, Bin,
                            Array, Tuple, Map, Ext>;

  explicit Value(Data data);

  Data data_;
};

struct MapEntry {
  Value key;
  Value value;

  friend bool operator==(const MapEntry&, const MapEntry&) = default;
};

Bytes encode(const Value& value);

struct DecodeLimits {
  std::size_t depth_max = 64;        // of arrays, maps and tuples in each other
  std::size_t values_max = 1 << 18;  // in all; one takes about 50 bytes of memory
};

// Fails with Invalid if `bytes` is not exactly one value, goes beyond the limits, has text that is not UTF-8,
// or a tuple whose payload is no array. Memory is bounded by the limits plus the input's size, whatever
// lengths it claims.
Result<Value> decode(std::string_view bytes, const DecodeLimits& limits = {});

}  // namespace hivemetal::wire
