// Every bit counts, and the order of the words.
#include "checksum.hpp"

#include <algorithm>
#include <vector>

#include "expect.hpp"

namespace predawn {
namespace {

std::vector<std::byte> some_bytes(std::size_t size) {
  std::vector<std::byte> bytes(size);
  std::uint64_t state = 1;
  for (auto& byte : bytes) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    byte = static_cast<std::byte>(state >> 56);
  }
  return bytes;
}

void test_every_bit_counts() {
  for (const std::size_t size : {1u, 7u, 8u, 15u, 16u, 31u, 32u, 33u, 64u, 100u}) {
    std::vector<std::byte> bytes = some_bytes(size);
    const std::uint64_t before = fold_bytes(bytes.data(), size);
    for (std::size_t bit = 0; bit < size * 8; ++bit) {
      bytes[bit / 8] ^= static_cast<std::byte>(1u << (bit % 8));
      EXPECT(fold_bytes(bytes.data(), size) != before);
      bytes[bit / 8] ^= static_cast<std::byte>(1u << (bit % 8));
    }
    EXPECT(fold_bytes(bytes.data(), size) == before);
  }
}

void test_length_and_order_count() {
  const std::vector<std::byte> zeros(128);
  EXPECT(fold_bytes(zeros.data(), 64) != fold_bytes(zeros.data(), 128));
  EXPECT(fold_bytes(zeros.data(), 8) != fold_bytes(zeros.data(), 16));
  std::vector<std::byte> bytes = some_bytes(128);
  const std::uint64_t before = fold_bytes(bytes.data(), 128);
  for (std::size_t one = 0; one < 128; one += 8) {
    for (std::size_t two = one + 8; two < 128; two += 8) {
      std::swap_ranges(&bytes[one], &bytes[one] + 8, &bytes[two]);
      EXPECT(fold_bytes(bytes.data(), 128) != before);
      std::swap_ranges(&bytes[one], &bytes[one] + 8, &bytes[two]);
    }
  }
}

void test_slot_fields_count() {
  const std::vector<std::byte> row = some_bytes(128);
  const std::uint64_t row_sum = row_checksum(row.data(), row.size());
  const SlotFields fields{{1, 2}, 3, 4, 5, {6, 7, 8, 9}};
  const std::uint32_t sum = slot_checksum(fields, row_sum);
  SlotFields other = fields;
  other.key.hi = 3;
  EXPECT(slot_checksum(other, row_sum) != sum);
  other = fields;
  other.written_at_ms = 4;
  EXPECT(slot_checksum(other, row_sum) != sum);
  other = fields;
  other.about = 6;
  EXPECT(slot_checksum(other, row_sum) != sum);
  other = fields;
  other.scales[3] = 0;
  EXPECT(slot_checksum(other, row_sum) != sum);
  EXPECT(slot_checksum(fields, row_sum + 1) != sum);
}

// The files depend on it.
void test_values_never_change() {
  const std::vector<std::byte> bytes = some_bytes(100);
  EXPECT(fold_bytes(bytes.data(), 0) == 0x46cfe0d12735d05du);
  EXPECT(fold_bytes(bytes.data(), 100) == 0x5482f80c58e8d4fbu);
}

}  // namespace
}  // namespace predawn

int main() {
  predawn::test_every_bit_counts();
  predawn::test_length_and_order_count();
  predawn::test_slot_fields_count();
  predawn::test_values_never_change();
  return predawn::testing::failures == 0 ? 0 : 1;
}
