// Both policies move the same words and see the same numbers.
#include "atomics.hpp"

#include "expect.hpp"

namespace predawn {
namespace {

template <class A>
void expect_words_come_back() {
  alignas(64) std::byte shared[192] = {};
  std::byte written[192];
  for (std::size_t i = 0; i < sizeof written; ++i) written[i] = static_cast<std::byte>(i * 7);
  for (const std::size_t bytes : {8, 16, 40, 64, 192}) {
    std::memset(shared, 0, sizeof shared);
    std::byte read[200] = {};
    A::store_words(shared, written, bytes);
    A::load_words(shared, read, bytes);
    EXPECT(std::memcmp(read, written, bytes) == 0);
    EXPECT(read[bytes] == std::byte{0});
    EXPECT(bytes == sizeof shared || shared[bytes] == std::byte{0});
  }
}

template <class A>
void expect_sequence_numbers_are_kept() {
  typename A::template Word<std::uint64_t> seq{4};
  EXPECT(A::reread(seq) == 4);
  A::open_write(seq, 5);
  EXPECT(A::reread(seq) == 5);
}

void test_rows_come_back_whole_words_at_a_time() {
  expect_words_come_back<StdAtomics>();
  expect_words_come_back<TsanAtomics>();
}

void test_sequence_numbers_are_opened_and_read_again() {
  expect_sequence_numbers_are_kept<StdAtomics>();
  expect_sequence_numbers_are_kept<TsanAtomics>();
}

}  // namespace
}  // namespace predawn

int main() {
  predawn::test_rows_come_back_whole_words_at_a_time();
  predawn::test_sequence_numbers_are_opened_and_read_again();
  return predawn::testing::failures == 0 ? 0 : 1;
}
