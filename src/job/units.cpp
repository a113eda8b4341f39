#include "job/units.h"

#include <charconv>
#include <fmt/format.h>
#include <optional>

namespace hivemetal::job {

namespace {

constexpr std::uint64_t kSizeMax = std::uint64_t{1} << 50;  // 1024 TiB
constexpr std::uint64_t kMillisecondsMax = std::uint64_t{30} * 24 * 3600 * 1000;

struct Unit {
  std::string_view name;
  std::uint64_t factor;
};

constexpr Unit kSizeUnits[] = {
    {"TiB", std::uint64_t{1} << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"B", 1}};
constexpr Unit kTimeUnits[] = {{"h", 3'600'000}, {"m", 60'000}, {"s", 1000}, {"ms", 1}};

struct Quantity {
  std::uint64_t number;
  std::string_view unit;
};

Error invalid(std::string message) { return {ErrorCode::Invalid, std::move(message)}; }

// A whole number and what follows it; blanks between them are skipped.
std::optional<Quantity> split(std::string_view text) {
  Quantity quantity{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), quantity.number);
  if (error != std::errc()) return std::nullopt;
  quantity.unit = text.substr(static_cast<std::size_t>(end - text.data()));
  while (quantity.unit.starts_with(' ')) quantity.unit.remove_prefix(1);
  return quantity;
}

// What to write instead of a unit of a thousand, such as GB.
std::string advice_for_unit(const Quantity& quantity) {
  for (const auto& unit : kSizeUnits) {
    const bool same_letter = !quantity.unit.empty() && (quantity.unit[0] | 0x20) == (unit.name[0] | 0x20);
    if (same_letter && unit.factor > 1) {
      return fmt::format("write {}{} (1 {} is {} bytes)", quantity.number, unit.name, unit.name, unit.factor);
    }
  }
  return "write KiB, MiB, GiB or TiB";
}

template <std::size_t kCount>
std::string format(std::uint64_t value, const Unit (&units)[kCount]) {
  if (value == 0) return "0";
  for (const auto& [name, factor] : units) {
    if (value % factor == 0) return fmt::format("{}{}", value / factor, name);
  }
  return "0";
}

}  // namespace

Result<std::uint64_t> parse_size(std::string_view text) {
  if (text.starts_with('-')) return invalid(fmt::format("'{}' is negative", text));
  const auto quantity = split(text);
  if (!quantity || quantity->unit.starts_with('.')) {
    return invalid(
        fmt::format("'{}' is no size; write a whole number and its unit, such as 512MiB or 2GiB", text));
  }
  if (quantity->unit.empty()) {
    if (quantity->number == 0) return 0;
    return invalid(fmt::format("'{}' lacks a unit; write {}MiB or {}GiB", text, text, text));
  }
  for (const auto& [name, factor] : kSizeUnits) {
    if (quantity->unit != name) continue;
    if (quantity->number > kSizeMax / factor) return invalid(fmt::format("'{}' is more than 1024TiB", text));
    return quantity->number * factor;
  }
  return invalid(
      fmt::format("'{}' has the unknown unit '{}'; {}", text, quantity->unit, advice_for_unit(*quantity)));
}

Result<std::chrono::milliseconds> parse_duration(std::string_view text) {
  if (text.starts_with('-')) return invalid(fmt::format("'{}' is negative", text));
  const auto quantity = split(text);
  if (!quantity || quantity->unit.starts_with('.')) {
    return invalid(fmt::format(
        "'{}' is no duration; write a whole number and its unit, such as 500ms, 60s, 5m or 1h", text));
  }
  if (quantity->unit.empty()) {
    if (quantity->number == 0) return std::chrono::milliseconds(0);
    return invalid(fmt::format("'{}' lacks a unit; write {}s or {}m", text, text, text));
  }
  for (const auto& [name, factor] : kTimeUnits) {
    if (quantity->unit != name) continue;
    if (quantity->number > kMillisecondsMax / factor)
      return invalid(fmt::format("'{}' is more than 30 days", text));
    return std::chrono::milliseconds(quantity->number * factor);
  }
  return invalid(fmt::format("'{}' has the unknown unit '{}'; write ms, s, m or h", text, quantity->unit));
}

std::string format_size(std::uint64_t bytes) { return format(bytes, kSizeUnits); }

std::string format_duration(std::chrono::milliseconds duration) {
  return format(static_cast<std::uint64_t>(duration.count()), kTimeUnits);
}

}  // namespace hivemetal::job
