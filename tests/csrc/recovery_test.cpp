// After any end, everything valid is found, nothing else is, and every invariant holds.
#include "recovery.hpp"

#include <csignal>
#include <cstring>
#include <functional>
#include <map>
#include <random>
#include <vector>

#include "check.hpp"
#include "expect.hpp"
#include "on_files.hpp"
#include "segment.hpp"

namespace predawn {
namespace {

constexpr std::uint32_t kDim = 8;
constexpr std::int64_t kNowMs = 1'000;

using Row = std::array<float, kDim>;

Row row_of_key(std::uint64_t id, float salt = 0) {
  Row row;
  for (std::uint32_t i = 0; i < kDim; ++i) row[i] = static_cast<float>(id * 100 + i) + salt;
  return row;
}

class Store {
 public:
  explicit Store(std::uint64_t capacity)
      : segment_(
            Segment::create("", {capacity, kDim, 1, Dtype::kFp32}, Seed{5}, kNowMs, {false, 50})),
        table_(segment_.preamble(), segment_.at(0)) {}

  void put(std::uint64_t id, float salt = 0) {
    const Key key{id, 0};
    const Place place = table_.place(key);
    const Row values = row_of_key(id, salt);
    Row row;
    std::array<float, kScales> scales{};
    table_.row().store(values.data(), reinterpret_cast<std::byte*>(row.data()), scales.data());
    const JournalLease lease = segment_.lease();
    const PutResult result = table_.put(place, key, table_.write_rules(kNowMs, 1, 0),
                                        reinterpret_cast<const std::byte*>(row.data()), scales,
                                        {lease.line(), lease.generation(), place.set});
    EXPECT(result.end == PutEnd::kInserted || result.end == PutEnd::kOverwrote);
  }

  // What is found under a key: its row's salt, or nothing.
  std::optional<float> get(std::uint64_t id) {
    Row row{};
    Row bounce;
    std::int64_t age = 0;
    ReadRules rules{kNowMs, INT64_MAX, INT64_MAX, 1, table_.row().padded_bytes(1), 0, 0};
    const Key key{id, 0};
    const State state =
        table_.get(table_.place(key), 0, key, rules, reinterpret_cast<std::byte*>(bounce.data()),
                   {row.data(), &age, nullptr, nullptr}, tally_);
    if (state == State::kAbsent) return std::nullopt;
    const float salt = row[0] - static_cast<float>(id * 100);
    EXPECT(row == row_of_key(id, salt));
    return salt;
  }

  Recovered recover_all() {
    const Recovered count = recover(segment_.preamble(), table_);
    const Findings findings = walk(table_, segment_.preamble());
    for (const auto& sentence : findings.broken) std::fprintf(stderr, "%s\n", sentence.c_str());
    EXPECT(findings.broken.empty());
    EXPECT(findings.entries == count.kept);
    EXPECT(segment_.preamble().state.entries == static_cast<std::int64_t>(count.kept));
    const Recovered again = recover(segment_.preamble(), table_);
    EXPECT(again.kept == count.kept && again.dropped() == 0 && again.finished == 0);
    return count;
  }

  SetRef<Atomics> set(std::uint64_t index = 0) { return table_.set(index); }
  std::atomic<std::uint32_t>& tag_of(std::uint64_t id) {
    const Place place = table_.place({id, 0});
    const Set held = table_.set(place.set);
    for (auto& word : held.line->tags) {
      const Tag tag(word.load());
      if (tag.valid() && held.slot(tag.slot())->key_lo == id) return word;
    }
    std::abort();
  }
  SlotHeader<Atomics>* slot_of(std::uint64_t id) {
    return table_.set(table_.place({id, 0}).set).slot(Tag(tag_of(id).load()).slot());
  }
  unsigned way_of(std::uint64_t id) {
    return static_cast<unsigned>(&tag_of(id) - &set(table_.place({id, 0}).set).line->tags[0]);
  }
  Segment& segment() { return segment_; }
  Table& table() { return table_; }

 private:
  Segment segment_;
  Table table_;
  Tally tally_;
};

// Entries 0..9 in one set.
struct TenEntries : Store {
  TenEntries() : Store(kWays) {
    for (std::uint64_t id = 0; id < 10; ++id) put(id);
  }
};

void test_sound_table_stays_as_it_is() {
  Store store(2'000);
  for (std::uint64_t id = 0; id < 1'000; ++id) store.put(id);
  const std::int64_t entries = store.segment().preamble().state.entries;
  store.segment().preamble().state.entries = -5;
  const Recovered count = store.recover_all();
  EXPECT(count.kept == static_cast<std::uint64_t>(entries) && count.dropped() == 0);
  std::uint64_t found = 0;
  for (std::uint64_t id = 0; id < 1'000; ++id) found += store.get(id) ? 1 : 0;
  EXPECT(found == count.kept);
}

void test_each_damage_drops_its_entry_alone() {
  struct Damage {
    std::uint64_t Recovered::* reason;
    std::function<void(TenEntries&)> make;
  };
  const std::vector<Damage> damages{
      {&Recovered::unfinished, [](TenEntries& s) { s.slot_of(3)->seq.fetch_sub(1); }},
      {&Recovered::unfinished, [](TenEntries& s) { s.slot_of(3)->seq = 0; }},
      {&Recovered::stale, [](TenEntries& s) { s.slot_of(3)->seq.fetch_add(2); }},
      {&Recovered::stale, [](TenEntries& s) { s.tag_of(3).fetch_xor(1u << 30); }},
      {&Recovered::stale, [](TenEntries& s) { s.tag_of(3).fetch_xor(1u << 20); }},
      {&Recovered::misplaced, [](TenEntries& s) { s.slot_of(3)->key_hi = 1; }},
      {&Recovered::damaged, [](TenEntries& s) { s.slot_of(3)->written_at_ms = 7; }},
      {&Recovered::damaged, [](TenEntries& s) { s.slot_of(3)->snapshot = 7; }},
      {&Recovered::damaged, [](TenEntries& s) { s.slot_of(3)->checksum.fetch_xor(1); }},
      {&Recovered::damaged, [](TenEntries& s) { row_of(s.slot_of(3))[31] ^= std::byte{1}; }},
  };
  for (const Damage& damage : damages) {
    TenEntries store;
    damage.make(store);
    const Recovered count = store.recover_all();
    EXPECT(count.kept == 9 && count.dropped() == 1 && count.*damage.reason == 1);
    for (std::uint64_t id = 0; id < 10; ++id) EXPECT(store.get(id).has_value() == (id != 3));
  }
}

// A writer that died at each of its steps.
void test_writer_killed_before_its_announcement() {
  TenEntries store;
  auto& word = store.set().line->word;
  word = SetWord(word).with_claim(12).word();
  store.set().slot(12)->seq.fetch_add(1);
  const Recovered count = store.recover_all();
  EXPECT(count.kept == 10 && count.released == 1 && count.dropped() == 0);
  store.put(3, 0.5);
  EXPECT(store.get(3) == 0.5f);
}

void test_announced_publication_is_finished() {
  TenEntries store;
  const unsigned way = store.way_of(3);
  const Tag old(store.tag_of(3).load());
  store.put(3, 0.5);
  const Tag now(store.tag_of(3).load());
  store.tag_of(3) = old.word();  // as if it had stopped right after the announcement
  auto& word = store.set().line->word;
  word = SetWord(word).with_claim(now.slot()).with_pending(way, now.slot(), 0).word();
  const Recovered count = store.recover_all();
  EXPECT(count.kept == 10 && count.finished == 1);
  EXPECT(store.get(3) == 0.5f);
}

void test_announced_publication_of_a_bad_slot_is_dropped() {
  TenEntries store;
  auto& word = store.set().line->word;
  word = SetWord(word).with_claim(13).with_pending(store.way_of(3), 13, 0).word();
  const Recovered count = store.recover_all();
  EXPECT(count.kept == 10 && count.finished == 0 && count.released == 1);
  EXPECT(store.get(3) == 0.0f);
}

void test_announced_removal_is_finished() {
  TenEntries store;
  auto& word = store.set().line->word;
  word = SetWord(word).with_pending(store.way_of(3), Tag(store.tag_of(3)).slot(), 0).word();
  const Recovered count = store.recover_all();
  EXPECT(count.kept == 9 && count.finished == 1 && count.dropped() == 0);
  EXPECT(!store.get(3));
}

void test_of_two_with_one_key_the_later_stays() {
  for (const bool is_turned : {false, true}) {
    TenEntries store;
    const Tag old(store.tag_of(3).load());
    const unsigned way = store.way_of(3);
    store.put(3, 0.5);
    auto* tags = store.set().line->tags;
    unsigned other = 0;
    while (Tag(tags[other]).valid()) ++other;
    tags[other] = old.word();
    if (is_turned) tags[other] = tags[way].exchange(tags[other]);
    const Recovered count = store.recover_all();
    EXPECT(count.kept == 10 && count.duplicate == 1);
    EXPECT(store.get(3) == 0.5f);
  }
}

void test_two_ways_of_one_slot() {
  TenEntries store;
  auto* tags = store.set().line->tags;
  unsigned other = 0;
  while (Tag(tags[other]).valid()) ++other;
  tags[other] = store.tag_of(3).load();
  const Recovered count = store.recover_all();
  EXPECT(count.kept == 10 && count.duplicate == 1);
  EXPECT(store.get(3) == 0.0f);
}

// Noise anywhere behind the preamble: no step outside, no wrong row, sound again afterwards.
void test_random_damage_leaves_a_sound_table() {
  std::mt19937_64 random(1);
  for (int round = 0; round < 200; ++round) {
    Store store(300);
    for (std::uint64_t id = 0; id < 250; ++id) store.put(id);
    const std::size_t lines_at = store.segment().layout().lines_at;
    const bool lines_only = round % 2 == 0;
    const std::size_t end =
        lines_only ? lines_at + store.segment().layout().sets * sizeof(SetLine<Atomics>)
                   : store.segment().bytes();
    for (std::uint64_t i = 0; i < random() % 200; ++i) {
      *store.segment().at(lines_at + random() % (end - lines_at)) =
          static_cast<std::byte>(random());
    }
    store.segment().preamble().state.longest_age_ms = static_cast<std::int64_t>(random());
    (void)store.recover_all();
    for (std::uint64_t id = 0; id < 250; ++id) (void)store.get(id);
    for (std::uint64_t id = 0; id < 250; ++id) store.put(id, 0.5);
    EXPECT(walk(store.table(), store.segment().preamble()).broken.empty());
  }
}

void test_killed_process_leaves_nearly_everything() {
  const testing::TempFolder folder;
  const std::string path = folder.file("a");
  constexpr std::uint64_t kEntries = 2'000;
  EXPECT(!testing::ends_well(testing::start_child([&] {
    Segment segment =
        Segment::create(path, {kEntries * 4, kDim, 1, Dtype::kFp32}, Seed{5}, kNowMs, {false, 50});
    const Table table(segment.preamble(), segment.at(0));
    const Row row{};
    for (std::uint64_t id = 0; id < kEntries; ++id) {
      const Key key{id, 0};
      const Place place = table.place(key);
      const JournalLease lease = segment.lease();
      (void)table.put(place, key, table.write_rules(kNowMs, 1, 0),
                      reinterpret_cast<const std::byte*>(row.data()), {},
                      {lease.line(), lease.generation(), place.set});
    }
    ::raise(SIGKILL);
    return true;
  })));
  Segment segment = Segment::attach(path, {false, 50});
  EXPECT(segment.must_recover());
  const Table table(segment.preamble(), segment.at(0));
  const Recovered count = recover(segment.preamble(), table);
  segment.recovered();
  EXPECT(count.kept >= kEntries * 99 / 100 && count.dropped() == 0);
}

}  // namespace
}  // namespace predawn

int main() {
  predawn::test_sound_table_stays_as_it_is();
  predawn::test_each_damage_drops_its_entry_alone();
  predawn::test_writer_killed_before_its_announcement();
  predawn::test_announced_publication_is_finished();
  predawn::test_announced_publication_of_a_bad_slot_is_dropped();
  predawn::test_announced_removal_is_finished();
  predawn::test_of_two_with_one_key_the_later_stays();
  predawn::test_two_ways_of_one_slot();
  predawn::test_random_damage_leaves_a_sound_table();
  predawn::test_killed_process_leaves_nearly_everything();
  return predawn::testing::failures == 0 ? 0 : 1;
}
