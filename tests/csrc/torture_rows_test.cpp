// A row says in every lane what it is: whatever is changed in it is seen.
#include "torture_rows.hpp"

#include "expect.hpp"

namespace predawn::torture {
namespace {

constexpr Written kWritten{.key = 77, .epoch = 5, .stamp = 123'456, .at_ms = 987'654'321};
using Row = std::array<float, kDim>;

Row row_of(const Written& written) {
  Row row;
  make_row(written, row.data());
  return row;
}

void test_a_row_says_what_was_written() {
  const RowRead read = read_row(row_of(kWritten).data());
  EXPECT(read.odd_one == 0 && read.written.value() == kWritten.value());
  EXPECT(read.written.key == 77 && read.written.epoch == 5 && read.written.stamp == 123'456);
  EXPECT(read.written.at_ms == 987'654'321 && read.written.origin() == 1);
}

void test_each_changed_bit_is_seen() {
  for (std::size_t bit = 0; bit < sizeof(Row) * 8; ++bit) {
    Row row = row_of(kWritten);
    reinterpret_cast<unsigned char*>(row.data())[bit / 8] ^=
        static_cast<unsigned char>(1u << (bit % 8));
    EXPECT(read_row(row.data()).odd_one != 0);
  }
}

void test_halves_of_two_rows_are_torn_wherever_the_cut_is() {
  Written later = kWritten;
  ++later.stamp;
  for (std::size_t cut = 1; cut < kDim; ++cut) {
    Row row = row_of(kWritten);
    const Row other = row_of(later);
    std::copy(other.begin() + cut, other.end(), row.begin() + cut);
    const bool is_same = std::memcmp(&row, &other, sizeof row) == 0;
    EXPECT(is_same || read_row(row.data()).odd_one != 0);
  }
}

}  // namespace
}  // namespace predawn::torture

int main() {
  predawn::torture::test_a_row_says_what_was_written();
  predawn::torture::test_each_changed_bit_is_seen();
  predawn::torture::test_halves_of_two_rows_are_torn_wherever_the_cut_is();
  return predawn::testing::failures == 0 ? 0 : 1;
}
