// Puts replace, evict and give up by the rules; stopped writers do not keep others out.
#include "set_write.hpp"

#include <set>

#include "expect.hpp"
#include "one_set.hpp"

namespace predawn {
namespace {

using testing::OneSet;
using testing::Row;

void fill_set(OneSet& set) {
  for (std::uint64_t key = 0; key < kWays; ++key) (void)set.put(0, key, key + 1);
}

void test_a_set_takes_as_many_entries_as_it_has_ways() {
  OneSet set;
  for (std::uint64_t key = 0; key < kWays; ++key) {
    const PutResult result = set.put(0, key, key + 1);
    EXPECT(result.end == PutEnd::kInserted && result.cause == Cause::kNone);
    EXPECT(!result.victim.valid());
  }
  for (std::uint64_t key = 0; key < kWays; ++key) EXPECT(set.version_of(key) == key + 1);
  EXPECT(set.word().claimed() == 0);
}

void test_a_full_set_evicts_one() {
  OneSet set;
  fill_set(set);
  const PutResult result = set.put(0, 100, 1);
  EXPECT(result.end == PutEnd::kInserted && result.cause == Cause::kHand);
  EXPECT(result.victim.valid() && set.version_of(100) == 1);
  unsigned left = 0;
  for (std::uint64_t key = 0; key < kWays; ++key) left += set.version_of(key) != 0 ? 1 : 0;
  EXPECT(left == kWays - 1);
}

void test_overwriting_stays_in_its_way_and_goes_round_the_free_slots() {
  OneSet set;
  fill_set(set);
  std::set<unsigned> slots;
  for (std::uint64_t version = 1; version <= 30; ++version) {
    EXPECT(set.put(0, 3, version).end == PutEnd::kOverwrote);
    EXPECT(set.version_of(3) == version);
    slots.insert(set.tag(3).slot());
  }
  EXPECT(slots.size() == kSlots - kWays + 1);
}

void test_an_entry_keeps_its_hints_when_it_is_overwritten() {
  OneSet set;
  (void)set.put(0, 3, 1);
  Row row(3, 2);
  Entry speculative = OneSet::entry(3, row);
  speculative.is_demanded = false;
  const auto no_seal = [](SlotAbout) { return 0u; };
  (void)put_entry(set.ref(), speculative, set.log(0), 16, OneSet::choose_way, no_seal);
  EXPECT(set.tag(0).demanded() && set.version_of(3) == 2);
  speculative.key = {4, 0};
  speculative.fingerprint = OneSet::fingerprint(4);
  (void)put_entry(set.ref(), speculative, set.log(0), 16, OneSet::choose_way, no_seal);
  EXPECT(!set.tag(1).demanded());
}

void test_a_slot_left_half_written_by_the_dead_is_written_over() {
  OneSet set;
  for (unsigned slot = 0; slot < kSlots; ++slot) set.ref().slot(slot)->seq.store(7);
  (void)set.put(0, 3, 1);
  EXPECT(set.version_of(3) == 1);
  EXPECT(set.ref().slot(set.tag(0).slot())->seq.load() == 10);
}

void test_stopped_writers_cost_the_set_ways_but_not_its_writers() {
  OneSet set;
  fill_set(set);
  for (unsigned stopped = 0; stopped < kSlots - 1; ++stopped) {
    (void)set.stop_after_claim(1);
    for (std::uint64_t key = 20; key < 26; ++key) {
      const PutResult result = set.put(0, key, stopped + 1);
      EXPECT(result.end == PutEnd::kInserted || result.end == PutEnd::kOverwrote);
      EXPECT(set.version_of(key) == stopped + 1);
    }
    if (detail::free_slots(set.word(), load_tags(set.line)) == 0) {
      // The next one stops in the last place: make it.
      const Tags tags = load_tags(set.line);
      const unsigned way = detail::valid_way(set.word(), tags, 0);
      (void)remove_way(set.ref(), set.word(), way, tags[way]);
    }
  }
  (void)set.stop_after_claim(1);
  EXPECT(set.put(0, 20, 99).end == PutEnd::kNoSlot);  // all 16 slots: the limit
}

void test_a_put_that_gives_up_leaves_no_claim() {
  OneSet set;
  set.budget = 1;  // enough to claim, not to publish
  EXPECT(set.put(0, 3, 1).end == PutEnd::kBusy);
  EXPECT(set.word().claimed() == 0 && set.version_of(3) == 0);
  EXPECT(!ClaimNote(set.journal[0].claim.load()).active());
}

void test_a_removed_entry_is_absent_and_can_come_back() {
  OneSet set;
  fill_set(set);
  EXPECT(set.remove(3) == RemoveEnd::kRemoved);
  EXPECT(set.version_of(3) == 0 && set.remove(3) == RemoveEnd::kAbsent);
  EXPECT(set.put(0, 3, 9).cause == Cause::kNone && set.version_of(3) == 9);
  set.budget = 0;
  EXPECT(set.remove(3) == RemoveEnd::kBusy);
}

void test_a_stale_tag_is_nobodys() {
  OneSet set;
  (void)set.put(0, 3, 1);
  (void)set.put(0, 4, 1);
  const Tag old = set.tag(0);
  auto& seq = set.ref().slot(old.slot())->seq;
  seq.store(seq.load() + 2);  // the slot was written again; the tag came too late
  EXPECT(set.put(0, 3, 2).end == PutEnd::kInserted);
  EXPECT(set.version_of(3) == 2 && set.tag(0) == old);
}

void test_the_next_free_slot_is_after_the_last() {
  EXPECT(detail::next_free(0xffff, 0) == 1);
  EXPECT(detail::next_free(0xffff, 15) == 0);
  EXPECT(detail::next_free(1u << 5, 5) == 5);
  EXPECT(detail::next_free(1u << 4 | 1u << 15, 4) == 15);
  EXPECT(detail::next_free(1u << 4 | 1u << 15, 15) == 4);
}

}  // namespace
}  // namespace predawn

int main() {
  predawn::test_a_set_takes_as_many_entries_as_it_has_ways();
  predawn::test_a_full_set_evicts_one();
  predawn::test_overwriting_stays_in_its_way_and_goes_round_the_free_slots();
  predawn::test_an_entry_keeps_its_hints_when_it_is_overwritten();
  predawn::test_a_slot_left_half_written_by_the_dead_is_written_over();
  predawn::test_stopped_writers_cost_the_set_ways_but_not_its_writers();
  predawn::test_a_put_that_gives_up_leaves_no_claim();
  predawn::test_a_removed_entry_is_absent_and_can_come_back();
  predawn::test_a_stale_tag_is_nobodys();
  predawn::test_the_next_free_slot_is_after_the_last();
  return predawn::testing::failures == 0 ? 0 : 1;
}
