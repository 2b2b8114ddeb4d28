// Slots are whole cache lines; ages never run backwards and never overflow.
#include "slot.hpp"

#include <cstddef>
#include <cstdint>

#include "expect.hpp"

namespace predawn {
namespace {

using Header = SlotHeader<StdAtomics>;

void test_slots_are_the_fewest_whole_lines() {
  EXPECT(slot_bytes(1) == 128);
  EXPECT(slot_bytes(64) == 128);
  EXPECT(slot_bytes(65) == 192);
  EXPECT(slot_bytes(256) == 320);
}

void test_row_starts_on_its_own_line() {
  Header slots[2] = {};
  EXPECT(row_of(&slots[0]) == reinterpret_cast<std::byte*>(&slots[1]));
  EXPECT(alignof(Header) == kLineBytes);
}

void test_layout_is_that_of_the_file_format() {
  EXPECT(offsetof(Header, seq) == 0);
  EXPECT(offsetof(Header, key_lo) == 8 && offsetof(Header, key_hi) == 16);
  EXPECT(offsetof(Header, written_at_ms) == 24 && offsetof(Header, snapshot) == 32);
  EXPECT(offsetof(Header, about) == 36 && offsetof(Header, order) == 40);
  EXPECT(offsetof(Header, checksum) == 44 && offsetof(Header, scales) == 48);
}

void test_what_a_slot_is_about_makes_its_tag() {
  const SlotAbout about(0xfff, 0xf, Tag::kDemanded, 0xff);
  EXPECT(about.fingerprint() == 0xfff && about.stamp() == 0xf && about.origin() == 0xff);
  EXPECT(about.hints() == Tag::kDemanded);
  EXPECT(SlotAbout(about.word()).tag(9, 6) == Tag(9, 6, 0xfff, 0xf, Tag::kDemanded));
  EXPECT(about.tag(9, 6) == about.tag(9, 7));  // opened for its next writing, the old one's tag
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
  predawn::test_row_starts_on_its_own_line();
  predawn::test_layout_is_that_of_the_file_format();
  predawn::test_what_a_slot_is_about_makes_its_tag();
  predawn::test_age_counts_from_the_write();
  predawn::test_clock_that_went_back_gives_age_zero();
  predawn::test_largest_age_does_not_overflow();
  return predawn::testing::failures == 0 ? 0 : 1;
}
