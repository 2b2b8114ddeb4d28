// A reader takes the published entry of its key, and nothing else.
#include "set_read.hpp"

#include "expect.hpp"
#include "one_set.hpp"

namespace predawn {
namespace {

using testing::OneSet;
using testing::Row;

void test_an_entry_is_found_whole() {
  OneSet set;
  (void)set.put(0, 8, 5);
  Row row;
  Found found;
  EXPECT(set.get(8, row, found) == ReadEnd::kFound);
  EXPECT(row.is_whole() && row.key() == 8 && row.version() == 5);
  EXPECT(found.has_row && found.probes == 1 && found.tag == set.tag(found.way));
}

void test_an_empty_set_is_not_probed() {
  OneSet set;
  Row row;
  Found found;
  EXPECT(set.get(8, row, found) == ReadEnd::kAbsent && found.probes == 0);
}

void test_a_key_of_the_same_fingerprint_is_another_key() {
  OneSet set;
  for (std::uint64_t key = 4; key < 40; key += 4) (void)set.put(0, key, key);
  for (std::uint64_t key = 4; key < 40; key += 4) EXPECT(set.version_of(key) == key);
  EXPECT(set.version_of(44) == 0);
}

void test_a_refused_row_is_found_without_being_copied() {
  OneSet set;
  (void)set.put(0, 8, 5);
  Row row;
  Found found;
  const auto none = [](const Found&) { return false; };
  EXPECT(read_entry(set.ref(), Key{8, 0}, OneSet::fingerprint(8), testing::kRowBytes,
                    reinterpret_cast<std::byte*>(row.words.data()), found,
                    none) == ReadEnd::kFound);
  EXPECT(!found.has_row && row.words[0] == 0);
}

void test_a_slot_that_is_being_filled_is_not_read() {
  OneSet set;
  (void)set.put(0, 8, 5);
  auto& seq = set.ref().slot(set.tag(0).slot())->seq;
  seq.store(seq.load() + 1);
  Row row;
  Found found;
  EXPECT(set.get(8, row, found) == ReadEnd::kRaced);
  EXPECT(found.probes == kReadTries && row.words[0] == 0);
}

void test_a_writing_that_the_tag_does_not_name_is_not_read() {
  OneSet set;
  (void)set.put(0, 8, 5);
  auto& seq = set.ref().slot(set.tag(0).slot())->seq;
  seq.store(seq.load() + 2);
  EXPECT(set.version_of(8) == 0);
  seq.store(seq.load() + 2 * 255);  // the known limit: 256 writings later it is named again
  EXPECT(set.version_of(8) == 5);
}

void test_use_is_marked_once() {
  OneSet set;
  (void)set.put(0, 8, 5);
  Row row;
  Found found;
  (void)set.get(8, row, found);
  mark_used(set.ref(), found.way, found.tag, Tag::kVisited);
  EXPECT(set.tag(found.way) == found.tag.with(Tag::kVisited));
}

void test_use_of_an_entry_that_has_gone_is_not_marked() {
  OneSet set;
  (void)set.put(0, 8, 5);
  Row row;
  Found found;
  (void)set.get(8, row, found);
  (void)set.put(0, 8, 6);
  const Tag now = set.tag(found.way);
  mark_used(set.ref(), found.way, found.tag, Tag::kVisited);
  EXPECT(set.tag(found.way) == now);
}

void test_any_entry_of_a_way_is_read_for_a_walk() {
  OneSet set;
  (void)set.put(0, 8, 5);
  Row row;
  Found found;
  Key key;
  auto* bytes = reinterpret_cast<std::byte*>(row.words.data());
  EXPECT(read_any(set.ref(), 0, testing::kRowBytes, bytes, key, found) == ReadEnd::kFound);
  EXPECT(key == (Key{8, 0}) && row.version() == 5);
  EXPECT(read_any(set.ref(), 1, testing::kRowBytes, bytes, key, found) == ReadEnd::kAbsent);
}

}  // namespace
}  // namespace predawn

int main() {
  predawn::test_an_entry_is_found_whole();
  predawn::test_an_empty_set_is_not_probed();
  predawn::test_a_key_of_the_same_fingerprint_is_another_key();
  predawn::test_a_refused_row_is_found_without_being_copied();
  predawn::test_a_slot_that_is_being_filled_is_not_read();
  predawn::test_a_writing_that_the_tag_does_not_name_is_not_read();
  predawn::test_use_is_marked_once();
  predawn::test_use_of_an_entry_that_has_gone_is_not_marked();
  predawn::test_any_entry_of_a_way_is_read_for_a_walk();
  return predawn::testing::failures == 0 ? 0 : 1;
}
