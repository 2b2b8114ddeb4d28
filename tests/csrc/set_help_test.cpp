// Whoever comes by finishes the change that the word announces, once.
#include "set_help.hpp"

#include "expect.hpp"
#include "one_set.hpp"

namespace predawn {
namespace {

using testing::OneSet;
using testing::Row;

// A set with key 8 in way 0 and a filled, claimed slot of the same key.
unsigned prepare_publication(OneSet& set) {
  (void)set.put(0, 8, 5);
  const unsigned slot = set.stop_after_claim(1);
  const Row row(8, 6);
  const SlotAbout about(OneSet::fingerprint(8), 0, Tag::kDemanded, 0);
  detail::fill(set.ref().slot(slot), OneSet::entry(8, row), about, 0, 0);
  return slot;
}

void test_a_helper_publishes_for_a_writer_that_sleeps() {
  OneSet set;
  const unsigned slot = prepare_publication(set);
  EXPECT(set.version_of(8) == 5);
  set.announce(0, slot);
  help(set.ref(), set.word());
  EXPECT(set.version_of(8) == 6);
  EXPECT(!set.word().pending() && set.word().claimed() == 0);
}

void test_a_helper_that_comes_late_changes_nothing() {
  OneSet set;
  const unsigned slot = prepare_publication(set);
  set.announce(0, slot);
  const SetWord announced = set.word();
  finish(set.ref(), announced);
  (void)set.put(0, 8, 7);
  const SetWord now = set.word();
  help(set.ref(), announced);
  EXPECT(set.version_of(8) == 7 && set.word() == now);
}

void test_a_publication_half_done_is_finished() {
  OneSet set;
  const unsigned slot = prepare_publication(set);
  set.announce(0, slot);
  const auto seq = set.ref().slot(slot)->seq.load();
  const Tag published = SlotAbout(set.ref().slot(slot)->about.load()).tag(slot, seq);
  set.line.tags[0].store(published.with(Tag::kVisited).word());  // and read already
  finish(set.ref(), set.word());
  EXPECT(set.tag(0) == published.with(Tag::kVisited) && !set.word().pending());
}

void test_finishing_goes_on_though_a_claim_is_released_meanwhile() {
  OneSet set;
  const unsigned slot = prepare_publication(set);
  const unsigned other = set.stop_after_claim(2);
  set.announce(0, slot);
  const SetWord announced = set.word();
  set.line.word.fetch_add(SetWord::release_of(other));
  finish(set.ref(), announced);  // its first help fails: the word has changed
  EXPECT(set.version_of(8) == 6 && !set.word().pending());
}

void test_a_removal_takes_the_valid_bit_alone() {
  OneSet set;
  (void)set.put(0, 8, 5);
  const Tag before = set.tag(0);
  EXPECT(remove_way(set.ref(), set.word(), 0, before));
  EXPECT(set.tag(0) == before.without(Tag::kValid));
  EXPECT(!set.word().pending() && set.version_of(8) == 0);
}

void test_a_removal_from_an_old_word_is_not_announced() {
  OneSet set;
  (void)set.put(0, 8, 5);
  const SetWord old = set.word();
  (void)set.put(0, 9, 1);
  EXPECT(!remove_way(set.ref(), old, 0, set.tag(0)));
  EXPECT(set.version_of(8) == 5);
}

}  // namespace
}  // namespace predawn

int main() {
  predawn::test_a_helper_publishes_for_a_writer_that_sleeps();
  predawn::test_a_helper_that_comes_late_changes_nothing();
  predawn::test_a_publication_half_done_is_finished();
  predawn::test_finishing_goes_on_though_a_claim_is_released_meanwhile();
  predawn::test_a_removal_takes_the_valid_bit_alone();
  predawn::test_a_removal_from_an_old_word_is_not_announced();
  return predawn::testing::failures == 0 ? 0 : 1;
}
