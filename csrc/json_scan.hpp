// A strict, pull-style JSON scanner (RFC 8259): the caller asks for what its schema expects next.
//
// One pass over the bytes, no allocation, no recursion: a value is only entered where the schema
// has a place for it, so the depth of what is accepted is the depth of the schema, and a body
// nested a million deep is refused at its first bracket that has no place.
//
// The first fault sticks: `reason()` is a sentence that lives for ever, `at()` the offset in the
// body. Functions return false, or -1, after a fault; the caller returns at once.

#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "json_number.hpp"
#include "json_text.hpp"

namespace predawn {

class Scanner {
 public:
  Scanner() noexcept = default;
  Scanner(const Scanner&) = delete;
  Scanner& operator=(const Scanner&) = delete;

  void start(const char* data, std::size_t size) noexcept {
    begin_ = data;
    p_ = data;
    end_ = data + size;
    reason_ = nullptr;
  }

  // The next byte that is not white space, not consumed; 0 at the end of the body.
  [[nodiscard]] char peek() noexcept {
    while (p_ != end_ && (*p_ == ' ' || *p_ == '\n' || *p_ == '\r' || *p_ == '\t')) ++p_;
    return p_ == end_ ? '\0' : *p_;
  }

  // Offset of the byte that `peek` looks at.
  [[nodiscard]] std::size_t offset() const noexcept {
    return static_cast<std::size_t>(p_ - begin_);
  }

  [[nodiscard]] bool open_object() noexcept { return open('{', "must be an object"); }
  [[nodiscard]] bool open_array() noexcept { return open('[', "must be an array"); }

  // 1: `name` is the next member's and its value follows; 0: the object has ended; -1: fault.
  [[nodiscard]] int member(Text* name, bool first) noexcept {
    const int more = separator('}', first);
    if (more <= 0) return more;
    if (peek() != '"') return fault("malformed JSON: expected a member name in quotes");
    if (!string(name)) return -1;
    if (peek() != ':') return fault("malformed JSON: expected ':' after a member name");
    ++p_;
    return 1;
  }

  // 1: another element follows; 0: the array has ended; -1: fault.
  [[nodiscard]] int element(bool first) noexcept {
    const int more = separator(']', first);
    if (more > 0 && peek() == ']') return fault("malformed JSON: a comma before ']'");
    return more;
  }

  // A string of 1 to `kTextLimit` bytes.
  [[nodiscard]] bool string(Text* text) noexcept {
    if (peek() != '"') return mismatch("must be a string");
    const char* token = p_;
    const char* at = p_;
    const char* reason = nullptr;
    const char* after = reader_.read(p_ + 1, end_, text, &at, &reason);
    if (after == nullptr) {
      p_ = at;
      return fault(reason) > 0;
    }
    p_ = after;
    text->begin = static_cast<std::size_t>(token - begin_);
    text->end = offset();
    if (text->size != 0) return true;
    p_ = token;
    return fault("must not be empty") > 0;
  }

  [[nodiscard]] bool integer(std::uint64_t* out) noexcept {
    if (!at_number()) return mismatch("must be an integer from 0 to 2^64 - 1");
    const char* reason = nullptr;
    const char* after = read_integer(p_, end_, out, &reason);
    return advance(after, reason);
  }

  [[nodiscard]] bool real(double* out) noexcept {
    if (!at_number()) return mismatch("must be a number");
    const char* reason = nullptr;
    const char* after = read_real(p_, end_, out, &reason);
    return advance(after, reason);
  }

  // A number whose nearest 32-bit float is finite.
  [[nodiscard]] bool real32(float* out) noexcept {
    double wide = 0.0;
    const char* token = p_;
    if (!real(&wide)) return false;
    *out = static_cast<float>(wide);
    if (*out - *out == 0.0F) return true;
    p_ = token;
    return fault("too large for a 32-bit float") > 0;
  }

  [[nodiscard]] bool boolean(bool* out) noexcept {
    const char c = peek();
    if (c != 't' && c != 'f') return mismatch("must be true or false");
    *out = c == 't';
    const char* word = *out ? "true" : "false";
    const std::size_t size = std::strlen(word);
    if (static_cast<std::size_t>(end_ - p_) < size || std::memcmp(p_, word, size) != 0) {
      return fault("malformed JSON: not a literal") > 0;
    }
    p_ += size;
    return true;
  }

  // An id: an integer (`*is_string` false) or a string.
  [[nodiscard]] bool id(std::uint64_t* number, Text* text, bool* is_string) noexcept {
    const char c = peek();
    *is_string = c == '"';
    if (*is_string) return string(text);
    if (!at_number()) return mismatch("must be an id: an integer from 0 to 2^64 - 1 or a string");
    text->begin = offset();
    if (!integer(number)) return false;
    text->end = offset();
    return true;
  }

  // Nothing but white space may follow the top-level value.
  [[nodiscard]] bool finish() noexcept {
    if (peek() == '\0' && p_ == end_) return true;
    return fault("malformed JSON: bytes after the end of the object") > 0;
  }

  // Records the fault, unless there is one; always -1.
  int fault(const char* reason) noexcept {
    if (reason_ == nullptr) {
      reason_ = reason;
      at_ = offset();
    }
    return -1;
  }

  [[nodiscard]] const char* reason() const noexcept { return reason_; }
  [[nodiscard]] std::size_t at() const noexcept { return at_; }

 private:
  [[nodiscard]] bool at_number() noexcept {
    const char c = peek();
    return is_digit(c) || c == '-';
  }

  [[nodiscard]] bool open(char bracket, const char* reason) noexcept {
    if (peek() != bracket) return mismatch(reason);
    ++p_;
    return true;
  }

  [[nodiscard]] bool advance(const char* after, const char* reason) noexcept {
    if (after == nullptr) return fault(reason) > 0;
    p_ = after;
    return true;
  }

  // The value at hand is not what the schema asks for; if it is no value at all, that is said.
  bool mismatch(const char* reason) noexcept {
    const char c = peek();
    const bool value = c == '"' || c == '{' || c == '[' || c == 't' || c == 'f' || c == 'n' ||
                       c == '-' || is_digit(c);
    if (p_ == end_) return fault("malformed JSON: the body ends too early") > 0;
    if (c == 'N' || c == 'I') return fault("malformed JSON: NaN and Infinity are no numbers") > 0;
    return fault(value ? reason : "malformed JSON: expected a value") > 0;
  }

  [[nodiscard]] int separator(char closing, bool first) noexcept {
    const char c = peek();
    if (c == closing) {
      ++p_;
      return 0;
    }
    if (first)
      return c == '\0' && p_ == end_ ? fault("malformed JSON: the body ends too early") : 1;
    if (c != ',')
      return fault(closing == '}' ? "malformed JSON: expected ',' or '}'"
                                  : "malformed JSON: expected ',' or ']'");
    ++p_;
    return 1;
  }

  const char* begin_ = nullptr;
  const char* p_ = nullptr;
  const char* end_ = nullptr;
  const char* reason_ = nullptr;
  std::size_t at_ = 0;
  TextReader reader_;
};

}  // namespace predawn
