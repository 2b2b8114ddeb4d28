// Only claims of the dead are taken back, and only notes of the dead are cleared.
#include "reap.hpp"

#include <array>

#include "expect.hpp"
#include "one_set.hpp"

namespace predawn {
namespace {

using testing::OneSet;
using testing::Row;

struct Reaper {
  OneSet& set;
  std::array<bool, 4> living{true, true, true, true};

  ReapEnd reap(std::size_t line) {
    return reap_line(
        set.journal, 4, line, [this](std::uint64_t) { return set.ref(); },
        [this](std::size_t other) { return living[other]; });
  }
};

ClaimNote note_of(OneSet& set, unsigned line) { return ClaimNote(set.journal[line].claim.load()); }

void test_a_line_without_a_note_needs_nothing() {
  OneSet set;
  Reaper reaper{set, {false, true, true, true}};
  EXPECT(reaper.reap(0) == ReapEnd::kNothing);
}

void test_a_claim_of_the_dead_is_taken_back() {
  OneSet set;
  (void)set.stop_after_claim(0);
  Reaper reaper{set, {false, true, true, true}};
  EXPECT(reaper.reap(0) == ReapEnd::kReleased);
  EXPECT(set.word().claimed() == 0 && !note_of(set, 0).active());
  EXPECT(reaper.reap(0) == ReapEnd::kNothing);
}

void test_a_writer_that_lives_keeps_its_claim_and_note() {
  OneSet set;
  const unsigned slot = set.stop_after_claim(0);
  Reaper reaper{set};
  EXPECT(reaper.reap(0) == ReapEnd::kNothing);
  EXPECT(set.word().is_claimed(slot) && note_of(set, 0).names(0, slot));
}

void test_a_note_without_a_claim_is_cleared() {
  OneSet set;
  set.log(0).note(3);  // died between note and claim
  Reaper reaper{set, {false, true, true, true}};
  EXPECT(reaper.reap(0) == ReapEnd::kNothing);
  EXPECT(!note_of(set, 0).active());
}

void test_a_slot_that_the_living_name_is_left_for_later() {
  OneSet set;
  set.log(0).note(1);  // died before its claim
  const unsigned slot = set.stop_after_claim(1);
  EXPECT(slot == 1);
  Reaper reaper{set, {false, true, true, true}};
  EXPECT(reaper.reap(0) == ReapEnd::kLater);
  EXPECT(set.word().is_claimed(slot) && note_of(set, 0).active());
  reaper.living[1] = false;
  EXPECT(reaper.reap(0) == ReapEnd::kReleased);
  EXPECT(reaper.reap(1) == ReapEnd::kNothing && !note_of(set, 1).active());
}

void test_what_the_dead_announced_is_finished() {
  OneSet set;
  const unsigned slot = set.stop_after_claim(0);
  const Row row(8, 6);
  const SlotAbout about(OneSet::fingerprint(8), 0, 0, 0);
  detail::fill(set.ref().slot(slot), OneSet::entry(8, row), about, 0, 0);
  set.announce(0, slot);
  Reaper reaper{set, {false, true, true, true}};
  EXPECT(reaper.reap(0) == ReapEnd::kNothing);
  EXPECT(set.version_of(8) == 6 && set.word().claimed() == 0 && !note_of(set, 0).active());
}

void test_a_note_of_the_lines_next_owner_is_not_cleared() {
  OneSet set;
  const ClaimNote old(0, 3, 1);
  const ClaimNote next(0, 3, 2);
  set.journal[0].claim.store(next.word());
  detail::clear_note(set.journal[0], old);
  EXPECT(set.journal[0].claim.load() == next.word());
  detail::clear_note(set.journal[0], next);
  EXPECT(set.journal[0].claim.load() == ClaimNote::none(2).word());
}

}  // namespace
}  // namespace predawn

int main() {
  predawn::test_a_line_without_a_note_needs_nothing();
  predawn::test_a_claim_of_the_dead_is_taken_back();
  predawn::test_a_writer_that_lives_keeps_its_claim_and_note();
  predawn::test_a_note_without_a_claim_is_cleared();
  predawn::test_a_slot_that_the_living_name_is_left_for_later();
  predawn::test_what_the_dead_announced_is_finished();
  predawn::test_a_note_of_the_lines_next_owner_is_not_cleared();
  return predawn::testing::failures == 0 ? 0 : 1;
}
