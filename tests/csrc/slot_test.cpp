// Slots are whole cache lines; ages never run backwards and never overflow.
#include "slot.hpp"

#include <cstdint>

#include "expect.hpp"

namespace predawn {
namespace {

void test_slots_are_the_fewest_whole_lines() {
  EXPECT(slot_bytes(1) == 64);
  EXPECT(slot_bytes(32) == 64);
  EXPECT(slot_bytes(33) == 128);
  EXPECT(slot_bytes(128) == 192);
}

void test_row_follows_its_header() {
  SlotHeader slots[2] = {};
  EXPECT(row_of(&slots[0]) == reinterpret_cast<std::byte*>(&slots[1]));
}

void test_age_counts_from_the_write() {
  EXPECT(age_ms(1'000, 1'250) == 250);
  EXPECT(age_ms(-50, 50) == 100);
}

void test_clock_that_went_back_gives_age_zero() {
  EXPECT(age_ms(1'000, 1'000) == 0);
  EXPECT(age_ms(1'000, 999) == 0);
  EXPECT(age_ms(INT64_MAX, INT64_MIN) == 0);
}

void test_largest_age_does_not_overflow() {
  EXPECT(age_ms(INT64_MIN, INT64_MAX) == INT64_MAX);
  EXPECT(age_ms(0, INT64_MAX) == INT64_MAX);
}

}  // namespace
}  // namespace predawn

int main() {
  predawn::test_slots_are_the_fewest_whole_lines();
  predawn::test_row_follows_its_header();
  predawn::test_age_counts_from_the_write();
  predawn::test_clock_that_went_back_gives_age_zero();
  predawn::test_largest_age_does_not_overflow();
  return predawn::testing::failures == 0 ? 0 : 1;
}
