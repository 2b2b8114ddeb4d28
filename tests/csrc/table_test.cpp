// One set of a table: what a key's answers are, who makes room for whom, what readers accept.
#include "table.hpp"

#include <algorithm>
#include <array>
#include <optional>
#include <vector>

#include "expect.hpp"
#include "segment.hpp"

namespace predawn {
namespace {

constexpr std::uint32_t kDim = 4;
constexpr std::int64_t kForEver = INT64_MAX;
constexpr TableShape kShape{kWays, kDim, 2, Dtype::kFp32, IdKind::kString};

// A table of one set, so that every key competes with every other.
class OneSet {
 public:
  OneSet()
      : segment_(Segment::create("", kShape, Seed{1, 2, 3}, 0, {.huge_pages = false})),
        table_(segment_.preamble(), segment_.at(0)) {}

  PutResult put(std::uint64_t id, std::int64_t now_ms, std::uint8_t origin = kOriginComputed) {
    std::array<float, 2 * kDim> row;
    row.fill(static_cast<float>(id));
    std::array<std::byte, sizeof row> bytes;
    std::array<float, kScales> scales{};
    table_.row().store(row.data(), bytes.data(), scales.data());
    const JournalLease lease = segment_.lease();
    const WriteRules rules = table_.write_rules(now_ms, 3, origin);
    return table_.put(place(id), key(id), rules, bytes.data(), scales,
                      {lease.line(), lease.generation(), 0});
  }

  // The age, or nothing; rows are checked.
  std::optional<std::int64_t> get(std::uint64_t id, std::int64_t now_ms,
                                  std::int64_t max_age_ms = kForEver, std::uint32_t parts = 1) {
    row.fill(-1);
    table_.accept_age(max_age_ms);
    const ReadRules rules{now_ms, max_age_ms, max_age_ms, parts, table_.row().padded_bytes(parts),
                          0,      floor};
    state = table_.get(place(id), 0, key(id), rules, bounce_.data(),
                       {row.data(), &age, &snapshot, {}}, tally);
    const std::size_t values = std::size_t{parts} * kDim;
    if (state < State::kStale) return std::nullopt;
    EXPECT(std::count(row.begin(), row.end(), static_cast<float>(id)) ==
           static_cast<std::ptrdiff_t>(values));
    return age;
  }

  // Not a use.
  bool has(std::uint64_t id) const {
    for (unsigned way = 0; way < kWays; ++way) {
      Found found;
      Key held;
      const ReadEnd end = read_any(table_.set(0), way, 0, nullptr, held, found);
      if (end == ReadEnd::kFound && held == key(id)) return true;
    }
    return false;
  }

  bool touch(std::uint64_t id) { return table_.touch(place(id), key(id), floor); }
  RemoveEnd invalidate(std::uint64_t id) {
    return table_.invalidate(place(id), key(id), table_.budget());
  }
  [[nodiscard]] static Key key(std::uint64_t id) { return {id, 7}; }
  [[nodiscard]] Place place(std::uint64_t id) const { return table_.place(key(id)); }
  [[nodiscard]] const Table& table() const { return table_; }
  [[nodiscard]] std::int64_t entries() const { return table_.state().entries.load(); }

  Tally tally;
  State state = State::kAbsent;
  std::int64_t age = 0;
  std::uint32_t snapshot = 0;
  std::uint32_t floor = 0;
  std::array<float, 2 * kDim> row{};

 private:
  Segment segment_;
  Table table_;
  std::array<std::byte, 2 * kDim * 4> bounce_{};
};

void test_states_follow_from_the_age() {
  OneSet set;
  EXPECT(!set.get(1, 0) && set.state == State::kAbsent && set.age == -1);
  set.put(1, 1'000);
  EXPECT(set.get(1, 1'030, 30) == 30 && set.state == State::kFresh && set.snapshot == 3);
  EXPECT(set.get(1, 1'030, 30, 2) == 30);
  EXPECT(set.get(1, 900) == 0);  // a clock that went back
  set.row.fill(-1);
  EXPECT(!set.get(1, 1'031, 30) && set.state == State::kExpired && set.age == -1);
  set.floor = 4;
  EXPECT(!set.get(1, 1'000) && set.state == State::kAbsent);
  EXPECT(std::count(set.row.begin(), set.row.end(), -1.0f) == 2 * kDim);  // left as it was
  EXPECT(set.tally.of(Event::kOutdated) == 1 && set.tally.of(Event::kExpired) == 1);
  EXPECT(set.tally.of(Event::kAbsent) == 1 && set.tally.of(Event::kFresh) == 3);
}

void test_stale_lies_between_fresh_and_expired() {
  OneSet set;
  set.put(1, 0);
  std::byte bounce[kDim * 4];
  const auto at = [&](std::int64_t now_ms) {
    const ReadRules rules{now_ms, 20, 10, 1, sizeof bounce, 0, 0};
    std::uint8_t told = 99;
    const State state = set.table().get(set.place(1), 0, OneSet::key(1), rules, bounce,
                                        {set.row.data(), &set.age, nullptr, &told}, set.tally);
    EXPECT(told == static_cast<std::uint8_t>(state));
    return state;
  };
  EXPECT(at(10) == State::kFresh && at(11) == State::kStale);
  EXPECT(at(20) == State::kStale && at(21) == State::kExpired);
}

void test_put_says_what_it_did() {
  OneSet set;
  for (std::uint64_t id = 0; id < kWays; ++id) {
    const PutResult result = set.put(id, 0);
    EXPECT(result.end == PutEnd::kInserted && !result.victim.valid());
    EXPECT(result.cause == Cause::kNone && result.reads == 2 && result.removed == 0);
  }
  EXPECT(set.put(3, 0).end == PutEnd::kOverwrote && set.entries() == kWays);
  const PutResult evicting = set.put(100, 0);
  EXPECT(evicting.end == PutEnd::kInserted && evicting.victim.valid());
  EXPECT(evicting.cause == Cause::kHand && set.entries() == kWays);
}

void test_full_set_evicts_what_was_not_used() {
  OneSet set;
  for (std::uint64_t id = 0; id < kWays; ++id) set.put(id, 0);
  EXPECT(set.get(0, 1) == 1 && set.touch(1) && !set.touch(55));
  set.put(100, 2);
  EXPECT(!set.has(2) && set.has(0) && set.has(1) && set.has(3) && set.has(100));
}

void test_speculation_keeps_to_its_quota() {
  OneSet set;
  for (std::uint64_t id = 0; id < kWays; ++id) set.put(id, 0);
  EXPECT(set.put(100, 0, kOriginSpeculative).cause == Cause::kHandBySpeculative);
  EXPECT(set.put(101, 0, kOriginSpeculative).cause == Cause::kQuota);
  EXPECT(!set.has(100) && set.has(101));
  EXPECT(set.get(101, 0) == 0 && set.tally.of(Event::kPromoted) == 1);
  EXPECT(set.put(102, 0, kOriginSpeculative).cause == Cause::kHandBySpeculative);
}

void test_expired_go_before_live_and_the_longest_reader_decides() {
  OneSet set;
  for (std::uint64_t id = 0; id < kWays; ++id) set.put(id, id == 9 || id == 5 ? 0 : 900);
  EXPECT(set.get(0, 1'000, 300) == 100);
  EXPECT(set.get(1, 1'000, 200) == 100);  // a pickier reader changes nothing
  EXPECT(!set.get(5, 1'000, 300));        // too old: not a use
  EXPECT(set.put(100, 1'000).cause == Cause::kExpired && !set.has(5) && set.has(9));
  EXPECT(set.put(101, 1'000).cause == Cause::kExpired && !set.has(9));
  EXPECT(set.put(102, 1'000).cause == Cause::kHand);
}

void test_nothing_is_expired_before_the_first_read() {
  OneSet set;
  for (std::uint64_t id = 0; id < kWays; ++id) set.put(id, id == 9 ? 0 : 1'000'000);
  EXPECT(set.put(100, 1'000'000).cause == Cause::kHand && set.has(9));
}

void test_age_zero_counts_as_a_reader() {
  OneSet set;
  set.table().accept_age(0);
  EXPECT(set.table().state().longest_age_ms.load() == 1);
  set.table().accept_age(50);
  set.table().accept_age(7);
  EXPECT(set.table().state().longest_age_ms.load() == 50);
}

void test_empty_ways_are_taken_first() {
  OneSet set;
  for (std::uint64_t id = 0; id < kWays; ++id) set.put(id, 0);
  EXPECT(set.invalidate(8) == RemoveEnd::kRemoved && set.invalidate(8) == RemoveEnd::kAbsent);
  EXPECT(set.entries() == kWays - 1 && !set.has(8));
  EXPECT(!set.put(100, 0).victim.valid() && set.has(0) && set.entries() == kWays);
}

void test_keys_are_compared_whole() {
  OneSet set;
  set.put(1, 0);
  const Key stranger{1, 8};
  const Place place = set.place(1);  // the very same set and fingerprint
  std::byte bounce[kDim * 4];
  const ReadOut out{set.row.data(), &set.age, nullptr, nullptr};
  const ReadRules rules{0, kForEver, kForEver, 1, sizeof bounce, 0, 0};
  EXPECT(set.table().get(place, 0, stranger, rules, bounce, out, set.tally) == State::kAbsent);
  EXPECT(set.tally.of(Event::kProbe) == 1);
  EXPECT(!set.table().touch(place, stranger, 0));
  EXPECT(set.table().invalidate(place, stranger, 16) == RemoveEnd::kAbsent && set.has(1));
}

void test_touch_does_not_find_what_counts_as_absent() {
  OneSet set;
  set.put(1, 0, kOriginSpeculative);
  set.floor = 4;
  EXPECT(!set.touch(1));
  set.floor = 3;
  EXPECT(set.touch(1));
}

void test_hints_are_set_once() {
  OneSet set;
  set.put(1, 0);
  for (int read = 0; read < 3; ++read) EXPECT(set.get(1, 0) == 0);
  EXPECT(set.tally.of(Event::kHintSet) == 1);
}

void test_budget_grows_with_the_writers() {
  OneSet set;
  set.table().state().writers.store(0);
  EXPECT(set.table().budget() == 16);
  set.table().state().writers.store(10);
  EXPECT(set.table().budget() == 56 && set.table().write_rules(0, 0, 0).budget == 56);
}

void test_shape_is_that_of_the_header() {
  const OneSet set;
  EXPECT(set.table().sets() == 1 && set.table().capacity() == kWays);
  EXPECT(set.table().row().dim() == kDim && set.table().row().parts() == 2);
  EXPECT(set.table().group_of({0, 0}) == Group::kOutside);
}

}  // namespace
}  // namespace predawn

int main() {
  predawn::test_states_follow_from_the_age();
  predawn::test_stale_lies_between_fresh_and_expired();
  predawn::test_put_says_what_it_did();
  predawn::test_full_set_evicts_what_was_not_used();
  predawn::test_speculation_keeps_to_its_quota();
  predawn::test_expired_go_before_live_and_the_longest_reader_decides();
  predawn::test_nothing_is_expired_before_the_first_read();
  predawn::test_age_zero_counts_as_a_reader();
  predawn::test_empty_ways_are_taken_first();
  predawn::test_keys_are_compared_whole();
  predawn::test_touch_does_not_find_what_counts_as_absent();
  predawn::test_hints_are_set_once();
  predawn::test_budget_grows_with_the_writers();
  predawn::test_shape_is_that_of_the_header();
  return predawn::testing::failures == 0 ? 0 : 1;
}
