#include "identity/base58.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <fmt/format.h>
#include <vector>

namespace hivemetal::identity {

namespace {

constexpr std::string_view kAlphabet = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";

constexpr std::array<std::int8_t, 256> digit_values() {
  std::array<std::int8_t, 256> values{};
  for (auto& value : values) value = -1;
  for (std::size_t i = 0; i < kAlphabet.size(); ++i) {
    values[static_cast<unsigned char>(kAlphabet[i])] = static_cast<std::int8_t>(i);
  }
  return values;
}

constexpr auto kDigitValues = digit_values();

// `number`, in base `base` and least significant digit first, becomes number * factor + addend.
void multiply_add(std::vector<std::uint8_t>& number, unsigned base, unsigned factor, unsigned addend) {
  unsigned carry = addend;
  for (auto& digit : number) {
    carry += digit * factor;
    digit = static_cast<std::uint8_t>(carry % base);
    carry /= base;
  }
  for (; carry > 0; carry /= base) number.push_back(static_cast<std::uint8_t>(carry % base));
}

}  // namespace

std::string base58_encode(std::string_view bytes) {
  const auto zeros = std::min(bytes.find_first_not_of('\0'), bytes.size());
  std::vector<std::uint8_t> digits;
  for (const unsigned char byte : bytes.substr(zeros)) multiply_add(digits, 58, 256, byte);

  std::string text(zeros, kAlphabet[0]);
  for (auto digit = digits.rbegin(); digit != digits.rend(); ++digit) text += kAlphabet[*digit];
  return text;
}

Result<Bytes> base58_decode(std::string_view text) {
  if (text.size() > kBase58TextMax) {
    return Error{ErrorCode::Invalid,
                 fmt::format("{} characters of base58, at most {} are read", text.size(), kBase58TextMax)};
  }
  const auto zeros = std::min(text.find_first_not_of(kAlphabet[0]), text.size());
  std::vector<std::uint8_t> digits;
  for (std::size_t i = zeros; i < text.size(); ++i) {
    const auto value = kDigitValues[static_cast<unsigned char>(text[i])];
    if (value < 0) {
      return Error{ErrorCode::Invalid, fmt::format("character {} (code {:#04x}) is not of base58", i + 1,
                                                   static_cast<unsigned char>(text[i]))};
    }
    multiply_add(digits, 256, 58, static_cast<unsigned>(value));
  }
  Bytes bytes(zeros, '\0');
  bytes.append(digits.rbegin(), digits.rend());
  return bytes;
}

}  // namespace hivemetal::identity
