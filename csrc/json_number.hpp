// JSON numbers (RFC 8259, section 6), strictly: no "+1", "01", ".5", "1.", NaN or Infinity.
//
// A function returns the position after the number, or nullptr with `*reason` set to a sentence
// that lives for ever. Nothing is read at or after `end`; the text need not be NUL-terminated.

#pragma once

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <system_error>

namespace predawn {

[[nodiscard]] inline bool is_digit(char c) noexcept { return c >= '0' && c <= '9'; }

[[nodiscard]] inline bool goes_on_as_real(const char* p, const char* end) noexcept {
  return p != end && (*p == '.' || *p == 'e' || *p == 'E');
}

// An unsigned 64-bit integer. Ids are exact: "1.0", "-1" and "1e3" are refused, not rounded.
[[nodiscard]] inline const char* read_integer(const char* p, const char* end, std::uint64_t* out,
                                              const char** reason) noexcept {
  constexpr std::uint64_t kMax = std::numeric_limits<std::uint64_t>::max();
  if (p != end && *p == '-') {
    *reason = "must not be negative";
    return nullptr;
  }
  const char* start = p;
  std::uint64_t value = 0;
  for (; p != end && is_digit(*p); ++p) {
    const auto digit = static_cast<std::uint64_t>(*p - '0');
    if (value > kMax / 10 || (value == kMax / 10 && digit > kMax % 10)) {
      *reason = "larger than 18446744073709551615 (2^64 - 1)";
      return nullptr;
    }
    value = value * 10 + digit;
  }
  if (*start == '0' && p - start > 1) {
    *reason = "malformed JSON: a number must not start with a superfluous 0";
    return nullptr;
  }
  if (goes_on_as_real(p, end)) {
    *reason = "must be an integer, written without fraction or exponent";
    return nullptr;
  }
  *out = value;
  return p;
}

// Power of ten of the first digit that is not 0, for a number that `read_real` has accepted
// ("0.02e5" -> 3). It tells overflow from underflow when from_chars only says "out of range".
[[nodiscard]] inline long decimal_magnitude(const char* p, const char* end) noexcept {
  constexpr long kFar = 100'000'000;
  long position = 0;
  bool fraction = false;
  bool found = false;
  for (; p != end && *p != 'e' && *p != 'E'; ++p) {
    if (*p == '.') {
      fraction = true;
    } else if (is_digit(*p)) {
      found = found || *p != '0';
      if (!fraction && found) ++position;
      if (fraction && !found) --position;
    }
  }
  long exponent = 0;
  bool negative = false;
  for (; p != end; ++p) {
    if (*p == '-') negative = true;
    if (is_digit(*p)) exponent = std::min(kFar, exponent * 10 + (*p - '0'));
  }
  return position + (negative ? -exponent : exponent);
}

// End of a number by the grammar alone, or nullptr.
[[nodiscard]] inline const char* real_end(const char* p, const char* end) noexcept {
  const auto digits = [&p, end]() noexcept {
    const char* start = p;
    while (p != end && is_digit(*p)) ++p;
    return p - start;
  };
  if (p != end && *p == '-') ++p;
  const char* first = p;
  const auto whole = digits();
  if (whole == 0 || (*first == '0' && whole > 1)) return nullptr;
  if (p != end && *p == '.') {
    ++p;
    if (digits() == 0) return nullptr;
  }
  if (p != end && (*p == 'e' || *p == 'E')) {
    ++p;
    if (p != end && (*p == '+' || *p == '-')) ++p;
    if (digits() == 0) return nullptr;
  }
  return p;
}

// A finite double, correctly rounded; too small ones become 0.
[[nodiscard]] inline const char* read_real(const char* p, const char* end, double* out,
                                           const char** reason) noexcept {
  const char* stop = real_end(p, end);
  if (stop == nullptr) {
    *reason = "malformed JSON: not a number";
    return nullptr;
  }
  const auto result = std::from_chars(p, stop, *out);
  if (result.ec == std::errc::result_out_of_range) {
    if (decimal_magnitude(p, stop) > 0) {
      *reason = "too large for a 64-bit float";
      return nullptr;
    }
    *out = 0.0;
  }
  return stop;
}

}  // namespace predawn
