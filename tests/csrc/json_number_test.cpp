// Numbers: the grammar, exact integers, and which way out of range a real is.
#include "json_number.hpp"

#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "expect.hpp"

namespace predawn {
namespace {

// Reads from a buffer of exactly the text's size, so that a read past it is caught.
template <typename Number, typename Read>
bool reads_whole(const std::string& text, Number* out, Read read) {
  const std::vector<char> bytes(text.begin(), text.end());
  const char* reason = nullptr;
  const char* end = bytes.data() + bytes.size();
  const char* after = read(bytes.data(), end, out, &reason);
  EXPECT((after == nullptr) == (reason != nullptr));
  return after != nullptr && after == end;
}

bool is_integer(const std::string& text, std::uint64_t expected) {
  std::uint64_t value = 0;
  return reads_whole(text, &value, read_integer) && value == expected;
}

bool is_real(const std::string& text, double expected) {
  double value = 0;
  return reads_whole(text, &value, read_real) && value == expected;
}

void test_integers_are_exact_up_to_the_last() {
  EXPECT(is_integer("0", 0));
  EXPECT(is_integer("7", 7));
  EXPECT(is_integer("18446744073709551615", std::numeric_limits<std::uint64_t>::max()));
  for (int digits = 1; digits < 20; ++digits) {
    const std::string text(static_cast<std::size_t>(digits), '9');
    EXPECT(is_integer(text, std::stoull(text)));
  }
}

void test_other_numbers_are_no_integers() {
  std::uint64_t value = 0;
  for (const char* text : {"-1", "-0", "01", "00", "1.0", "1e3", "1E3", "18446744073709551616",
                           "99999999999999999999", "100000000000000000000"}) {
    EXPECT(!reads_whole(text, &value, read_integer));
  }
}

void test_reals_follow_the_grammar() {
  EXPECT(is_real("0", 0.0));
  EXPECT(is_real("-0.5e1", -5.0));
  EXPECT(is_real("1E+2", 100.0));
  EXPECT(is_real("0.1", 0.1));
  EXPECT(is_real("1.7976931348623157e308", std::numeric_limits<double>::max()));
  double value = 0;
  for (const char* text :
       {"", "-", "+1", "01", "-01", ".5", "1.", "1.e1", "1e", "1e+", "e1", "x", "NaN", "inf"}) {
    EXPECT(!reads_whole(text, &value, read_real));
  }
}

void test_too_small_is_zero_and_too_large_is_refused() {
  double value = 1;
  EXPECT(is_real("1e-400", 0.0));
  EXPECT(is_real("0." + std::string(400, '0') + "1", 0.0));
  EXPECT(is_real("1e-99999999999999999999999", 0.0));
  EXPECT(is_real("0e99999999999999999999999", 0.0));
  EXPECT(!reads_whole("1e400", &value, read_real));
  EXPECT(!reads_whole("-1e400", &value, read_real));
  EXPECT(!reads_whole(std::string(400, '9'), &value, read_real));
  EXPECT(!reads_whole("1e99999999999999999999999", &value, read_real));
}

void test_magnitude_is_that_of_the_first_digit() {
  const auto magnitude = [](const char* text) {
    return decimal_magnitude(text, text + std::strlen(text));
  };
  EXPECT(magnitude("1") == 1);
  EXPECT(magnitude("12.5") == 2);
  EXPECT(magnitude("0.02e5") == 4);
  EXPECT(magnitude("0.002") == -2);
  EXPECT(magnitude("5e-3") == -2);
}

}  // namespace
}  // namespace predawn

int main() {
  predawn::test_integers_are_exact_up_to_the_last();
  predawn::test_other_numbers_are_no_integers();
  predawn::test_reals_follow_the_grammar();
  predawn::test_too_small_is_zero_and_too_large_is_refused();
  predawn::test_magnitude_is_that_of_the_first_digit();
  return predawn::testing::failures == 0 ? 0 : 1;
}
