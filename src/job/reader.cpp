#include "job/reader.h"

#include <algorithm>
#include <charconv>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <numeric>
#include <optional>

#include "job/units.h"

namespace hivemetal::job {

namespace {

// Foreign text in a message: cut to a length that fits one line, without control characters.
std::string shown(std::string_view text) {
  std::string result(text.substr(0, 60));
  for (char& c : result) {
    if (static_cast<unsigned char>(c) < ' ' || c == 0x7f) c = '?';
  }
  if (text.size() > result.size()) {
    while (!result.empty() && (result.back() & 0xc0) == 0x80) result.pop_back();  // no half character
    result += "…";
  }
  return result;
}

template <class Number>
std::optional<Number> number_of(std::string_view text) {
  Number number{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number;
}

}  // namespace

std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);  // distances of the read part of `a` to each beginning of `b`
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 0; i < a.size(); ++i) {
    std::size_t diagonal = std::exchange(row[0], i + 1);
    for (std::size_t j = 0; j < b.size(); ++j) {
      const std::size_t replaced = diagonal + (a[i] == b[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({replaced, row[j] + 1, row[j + 1] + 1});
    }
  }
  return row.back();
}

Error Reader::error_at(int line, std::string_view message) const {
  return {ErrorCode::Invalid, line > 0 ? fmt::format("{}:{}: {}", file_name_, line, message)
                                       : fmt::format("{}: {}", file_name_, message)};
}

Error Reader::error(std::string_view message) const { return error_at(tree().line, message); }

Error Reader::wrong_kind(Tree::Kind wanted) const {
  const std::string_view name = path_.empty() ? "the job" : std::string_view(path_);
  return error(fmt::format("{} must be {}, here is {}", name, name_of(wanted), name_of(tree().kind)));
}

Reader Reader::child(const Tree& tree, std::string_view name) const {
  return Reader(tree, path_.empty() ? std::string(name) : fmt::format("{}.{}", path_, name), file_name_);
}

Result<std::string> Reader::text() const {
  if (tree().kind != Tree::Kind::Scalar) return wrong_kind(Tree::Kind::Scalar);
  if (tree().text.find('\0') != std::string::npos)
    return error(fmt::format("{} contains a zero byte", path_));
  return tree().text;
}

Result<std::size_t> Reader::one_of(std::initializer_list<std::string_view> names) const {
  const auto value = text();
  if (!value) return value.error();
  for (std::size_t i = 0; i < names.size(); ++i) {
    if (names.begin()[i] == *value) return i;
  }
  return error(fmt::format("{} is '{}'; it must be one of {}", path_, shown(*value), fmt::join(names, ", ")));
}

Result<std::uint32_t> Reader::integer(std::uint32_t min, std::uint32_t max) const {
  const auto value = text();
  if (!value) return value.error();
  const std::string wanted = fmt::format("a whole number from {} to {}", min, max);
  if (tree().quoted) return error(fmt::format("{} is text; write {} without quotes", path_, wanted));
  const auto number = number_of<std::int64_t>(*value);
  if (!number || *number < min || *number > max) {
    return error(fmt::format("{} is '{}'; it must be {}", path_, shown(*value), wanted));
  }
  return static_cast<std::uint32_t>(*number);
}

Result<double> Reader::number(double min, double max) const {
  const auto value = text();
  if (!value) return value.error();
  const std::string wanted = fmt::format("a number from {} to {}", min, max);
  if (tree().quoted) return error(fmt::format("{} is text; write {} without quotes", path_, wanted));
  const auto number = number_of<double>(*value);
  if (!number || !(*number >= min && *number <= max)) {
    return error(fmt::format("{} is '{}'; it must be {}", path_, shown(*value), wanted));
  }
  return *number;
}

Result<std::uint64_t> Reader::size() const {
  const auto value = text();
  if (!value) return value.error();
  if (value->size() > 32) return error(fmt::format("{}: '{}' is no size", path_, shown(*value)));
  const auto size = parse_size(*value);
  return size ? size : Result<std::uint64_t>(error(fmt::format("{}: {}", path_, size.error().message)));
}

Result<std::chrono::milliseconds> Reader::duration() const {
  const auto value = text();
  if (!value) return value.error();
  if (value->size() > 32) return error(fmt::format("{}: '{}' is no duration", path_, shown(*value)));
  const auto duration = parse_duration(*value);
  if (!duration) return error(fmt::format("{}: {}", path_, duration.error().message));
  return *duration;
}

Result<std::vector<Reader>> Reader::items(std::size_t items_max) const {
  if (tree().kind != Tree::Kind::List) return wrong_kind(Tree::Kind::List);
  if (tree().items.size() > items_max) {
    return error(
        fmt::format("{} has {} items, at most {} are allowed", path_, tree().items.size(), items_max));
  }
  std::vector<Reader> readers;
  for (const Tree& item : tree().items) {
    readers.push_back(Reader(item, fmt::format("{}[{}]", path_, readers.size()), file_name_));
  }
  return readers;
}

Result<std::map<std::string, Reader, std::less<>>> Reader::entries(
    std::initializer_list<std::string_view> keys) const {
  if (tree().kind != Tree::Kind::Map) return wrong_kind(Tree::Kind::Map);
  std::map<std::string, Reader, std::less<>> readers;
  for (const auto& [key, line, value] : tree().entries) {
    if (std::find(keys.begin(), keys.end(), key) == keys.end()) {
      const std::string word(key.substr(0, 32));
      const auto nearest =
          std::min_element(keys.begin(), keys.end(), [&](std::string_view a, std::string_view b) {
            return edit_distance(word, a) < edit_distance(word, b);
          });
      const bool near = edit_distance(word, *nearest) <= std::max<std::size_t>(1, nearest->size() / 3);
      const std::string where = path_.empty() ? "" : fmt::format(" in {}", path_);
      return error_at(line, fmt::format("unknown key '{}'{}; {}", shown(key), where,
                                        near ? fmt::format("did you mean '{}'?", *nearest)
                                             : fmt::format("known keys: {}", fmt::join(keys, ", "))));
    }
    readers.emplace(key, child(value, key));
  }
  return readers;
}

Result<std::vector<std::pair<std::string, Reader>>> Reader::pairs(std::size_t pairs_max) const {
  if (tree().kind != Tree::Kind::Map) return wrong_kind(Tree::Kind::Map);
  if (tree().entries.size() > pairs_max) {
    return error(
        fmt::format("{} has {} entries, at most {} are allowed", path_, tree().entries.size(), pairs_max));
  }
  std::vector<std::pair<std::string, Reader>> readers;
  for (const auto& [key, line, value] : tree().entries) {
    readers.emplace_back(key, child(value, shown(key)));
  }
  return readers;
}

}  // namespace hivemetal::job
