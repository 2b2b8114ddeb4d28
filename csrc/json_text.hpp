// JSON strings (RFC 8259, section 7; UTF-8 by RFC 3629), unescaped and bounded.
//
// What is accepted is valid Unicode: no overlong forms, no surrogates on their own, no control
// characters below 0x20, no byte after the closing quote is looked at. A string of more than
// `kTextLimit` bytes after unescaping is refused, so memory never depends on what is sent.

#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace predawn {

inline constexpr std::size_t kTextLimit = 256;

// An unescaped string: in the body where it has no escapes, else in the reader's scratch, where
// it lasts until the next string is read. `begin`..`end`: the token in the body, with its quotes.
struct Text {
  const char* data = nullptr;
  std::size_t size = 0;
  std::size_t begin = 0;
  std::size_t end = 0;
};

// Length of the UTF-8 sequence at `p` (2 to 4 bytes, first byte >= 0x80), or 0 if it is not valid.
[[nodiscard]] inline std::size_t utf8_length(const char* p, const char* end) noexcept {
  const auto byte = [p](std::size_t i) noexcept { return static_cast<unsigned char>(p[i]); };
  const auto tail = [&byte](std::size_t i) noexcept { return (byte(i) & 0xC0U) == 0x80U; };
  const auto left = static_cast<std::size_t>(end - p);
  const unsigned char first = byte(0);
  if (first >= 0xC2 && first <= 0xDF) return left >= 2 && tail(1) ? 2 : 0;
  if (first >= 0xE0 && first <= 0xEF) {
    if (left < 3 || !tail(1) || !tail(2)) return 0;
    if (first == 0xE0 && byte(1) < 0xA0) return 0;  // overlong
    if (first == 0xED && byte(1) > 0x9F) return 0;  // surrogate
    return 3;
  }
  if (first >= 0xF0 && first <= 0xF4) {
    if (left < 4 || !tail(1) || !tail(2) || !tail(3)) return 0;
    if (first == 0xF0 && byte(1) < 0x90) return 0;  // overlong
    if (first == 0xF4 && byte(1) > 0x8F) return 0;  // beyond U+10FFFF
    return 4;
  }
  return 0;
}

// Four hexadecimal digits, or -1.
[[nodiscard]] inline std::int32_t hex4(const char* p, const char* end) noexcept {
  if (end - p < 4) return -1;
  std::int32_t value = 0;
  for (int i = 0; i < 4; ++i) {
    const char c = p[i];
    const int digit = c >= '0' && c <= '9'   ? c - '0'
                      : c >= 'a' && c <= 'f' ? c - 'a' + 10
                      : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                             : -1;
    if (digit < 0) return -1;
    value = value * 16 + digit;
  }
  return value;
}

// Writes `code` as UTF-8 and returns its length (1 to 4).
[[nodiscard]] inline std::size_t put_utf8(std::uint32_t code, char* out) noexcept {
  const auto put = [out](std::size_t i, std::uint32_t bits) noexcept {
    out[i] = static_cast<char>(static_cast<unsigned char>(bits));
  };
  const auto tail = [code](int shift) noexcept { return 0x80U | ((code >> shift) & 0x3FU); };
  if (code < 0x80) {
    put(0, code);
    return 1;
  }
  if (code < 0x800) {
    put(0, 0xC0U | (code >> 6));
    put(1, tail(0));
    return 2;
  }
  if (code < 0x10000) {
    put(0, 0xE0U | (code >> 12));
    put(1, tail(6));
    put(2, tail(0));
    return 3;
  }
  put(0, 0xF0U | (code >> 18));
  put(1, tail(12));
  put(2, tail(6));
  put(3, tail(0));
  return 4;
}

// The code point of "\uXXXX" or of a surrogate pair; `p` is after the "u" and moves past the
// digits. -1: not valid.
[[nodiscard]] inline std::int32_t unicode_escape(const char*& p, const char* end) noexcept {
  const std::int32_t high = hex4(p, end);
  if (high < 0) return -1;
  p += 4;
  if (high < 0xD800 || high > 0xDFFF) return high;
  if (high > 0xDBFF || end - p < 6 || p[0] != '\\' || p[1] != 'u') return -1;
  const std::int32_t low = hex4(p + 2, end);
  if (low < 0xDC00 || low > 0xDFFF) return -1;
  p += 6;
  return 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00);
}

// The code point of an escape; `p` is after the backslash and moves past it. -1: not valid.
[[nodiscard]] inline std::int32_t escape(const char*& p, const char* end) noexcept {
  if (p == end) return -1;
  switch (*p++) {
    case '"':
      return '"';
    case '\\':
      return '\\';
    case '/':
      return '/';
    case 'b':
      return '\b';
    case 'f':
      return '\f';
    case 'n':
      return '\n';
    case 'r':
      return '\r';
    case 't':
      return '\t';
    case 'u':
      return unicode_escape(p, end);
    default:
      return -1;
  }
}

// Reads strings; owns the scratch for those with escapes.
class TextReader {
 public:
  // `p` is after the opening quote. Returns the position after the closing one and sets
  // `data` and `size` of `text`; or nullptr and a reason, with `*at` where it went wrong.
  [[nodiscard]] const char* read(const char* p, const char* end, Text* text, const char** at,
                                 const char** reason) noexcept {
    const char* start = p;
    std::size_t used = 0;
    bool escaped = false;
    while (p != end && *p != '"') {
      const char* piece = p;
      std::size_t width = 1;
      char unescaped[4];
      const auto c = static_cast<unsigned char>(*p);
      if (c == '\\') {
        const std::int32_t code = escape(++p, end);
        if (code < 0) return fail(piece, "malformed JSON: not a valid escape", at, reason);
        if (!escaped) used = copy(start, piece);
        escaped = true;
        width = put_utf8(static_cast<std::uint32_t>(code), unescaped);
        piece = unescaped;
      } else {
        if (c < 0x20) return fail(p, "malformed JSON: control character in a string", at, reason);
        if (c >= 0x80) width = utf8_length(p, end);
        if (width == 0) return fail(p, "malformed JSON: not valid UTF-8", at, reason);
        p += width;
      }
      if (escaped && used + width <= kTextLimit) std::memcpy(scratch_ + used, piece, width);
      used += width;
      if (used > kTextLimit) return fail(start, "longer than 256 bytes", at, reason);
    }
    if (p == end) return fail(p, "malformed JSON: the body ends inside a string", at, reason);
    text->data = escaped ? scratch_ : start;
    text->size = used;
    return p + 1;
  }

 private:
  std::size_t copy(const char* from, const char* to) noexcept {
    const auto size = static_cast<std::size_t>(to - from);
    std::memcpy(scratch_, from, size);
    return size;
  }

  static const char* fail(const char* p, const char* what, const char** at,
                          const char** reason) noexcept {
    *at = p;
    *reason = what;
    return nullptr;
  }

  char scratch_[kTextLimit];
};

}  // namespace predawn
