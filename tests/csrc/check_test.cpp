// Every invariant that the walk knows, broken on purpose, is found and named.
#include "check.hpp"

#include <cstring>
#include <vector>

#include "cache.hpp"
#include "expect.hpp"

namespace predawn {
namespace {

constexpr TableShape kShape{64, 2, 1, Dtype::kFp32, IdKind::kInteger};
constexpr std::uint64_t kKeys = 40;

void fill(Table& table) {
  const float row[2] = {1, 2};
  Tally tally;
  for (std::uint64_t id = 0; id < kKeys; ++id) {
    const Key key{id, 0};
    table.put(table.place(key), key, row, {}, tally);
  }
}

// Some entry's set, way and slot.
struct Entry {
  std::uint64_t set = 0;
  unsigned way = 0;
  SlotHeader* slot = nullptr;
};

Entry entry_of(Table& table, std::uint64_t id) {
  Entry found;
  const std::uint64_t set = table.place({id, 0}).set;
  table.visit_set(set, 0, [&](unsigned way, const SlotHeader* slot) {
    if (slot->key == Key{id, 0}) found = {set, way, const_cast<SlotHeader*>(slot)};
    return true;
  });
  return found;
}

bool is_named(const Findings& findings, const char* words) {
  for (const std::string& sentence : findings.broken) {
    if (sentence.find(words) != std::string::npos) return true;
  }
  return false;
}

void test_sound_table_has_no_violations() {
  Table table(kShape, Seed{});
  EXPECT(walk(table).broken.empty() && walk(table).entries == 0);
  fill(table);
  EXPECT(walk(table).broken.empty() && walk(table).entries == kKeys);
}

void test_wrong_fingerprint_is_named() {
  Table table(kShape, Seed{});
  fill(table);
  const Entry entry = entry_of(table, 3);
  SetLine* line = table.line(entry.set);
  line->set_fingerprint(entry.way, static_cast<std::uint16_t>(line->fingerprint(entry.way) ^ 0x10));
  EXPECT(is_named(walk(table), "fingerprint that is not its key's"));
}

void test_key_of_another_set_is_named() {
  Table table(kShape, Seed{});
  fill(table);
  const Entry entry = entry_of(table, 3);
  while (table.place(entry.slot->key).set == entry.set) ++entry.slot->key.hi;
  EXPECT(is_named(walk(table), "holds a key of another set"));
}

void test_duplicate_key_is_named() {
  Table table(kShape, Seed{});
  fill(table);
  const Entry entry = entry_of(table, 3);
  table.visit_set(entry.set, 0, [&](unsigned, const SlotHeader* slot) {
    const_cast<SlotHeader*>(slot)->key = entry.slot->key;
    return true;
  });
  EXPECT(is_named(walk(table), "holds a key twice"));
}

void test_broken_order_is_named() {
  Table table(kShape, Seed{});
  fill(table);
  const std::uint64_t garbage = 0x10;  // way 0 twice, way 1 never
  std::memcpy(reinterpret_cast<std::byte*>(table.line(entry_of(table, 3).set)) + 8, &garbage, 8);
  EXPECT(is_named(walk(table), "not a permutation"));
}

void test_overwritten_header_is_named() {
  Table table(kShape, Seed{});
  table.header()->magic = 0;
  table.header()->sets = 99;
  EXPECT(is_named(walk(table), "magic") && is_named(walk(table), "shape"));
}

void test_sentences_are_bounded() {
  Table table({4096, 2, 1, Dtype::kFp32, IdKind::kInteger}, Seed{});
  fill(table);
  const float row[2] = {};
  Tally tally;
  for (std::uint64_t id = 0; id < 2000; ++id) table.put({id % 256, 5}, {id, 1}, row, {}, tally);
  const std::size_t sentences = walk(table).broken.size();
  EXPECT(sentences >= kSentences && sentences < kSentences + 64);
}

void test_count_that_disagrees_is_named() {
  Cache cache(kShape, Seed{});
  const float row[2] = {1, 2};
  const Key key{3, 0};
  cache.put_many({&key, 1}, row, {});
  EXPECT(cache.check().empty());
  Tally none;
  Table& table = const_cast<Table&>(cache.table());
  table.invalidate(table.place(key), key, none);  // behind the counters' back
  const std::vector<std::string> sentences = cache.check();
  EXPECT(sentences.size() == 1 && sentences[0] == "counters: 1 entries counted, 0 found");
}

}  // namespace
}  // namespace predawn

int main() {
  predawn::test_sound_table_has_no_violations();
  predawn::test_wrong_fingerprint_is_named();
  predawn::test_key_of_another_set_is_named();
  predawn::test_duplicate_key_is_named();
  predawn::test_broken_order_is_named();
  predawn::test_overwritten_header_is_named();
  predawn::test_sentences_are_bounded();
  predawn::test_count_that_disagrees_is_named();
  return predawn::testing::failures == 0 ? 0 : 1;
}
