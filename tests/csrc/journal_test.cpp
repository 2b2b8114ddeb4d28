// Notes keep set, slot and generation apart; none is not active.
#include "journal.hpp"

#include <cstddef>

#include "expect.hpp"

namespace predawn {
namespace {

void test_a_note_names_one_slot_of_one_set() {
  constexpr std::uint64_t kSet = (std::uint64_t{1} << ClaimNote::kSetBits) - 1;
  const ClaimNote note(kSet, 15, 0xffff);
  EXPECT(note.active() && note.set() == kSet && note.slot() == 15);
  EXPECT(note.generation() == 0xffff);
  EXPECT(note.names(kSet, 15) && !note.names(kSet, 14) && !note.names(0, 15));
}

void test_no_note_names_nothing_but_keeps_its_generation() {
  EXPECT(!ClaimNote(0).active());
  const ClaimNote none = ClaimNote::none(7);
  EXPECT(!none.active() && none.generation() == 7 && !none.names(0, 0));
  EXPECT(none.word() != ClaimNote::none(8).word());
}

void test_an_owner_has_attachment_and_generation() {
  const OwnerNote owner(0x7fff, 0xffff, true);
  EXPECT(owner.used() && owner.attachment() == 0x7fff && owner.generation() == 0xffff);
  EXPECT(!OwnerNote(0).used());
  EXPECT(!OwnerNote(3, 4, false).used());
}

void test_lines_do_not_share_cache_lines() {
  EXPECT(sizeof(JournalLine<Atomics>) == kLineBytes);
  EXPECT(alignof(JournalLine<Atomics>) == kLineBytes);
  EXPECT(offsetof(JournalLine<Atomics>, claim) == 0);
}

}  // namespace
}  // namespace predawn

int main() {
  predawn::test_a_note_names_one_slot_of_one_set();
  predawn::test_no_note_names_nothing_but_keeps_its_generation();
  predawn::test_an_owner_has_attachment_and_generation();
  predawn::test_lines_do_not_share_cache_lines();
  return predawn::testing::failures == 0 ? 0 : 1;
}
