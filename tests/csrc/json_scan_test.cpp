// The scanner: separators, first faults, nothing read past the end whatever the bytes.
#include "json_scan.hpp"

#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "expect.hpp"

namespace predawn {
namespace {

// A body in a buffer of exactly its size, and a scanner on it.
struct Scan {
  explicit Scan(std::string_view text) : bytes(text.begin(), text.end()) {
    scanner.start(bytes.data(), bytes.size());
  }
  std::vector<char> bytes;
  Scanner scanner;
};

// {"a": [1, 2, ...], ...}: the sum of all numbers, or -1 on a fault.
long sum_of(std::string_view text) {
  Scan scan(text);
  Text name;
  std::uint64_t number = 0;
  long sum = 0;
  if (!scan.scanner.open_object()) return -1;
  int more = scan.scanner.member(&name, true);
  while (more > 0) {
    if (!scan.scanner.open_array()) return -1;
    int next = scan.scanner.element(true);
    while (next > 0) {
      if (!scan.scanner.integer(&number)) return -1;
      sum += static_cast<long>(number);
      next = scan.scanner.element(false);
    }
    if (next < 0) return -1;
    more = scan.scanner.member(&name, false);
  }
  return more == 0 && scan.scanner.finish() ? sum : -1;
}

void test_objects_and_arrays_with_any_white_space() {
  EXPECT(sum_of("{}") == 0);
  EXPECT(sum_of(R"({"a":[]})") == 0);
  EXPECT(sum_of(R"({"a":[1,2],"b":[3]})") == 6);
  EXPECT(sum_of(" \n\r\t{ \"a\" : [ 1 , 2 ] , \"b\" : [ ] } \n") == 3);
}

void test_separators_are_where_they_belong() {
  for (const char* text : {"",
                           " ",
                           "{",
                           "}",
                           "[",
                           "{,}",
                           R"({"a"})",
                           R"({"a":})",
                           R"({"a":[1,]})",
                           R"({"a":[,1]})",
                           R"({"a":[1 2]})",
                           R"({"a":[1],})",
                           R"({"a":[1]"b":[2]})",
                           R"({"a":[1]}})",
                           R"({"a":[1]}x)",
                           R"({a:[1]})",
                           R"({"a":[1])",
                           R"({"a":[1)",
                           R"({"a":[)",
                           R"({"":[1]})",
                           "{\"a\":[1]}\v"}) {
    EXPECT(sum_of(text) == -1);
  }
}

void test_the_first_fault_sticks() {
  Scan scan("[x");
  EXPECT(!scan.scanner.open_object());
  const std::string first = scan.scanner.reason();
  EXPECT(scan.scanner.fault("another") == -1);
  EXPECT(first == scan.scanner.reason());
  EXPECT(scan.scanner.at() == 0);
}

void test_what_is_no_value_at_all_is_malformed() {
  for (const char* text : {"", "x", "NaN", "Infinity", "]", ",", "'a'"}) {
    Scan scan(text);
    double value = 0;
    EXPECT(!scan.scanner.real(&value));
    EXPECT(std::string_view(scan.scanner.reason()).starts_with("malformed JSON"));
  }
  Scan scan("null");
  double value = 0;
  EXPECT(!scan.scanner.real(&value));
  EXPECT(scan.scanner.reason() == std::string_view("must be a number"));
}

void test_floats_must_be_finite_in_32_bits() {
  float value = 0;
  EXPECT(Scan("3.4028235e38").scanner.real32(&value));
  EXPECT(!Scan("3.5e38").scanner.real32(&value));
  EXPECT(!Scan("-1e39").scanner.real32(&value));
  EXPECT(Scan("1e-50").scanner.real32(&value) && value == 0.0F);
}

void test_booleans_are_whole_words() {
  bool value = false;
  EXPECT(Scan("true").scanner.boolean(&value) && value);
  EXPECT(Scan("false").scanner.boolean(&value) && !value);
  for (const char* text : {"t", "tru", "fals", "truE", "1", "null"}) {
    EXPECT(!Scan(text).scanner.boolean(&value));
  }
}

void test_random_bytes_never_read_past_the_end() {
  std::mt19937 random(7);
  const std::string alphabet = R"({}[],:"\u0d8a1e-.+ tf)";
  for (int round = 0; round < 200'000; ++round) {
    std::string text(random() % 12, ' ');
    for (char& c : text) {
      c = random() % 8 == 0 ? static_cast<char>(random()) : alphabet[random() % alphabet.size()];
    }
    sum_of(text);
    sum_of(R"({"a":[)" + text);
    sum_of("{\"" + text);
  }
}

}  // namespace
}  // namespace predawn

int main() {
  predawn::test_objects_and_arrays_with_any_white_space();
  predawn::test_separators_are_where_they_belong();
  predawn::test_the_first_fault_sticks();
  predawn::test_what_is_no_value_at_all_is_malformed();
  predawn::test_floats_must_be_finite_in_32_bits();
  predawn::test_booleans_are_whole_words();
  predawn::test_random_bytes_never_read_past_the_end();
  return predawn::testing::failures == 0 ? 0 : 1;
}
