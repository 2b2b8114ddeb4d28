// One set of a table: who makes room for whom, and what the header says about the mapping.
#include "table.hpp"

#include <array>
#include <vector>

#include "expect.hpp"

namespace predawn {
namespace {

constexpr std::uint32_t kDim = 4;
constexpr std::int64_t kForEver = INT64_MAX;

// A table of one set, so that every key competes with every other.
class OneSet {
 public:
  OneSet() : table_({kWays, kDim, 1, Dtype::kFp32, IdKind::kString}, Seed{}) {}

  void put(std::uint64_t id, std::int64_t now_ms) {
    std::array<float, kDim> row;
    row.fill(static_cast<float>(id));
    const Key key{id, 7};
    table_.put(table_.place(key), key, row.data(), {now_ms, 3, 1}, tally);
  }

  std::int64_t get(std::uint64_t id, std::int64_t now_ms, std::int64_t max_age_ms = kForEver) {
    std::array<float, kDim> row;
    const Key key{id, 7};
    table_.accept_age(max_age_ms);
    const std::int64_t age =
        table_.get(table_.place(key), key, now_ms, max_age_ms, row.data(), kDim, nullptr, tally);
    if (age >= 0) EXPECT(row.front() == static_cast<float>(id) && row.front() == row.back());
    return age;
  }

  bool has(std::uint64_t id) {
    bool found = false;
    table_.visit_set(0, 0, [&](unsigned, const SlotHeader* slot) {
      found = found || slot->key == Key{id, 7};
      return true;
    });
    return found;
  }

  Table& table() { return table_; }
  Tally tally;

 private:
  Table table_;
};

void test_full_set_evicts_the_least_recently_used() {
  OneSet set;
  for (std::uint64_t id = 0; id < kWays; ++id) set.put(id, 0);
  EXPECT(set.get(0, 1) == 1);
  set.put(2, 1);
  EXPECT(set.table().touch(set.table().place({1, 7}), {1, 7}));
  set.put(100, 2);
  EXPECT(!set.has(3) && set.has(0) && set.has(1) && set.has(2) && set.has(100));
  EXPECT(set.tally.of(Event::kEvictedLive) == 1);
}

void test_expired_go_before_live_and_the_longest_reader_decides() {
  OneSet set;
  for (std::uint64_t id = 0; id < kWays; ++id) set.put(id, id == 9 || id == 5 ? 0 : 500);
  EXPECT(set.get(0, 600, 300) == 100);
  EXPECT(set.get(1, 600, 200) == 100);  // a pickier reader changes nothing
  EXPECT(set.get(5, 600, 300) == -1);   // too old: not a use
  set.put(100, 600);
  EXPECT(!set.has(5) && set.has(9));
  set.put(101, 600);
  EXPECT(!set.has(9) && set.has(2));
  EXPECT(set.tally.of(Event::kEvictedExpired) == 2 && set.tally.of(Event::kExpired) == 1);
}

void test_nothing_is_expired_before_the_first_read() {
  OneSet set;
  for (std::uint64_t id = 0; id <= kWays; ++id) set.put(id, id == 9 ? 0 : 1'000'000);
  EXPECT(set.has(9) && !set.has(0));
}

void test_empty_ways_are_taken_first() {
  OneSet set;
  for (std::uint64_t id = 0; id < kWays; ++id) set.put(id, 0);
  EXPECT(set.table().invalidate(set.table().place({8, 7}), {8, 7}, set.tally));
  EXPECT(!set.table().invalidate(set.table().place({8, 7}), {8, 7}, set.tally));
  set.put(100, 0);
  EXPECT(set.has(0) && set.has(100) && set.tally.of(Event::kEvictedLive) == 0);
}

void test_keys_are_compared_whole() {
  OneSet set;
  set.put(1, 0);
  std::array<float, kDim> row;
  const Key stranger{1, 8};
  Place place = set.table().place({1, 7});  // the very same set and fingerprint
  EXPECT(set.table().get(place, stranger, 0, kForEver, row.data(), kDim, nullptr, set.tally) == -1);
  EXPECT(!set.table().touch(place, stranger));
  EXPECT(!set.table().invalidate(place, stranger, set.tally) && set.has(1));
}

void test_header_describes_the_mapping() {
  OneSet set;
  const TableHeader& header = *set.table().header();
  EXPECT(header.magic == TableHeader::kMagic && header.format == TableHeader::kFormat);
  EXPECT(header.id_kind == IdKind::kString && header.dtype == Dtype::kFp32);
  EXPECT(header.dim == kDim && header.parts == 1 && header.sets == 1 && header.ways == kWays);
  EXPECT(header.slots_at + kWays * header.slot_bytes == set.table().bytes());
}

void test_capacity_is_rounded_up_to_whole_sets() {
  EXPECT(Table({1, kDim, 1, Dtype::kFp16, IdKind::kInteger}, Seed{}).slots() == 16);
  EXPECT(Table({17, kDim, 1, Dtype::kFp16, IdKind::kInteger}, Seed{}).slots() == 32);
}

}  // namespace
}  // namespace predawn

int main() {
  predawn::test_full_set_evicts_the_least_recently_used();
  predawn::test_expired_go_before_live_and_the_longest_reader_decides();
  predawn::test_nothing_is_expired_before_the_first_read();
  predawn::test_empty_ways_are_taken_first();
  predawn::test_keys_are_compared_whole();
  predawn::test_header_describes_the_mapping();
  predawn::test_capacity_is_rounded_up_to_whole_sets();
  return predawn::testing::failures == 0 ? 0 : 1;
}
