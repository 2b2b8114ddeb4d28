// Every change of the word counts its version and touches nothing but what it names.
#include "set_word.hpp"

#include "expect.hpp"

namespace predawn {
namespace {

constexpr SetWord kEmpty;

void test_claims_are_a_bit_per_slot() {
  const SetWord word = kEmpty.with_claim(0).with_claim(15);
  EXPECT(word.claimed() == 0x8001u);
  EXPECT(word.is_claimed(15) && !word.is_claimed(14));
  EXPECT(word.version() == 2 && !word.pending());
}

void test_a_publication_is_a_pending_change_of_a_claimed_slot() {
  const SetWord word = kEmpty.with_claim(14).with_pending(13, 14, 12);
  EXPECT(word.pending() && word.publishes());
  EXPECT(word.way() == 13 && word.slot() == 14 && word.hand() == 12);
  const SetWord after = word.finished();
  EXPECT(!after.pending() && after.claimed() == 0);
  EXPECT(after.slot() == 14 && after.hand() == 12 && after.version() == 3);
}

void test_a_removal_is_a_pending_change_of_a_slot_that_is_not_claimed() {
  const SetWord word = kEmpty.with_claim(3).with_pending(1, 2, 0);
  EXPECT(word.pending() && !word.publishes());
  EXPECT(word.finished().claimed() == 1u << 3);
}

void test_an_announcement_replaces_the_last_one() {
  const SetWord first = kEmpty.with_claim(15).with_pending(15, 15, 15).finished();
  const SetWord second = first.with_claim(1).with_pending(2, 1, 3);
  EXPECT(second.way() == 2 && second.slot() == 1 && second.hand() == 3);
}

void test_a_release_leaves_a_pending_change_as_it_was() {
  const SetWord word = kEmpty.with_claim(15).with_claim(4).with_pending(3, 4, 0);
  const SetWord released(word.word() + SetWord::release_of(15));
  EXPECT(released.claimed() == 1u << 4);
  EXPECT(released.version() == word.version() + 1);
  EXPECT(released != word && released.announces_as(word));
  EXPECT(!released.finished().announces_as(word));
}

void test_the_version_has_35_bits_and_wraps() {
  const SetWord last(~std::uint64_t{0} << 29);
  EXPECT(last.version() == (std::uint64_t{1} << 35) - 1);
  EXPECT(last.with_claim(2).version() == 0);
  EXPECT(last.with_claim(2).claimed() == 4u);
}

}  // namespace
}  // namespace predawn

int main() {
  predawn::test_claims_are_a_bit_per_slot();
  predawn::test_a_publication_is_a_pending_change_of_a_claimed_slot();
  predawn::test_a_removal_is_a_pending_change_of_a_slot_that_is_not_claimed();
  predawn::test_an_announcement_replaces_the_last_one();
  predawn::test_a_release_leaves_a_pending_change_as_it_was();
  predawn::test_the_version_has_35_bits_and_wraps();
  return predawn::testing::failures == 0 ? 0 : 1;
}
