// Strings: all of Unicode goes in and comes out, everything else is refused, within bounds.
#include "json_text.hpp"

#include <string>
#include <vector>

#include "expect.hpp"

namespace predawn {
namespace {

constexpr const char* kRefused = "\x01refused";

// What a string with this inside says, or kRefused; the buffer ends where the text does.
std::string unescaped(const std::string& inside, const std::string& after = "\"") {
  const std::string text = inside + after;
  const std::vector<char> bytes(text.begin(), text.end());
  const char* end = bytes.data() + bytes.size();
  TextReader reader;
  Text out;
  const char* at = nullptr;
  const char* reason = nullptr;
  const char* stop = reader.read(bytes.data(), end, &out, &at, &reason);
  if (stop == nullptr) {
    EXPECT(reason != nullptr && at >= bytes.data() && at <= end);
    return kRefused;
  }
  EXPECT(stop == end);
  return {out.data, out.size};
}

void test_every_code_point_goes_through_as_it_is_and_escaped() {
  for (std::uint32_t code = 0x20; code <= 0x10FFFF; ++code) {
    if (code >= 0xD800 && code <= 0xDFFF) continue;
    char utf8[4];
    const std::string plain(utf8, put_utf8(code, utf8));
    if (code != '"' && code != '\\') EXPECT(unescaped(plain) == plain);
    char escaped[16];
    if (code < 0x10000) {
      std::snprintf(escaped, sizeof escaped, "\\u%04X", code);
    } else {
      std::snprintf(escaped, sizeof escaped, "\\u%04x\\u%04x", 0xD800 + ((code - 0x10000) >> 10),
                    0xDC00 + ((code - 0x10000) & 0x3FF));
    }
    EXPECT(unescaped(escaped) == plain);
  }
}

void test_short_escapes() {
  EXPECT(unescaped(R"(\"\\\/\b\f\n\r\t)") == "\"\\/\b\f\n\r\t");
  EXPECT(unescaped(R"(\u0000)") == std::string(1, '\0'));
  EXPECT(unescaped(R"(a\u0062c)") == "abc");
}

void test_what_is_no_escape_is_refused() {
  for (const char* inside : {R"(\x)", R"(\u12)", R"(\u12g4)", R"(\ud800)", R"(\udc00)",
                             R"(\ud800x)", R"(\ud800\n)", R"(\ud800\ud800)", R"(\U0041)"}) {
    EXPECT(unescaped(inside) == kRefused);
  }
}

void test_what_is_no_utf8_is_refused() {
  for (const char* inside :
       {"\x80", "\xbf", "\xc0\x80", "\xc1\xbf", "\xc3", "\xc3(", "\xe0\x80\x80", "\xe0\x9f\xbf",
        "\xe2\x82", "\xed\xa0\x80", "\xed\xbf\xbf", "\xf0\x80\x80\x80", "\xf0\x8f\xbf\xbf",
        "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xff", "\xf0\x9f\x98"}) {
    EXPECT(unescaped(inside) == kRefused);
  }
}

void test_control_characters_are_refused() {
  for (char c = 0; c < 0x20; ++c) EXPECT(unescaped(std::string(1, c)) == kRefused);
  EXPECT(unescaped("\x7f") == "\x7f");
}

void test_a_string_ends_with_its_quote() {
  for (const char* inside : {"", "a", "\\", "\\u", "\\u00", "\\ud800", "\\ud83d\\u", "\xe2\x82"}) {
    EXPECT(unescaped(inside, "") == kRefused);
  }
}

void test_the_limit_counts_bytes_after_unescaping() {
  std::string escapes;
  for (std::size_t i = 0; i < kTextLimit; ++i) escapes += "\\u0041";
  EXPECT(unescaped(escapes) == std::string(kTextLimit, 'A'));
  EXPECT(unescaped(escapes + "b") == kRefused);
  EXPECT(unescaped(std::string(kTextLimit, 'x')).size() == kTextLimit);
  EXPECT(unescaped(std::string(kTextLimit + 1, 'x')) == kRefused);
  EXPECT(unescaped(std::string(kTextLimit - 1, 'x') + "\xc3\xa9") == kRefused);
  EXPECT(unescaped(std::string(kTextLimit - 1, 'x') + "\\ud83d\\ude00") == kRefused);
}

}  // namespace
}  // namespace predawn

int main() {
  predawn::test_every_code_point_goes_through_as_it_is_and_escaped();
  predawn::test_short_escapes();
  predawn::test_what_is_no_escape_is_refused();
  predawn::test_what_is_no_utf8_is_refused();
  predawn::test_control_characters_are_refused();
  predawn::test_a_string_ends_with_its_quote();
  predawn::test_the_limit_counts_bytes_after_unescaping();
  return predawn::testing::failures == 0 ? 0 : 1;
}
