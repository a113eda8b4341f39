#include "wire/msgpack.h"

#include <bit>
#include <cstddef>
#include <fmt/format.h>

#include <msgpack.hpp>

#include "base/check.h"
#include "base/utf8.h"

namespace hivemetal::wire {

namespace {

Error invalid(std::string message) { return {ErrorCode::Invalid, std::move(message)}; }

// Where the packer writes.
struct Output {
  Bytes bytes;
  void write(const char* data, std::size_t size) { bytes.append(data, size); }
};

std::uint32_t size32(std::size_t size) {
  HIVEMETAL_CHECK(size <= UINT32_MAX);
  return static_cast<std::uint32_t>(size);
}

}  // namespace

// Writes values by the library's packer.
struct Encoder {
  Output output;
  msgpack::packer<Output> packer{output};

  void array(const Array& items) {
    packer.pack_array(size32(items.size()));
    for (const Value& item : items) value(item);
  }

  void value(const Value& value) {
    std::visit([this](const auto& data) { write(data); }, value.data_);
  }

  void write(std::monostate) { packer.pack_nil(); }
  void write(bool value) { packer.pack(value); }
  void write(std::int64_t value) { packer.pack_int64(value); }
  void write(std::uint64_t value) { packer.pack_uint64(value); }
  void write(double value) {
    // Not by pack_double(): it writes 1.0 as the integer 1, which Hivemind's schema refuses and hashes
    // differently.
    const auto bits = std::bit_cast<std::uint64_t>(value);
    output.bytes += '\xcb';
    for (int shift = 56; shift >= 0; shift -= 8) output.bytes += static_cast<char>(bits >> shift & 0xff);
  }
  void write(const std::string& text) {
    packer.pack_str(size32(text.size()));
    packer.pack_str_body(text.data(), size32(text.size()));
  }
  void write(const Value::Bin& bin) {
    packer.pack_bin(size32(bin.bytes.size()));
    packer.pack_bin_body(bin.bytes.data(), size32(bin.bytes.size()));
  }
  void write(const Array& items) { array(items); }
  void write(const Value::Tuple& tuple) {
    Encoder payload;
    payload.array(tuple.items);
    write(Ext{kTupleCode, std::move(payload.output.bytes)});
  }
  void write(const Map& entries) {
    packer.pack_map(size32(entries.size()));
    for (const auto& [key, item] : entries) {
      value(key);
      value(item);
    }
  }
  void write(const Ext& ext) {
    packer.pack_ext(size32(ext.data.size()), ext.code);
    packer.pack_ext_body(ext.data.data(), size32(ext.data.size()));
  }
};

namespace {

Result<Value> decode_within(std::string_view bytes, std::size_t depth_left, std::size_t& values_left);

// Builds a value from the events of the library's parser. Nothing is allocated for an announced length; a
// false return ends the parsing, and `problem` says why.
class Builder : public msgpack::null_visitor {
 public:
  Builder(std::size_t depth_left, std::size_t& values_left)
      : depth_left_(depth_left), values_left_(values_left) {}

  bool visit_nil() { return put(nullptr); }
  bool visit_boolean(bool value) { return put(value); }
  bool visit_positive_integer(std::uint64_t value) { return put(value); }
  bool visit_negative_integer(std::int64_t value) { return put(value); }
  bool visit_float32(float value) { return put(static_cast<double>(value)); }
  bool visit_float64(double value) { return put(value); }
  bool visit_str(const char* data, std::uint32_t size) {
    const std::string_view text(data, size);
    return is_utf8(text) ? put(text) : fail("text that is not UTF-8");
  }
  bool visit_bin(const char* data, std::uint32_t size) { return put(Value::bin(Bytes(data, size))); }

  // `size` counts the code in front of the payload.
  bool visit_ext(const char* data, std::uint32_t size) {
    if (size == 0) return fail("an extension without a code");
    const auto code = static_cast<std::int8_t>(data[0]);
    const std::string_view payload(data + 1, size - 1);
    if (code != kTupleCode) return put(Ext{code, Bytes(payload)});
    if (depth_left_ <= frames_.size()) return fail_depth();
    const auto value = decode_within(payload, depth_left_ - frames_.size(), values_left_);
    if (!value) return fail("in a tuple: " + value.error().message);
    const Array* items = value->as_array();
    return items != nullptr ? put(Value::tuple(*items)) : fail("a tuple whose payload is no array");
  }

  bool start_array(std::uint32_t) { return push(false); }
  bool start_map(std::uint32_t) { return push(true); }
  bool end_array() {
    Value value(std::move(frames_.back().items));
    frames_.pop_back();
    return put(std::move(value));
  }
  bool end_map() {
    Value value(std::move(frames_.back().entries));
    frames_.pop_back();
    return put(std::move(value));
  }

  void parse_error(std::size_t, std::size_t) { fail("a byte that starts no value"); }
  void insufficient_bytes(std::size_t, std::size_t) { fail("truncated"); }

  Value& root() { return root_; }
  const std::string& problem() const { return problem_; }

 private:
  struct Frame {
    bool is_map = false;
    Array items;
    Map entries;
    std::optional<Value> key;  // of a map, until its value is there
  };

  bool fail(std::string problem) {
    if (problem_.empty()) problem_ = std::move(problem);
    return false;
  }
  bool fail_depth() { return fail("nested too deep"); }

  bool push(bool is_map) {
    if (frames_.size() >= depth_left_) return fail_depth();
    frames_.emplace_back().is_map = is_map;
    return true;
  }

  bool put(Value value) {
    if (values_left_ == 0) return fail("too many values");
    --values_left_;
    if (frames_.empty()) {
      root_ = std::move(value);
      return true;
    }
    Frame& frame = frames_.back();
    if (!frame.is_map) {
      frame.items.push_back(std::move(value));
    } else if (!frame.key) {
      frame.key = std::move(value);
    } else {
      frame.entries.push_back({*std::exchange(frame.key, std::nullopt), std::move(value)});
    }
    return true;
  }

  std::size_t depth_left_;
  std::size_t& values_left_;
  std::vector<Frame> frames_;  // the open arrays and maps, outermost first
  Value root_;
  std::string problem_;
};

Result<Value> decode_within(std::string_view bytes, std::size_t depth_left, std::size_t& values_left) {
  Builder builder(depth_left, values_left);
  std::size_t end = 0;
  bool complete = false;
  try {
    complete = msgpack::parse(bytes.data(), bytes.size(), end, builder) && builder.problem().empty();
  } catch (const msgpack::unpack_error& error) {
    return invalid(fmt::format("no MessagePack: {}", error.what()));
  }
  if (!complete) {
    return invalid(
        fmt::format("no MessagePack: {}", builder.problem().empty() ? "broken" : builder.problem()));
  }
  if (end != bytes.size()) {
    return invalid(fmt::format("{} bytes behind a MessagePack value", bytes.size() - end));
  }
  return std::move(builder.root());
}

}  // namespace

Value::Value() = default;
Value::Value(Data data) : data_(std::move(data)) {}
Value::Value(std::nullptr_t) {}
Value::Value(double value) : data_(value) {}
Value::Value(const char* text) : data_(std::string(text)) {}
Value::Value(std::string_view text) : data_(std::string(text)) {}
Value::Value(std::string text) : data_(std::move(text)) {}
Value::Value(Array items) : data_(std::move(items)) {}
Value::Value(Map entries) : data_(std::move(entries)) {}
Value::Value(Ext ext) : data_(std::move(ext)) {}

Value::Value(const Value&) = default;
Value::Value(Value&&) noexcept = default;
Value& Value::operator=(const Value&) = default;
Value& Value::operator=(Value&&) noexcept = default;
Value::~Value() = default;

bool operator==(const Value& a, const Value& b) { return a.data_ == b.data_; }
bool Value::Tuple::operator==(const Tuple& other) const { return items == other.items; }

Value Value::bin(Bytes bytes) { return Value(Data(Bin{std::move(bytes)})); }
Value Value::tuple(Array items) { return Value(Data(Tuple{std::move(items)})); }

bool Value::is_nil() const { return std::holds_alternative<std::monostate>(data_); }

std::optional<bool> Value::as_bool() const {
  const bool* value = std::get_if<bool>(&data_);
  return value != nullptr ? std::optional(*value) : std::nullopt;
}

std::optional<std::int64_t> Value::as_int64() const {
  const auto* value = std::get_if<std::int64_t>(&data_);
  return value != nullptr ? std::optional(*value) : std::nullopt;
}

std::optional<std::uint64_t> Value::as_uint64() const {
  if (const auto* value = std::get_if<std::uint64_t>(&data_)) return *value;
  const auto* value = std::get_if<std::int64_t>(&data_);
  return value != nullptr && *value >= 0 ? std::optional(static_cast<std::uint64_t>(*value)) : std::nullopt;
}

std::optional<double> Value::as_double() const {
  const auto* value = std::get_if<double>(&data_);
  return value != nullptr ? std::optional(*value) : std::nullopt;
}

std::optional<double> Value::as_number() const {
  if (const auto value = as_int64()) return static_cast<double>(*value);
  if (const auto value = as_uint64()) return static_cast<double>(*value);
  return as_double();
}

const std::string* Value::as_text() const { return std::get_if<std::string>(&data_); }

const Bytes* Value::as_bin() const {
  const auto* bin = std::get_if<Bin>(&data_);
  return bin != nullptr ? &bin->bytes : nullptr;
}

const Array* Value::as_array() const { return std::get_if<Array>(&data_); }

const Array* Value::as_tuple() const {
  const auto* tuple = std::get_if<Tuple>(&data_);
  return tuple != nullptr ? &tuple->items : nullptr;
}

const Map* Value::as_map() const { return std::get_if<Map>(&data_); }
const Ext* Value::as_ext() const { return std::get_if<Ext>(&data_); }

const Value* Value::find(std::string_view key) const {
  const Map* map = as_map();
  if (map == nullptr) return nullptr;
  for (const MapEntry& entry : *map) {
    const std::string* text = entry.key.as_text();
    if (text != nullptr && *text == key) return &entry.value;
  }
  return nullptr;
}

Bytes encode(const Value& value) {
  Encoder encoder;
  encoder.value(value);
  return std::move(encoder.output.bytes);
}

Result<Value> decode(std::string_view bytes, const DecodeLimits& limits) {
  std::size_t values_left = limits.values_max;
  return decode_within(bytes, limits.depth_max, values_left);
}

}  // namespace hivemetal::wire
