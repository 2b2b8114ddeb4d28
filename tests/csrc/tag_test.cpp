// A tag keeps its fields apart, and hints are no part of what an entry is.
#include "tag.hpp"

#include "expect.hpp"

namespace predawn {
namespace {

constexpr std::uint64_t kSeq = 0x1fe;  // ver 255

void test_fields_do_not_overlap() {
  const Tag tag(15, kSeq, 0xfff, 0xf, Tag::kVisited);
  EXPECT(tag.valid() && tag.visited() && !tag.survived() && !tag.demanded());
  EXPECT(tag.slot() == 15 && tag.ver() == 255);
  EXPECT(tag.fingerprint() == 0xfff && tag.stamp() == 0xf);
  const Tag low(0, 0, 0, 0, 0);
  EXPECT(low.word() == Tag::kValid);
  EXPECT(Tag(7, 6, 1, 0, 0).slot() == 7 && Tag(7, 6, 1, 0, 0).ver() == 3);
}

void test_zero_memory_is_no_entry() {
  EXPECT(!Tag().valid());
  EXPECT(Tag() == Tag(0));
}

void test_version_wraps_at_eight_bits_of_writings() {
  EXPECT(Tag::ver_of(2 * 255) == 255);
  EXPECT(Tag::ver_of(2 * 256) == 0);
  EXPECT(Tag::ver_of(2 * 256 + 1) == 0);
}

void test_hints_change_without_changing_the_entry() {
  const Tag tag(3, 4, 9, 2, 0);
  EXPECT(tag.same_but_hints(tag.with(Tag::kHints)));
  EXPECT(tag.with(Tag::kHints).without(Tag::kHints) == tag);
  EXPECT(!tag.same_but_hints(tag.without(Tag::kValid)));
  EXPECT(!tag.same_but_hints(Tag(3, 6, 9, 2, 0)));
  EXPECT(!tag.same_but_hints(Tag(4, 4, 9, 2, 0)));
}

void test_only_hints_are_taken_from_a_slot() {
  EXPECT(Tag(0, 0, 0, 0, 0xff) == Tag(0, 0, 0, 0, Tag::kHints));
}

}  // namespace
}  // namespace predawn

int main() {
  predawn::test_fields_do_not_overlap();
  predawn::test_zero_memory_is_no_entry();
  predawn::test_version_wraps_at_eight_bits_of_writings();
  predawn::test_hints_change_without_changing_the_entry();
  predawn::test_only_hints_are_taken_from_a_slot();
  return predawn::testing::failures == 0 ? 0 : 1;
}
