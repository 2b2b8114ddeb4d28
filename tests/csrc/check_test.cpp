// Every sentence of the walk is provoked by damage to memory, alone where the damage allows.
#include "check.hpp"

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "cache.hpp"
#include "expect.hpp"

namespace predawn {
namespace {

constexpr std::uint64_t kSets = 3;
constexpr std::uint64_t kKeys = 24;
constexpr TableShape kShape{kSets * kWays, 2, 1, Dtype::kFp32, IdKind::kInteger};

Seed some_seed() {
  Seed seed;
  for (std::size_t i = 0; i < seed.size(); ++i) seed[i] = static_cast<std::uint8_t>(i * 7 + 1);
  return seed;
}

// A cache with entries in every set, and one of them to be damaged.
class Victim {
 public:
  Victim() : cache_(Cache::create("", kShape, some_seed(), 0, {.huge_pages = false})) {
    std::vector<Key> keys;
    for (std::uint64_t id = 0; id < kKeys; ++id) keys.push_back({id, 5});
    const std::vector<float> rows(2 * kKeys, 1.5f);
    EXPECT(cache_->put_many(keys, rows.data(), {100, 3, 0}) == kKeys);
  }

  [[nodiscard]] Cache& cache() const { return *cache_; }
  [[nodiscard]] Preamble& preamble() const { return cache_->segment().preamble(); }
  [[nodiscard]] Set set() const { return cache_->table().set(0); }
  [[nodiscard]] Tag tag(unsigned way) const { return Tag(set().line->tags[way].load()); }
  void tag(unsigned way, Tag tag) const { set().line->tags[way].store(tag.word()); }
  [[nodiscard]] SlotHeader<Atomics>& slot(unsigned way) const {
    return *set().slot(tag(way).slot());
  }
  [[nodiscard]] SetWord word() const { return SetWord(set().line->word.load()); }
  void word(SetWord word) const { set().line->word.store(word.word()); }

  // The checksum as it should be, the tag as the slot says.
  void seal(unsigned way) const {
    SlotHeader<Atomics>& held = slot(way);
    const Key key{held.key_lo.load(), held.key_hi.load()};
    const SlotAbout about(held.about.load());
    const std::size_t row_bytes = cache_->table().row().padded_bytes();
    held.checksum.store(
        slot_checksum(fields_of(key, held.written_at_ms.load(), held.snapshot.load(), about, {}),
                      row_checksum(row_of(&held), row_bytes)));
    tag(way, about.tag(tag(way).slot(), held.seq.load()));
  }

  void expect_only(const std::string& sentence) const {
    const std::vector<std::string> found = cache_->check();
    const bool is_right = found.size() == 1 && found[0] == sentence;
    EXPECT(is_right);
    if (is_right) return;
    std::fprintf(stderr, "  wanted: %s\n", sentence.c_str());
    for (const std::string& other : found) std::fprintf(stderr, "  found: %s\n", other.c_str());
  }

 private:
  std::unique_ptr<Cache> cache_;
};

bool is_named(const std::vector<std::string>& sentences, const std::string& sentence) {
  return std::find(sentences.begin(), sentences.end(), sentence) != sentences.end();
}

void test_sound_cache_has_no_violations() {
  const Victim victim;
  EXPECT(victim.cache().check().empty());
  const Findings findings = walk(victim.cache().table(), victim.preamble());
  EXPECT(findings.entries == kKeys && findings.left_out == 0);
  EXPECT(victim.tag(0).valid() && victim.tag(1).valid() && !victim.tag(kWays - 1).valid());
}

void test_two_ways_with_one_slot() {
  const Victim victim;
  victim.tag(1, victim.tag(0));
  const std::vector<std::string> found = victim.cache().check();
  EXPECT(found.size() == 2);
  EXPECT(is_named(found, "set 0 way 1: names a slot that another way names"));
  EXPECT(is_named(found, "set 0 way 1: holds a key that another way holds"));
}

void test_one_key_twice() {
  const Victim victim;
  victim.slot(1).key_lo.store(victim.slot(0).key_lo.load());
  victim.slot(1).about.store(victim.slot(0).about.load());
  victim.seal(1);
  victim.expect_only("set 0 way 1: holds a key that another way holds");
}

void test_entry_in_a_slot_that_is_being_filled() {
  const Victim victim;
  const unsigned slot = victim.tag(1).slot();
  victim.word(victim.word().with_claim(slot));
  const std::vector<std::string> found = victim.cache().check();
  EXPECT(found.size() == 2);
  EXPECT(is_named(found, "set 0 way 1: names a slot that is being filled"));
  EXPECT(is_named(found, "set 0 slot " + std::to_string(slot) + ": is claimed by nobody"));
}

void test_claim_that_no_journal_line_notes() {
  const Victim victim;
  victim.word(victim.word().with_claim(15));
  victim.expect_only("set 0 slot 15: is claimed by nobody");
  victim.preamble().journal[200].claim.store(ClaimNote(0, 15, 3).word());
  EXPECT(victim.cache().check().empty());
  victim.preamble().journal[200].claim.store(ClaimNote(1, 15, 3).word());  // another set's
  victim.expect_only("set 0 slot 15: is claimed by nobody");
}

void test_hand_that_points_to_no_way() {
  const Victim victim;
  for (unsigned hand = kWays; hand < 16; ++hand) {
    const SetWord word = victim.word();
    victim.word(word.with_pending(word.way(), word.slot(), hand).finished());
    victim.expect_only("set 0 way " + std::to_string(hand) +
                       ": is the hand's, which points to no way");
  }
}

void test_slot_that_is_being_written() {
  const Victim victim;
  victim.slot(2).seq.fetch_add(1);
  victim.expect_only("set 0 way 2: names a slot that is being written");
}

void test_tag_of_another_writing_or_time() {
  for (const std::uint32_t bit : {1u << 8, 1u << 28}) {
    const Victim victim;
    victim.tag(2, Tag(victim.tag(2).word() ^ bit));
    victim.expect_only("set 0 way 2: has a tag that is not its slot's");
  }
}

void test_hints_may_differ_from_those_of_the_slot() {
  const Victim victim;
  victim.tag(2, Tag(victim.tag(2).word() ^ Tag::kHints));
  EXPECT(victim.cache().check().empty());
}

void test_key_of_another_set() {
  const Victim victim;
  const std::uint32_t fingerprint = victim.tag(3).fingerprint();
  Key key{0, 99};
  Place place = victim.cache().table().place(key);
  while (place.set == 0 || place.fingerprint != fingerprint) {
    ++key.lo;
    place = victim.cache().table().place(key);
  }
  victim.slot(3).key_lo.store(key.lo);
  victim.slot(3).key_hi.store(key.hi);
  victim.seal(3);
  victim.expect_only("set 0 way 3: holds a key of another set");
}

void test_fingerprint_of_another_key() {
  const Victim victim;
  victim.slot(3).about.store(victim.slot(3).about.load() ^ 1u);
  victim.seal(3);
  victim.expect_only("set 0 way 3: has a fingerprint that is not its key's");
}

void test_contents_of_a_slot() {
  using Damage = std::function<void(SlotHeader<Atomics>&)>;
  const Damage damages[] = {
      [](SlotHeader<Atomics>& slot) { *row_of(&slot) ^= std::byte{1}; },
      [](SlotHeader<Atomics>& slot) { slot.written_at_ms.fetch_add(1); },
      [](SlotHeader<Atomics>& slot) { slot.snapshot.fetch_add(1); },
      [](SlotHeader<Atomics>& slot) { slot.about.fetch_add(1u << 24); },  // the origin
      [](SlotHeader<Atomics>& slot) { slot.scales[3].store(1); },
      [](SlotHeader<Atomics>& slot) { slot.checksum.fetch_add(1); },
  };
  for (const Damage& damage : damages) {
    const Victim victim;
    damage(victim.slot(4));
    victim.expect_only("set 0 way 4: has contents that do not match their checksum");
  }
}

void test_count_that_disagrees() {
  const Victim victim;
  victim.preamble().state.entries.fetch_add(1);
  victim.expect_only("counters: 25 entries counted, 24 found");
  victim.preamble().state.joined.store(2);  // who may have died before it counted
  EXPECT(victim.cache().check().empty());
}

void test_pending_change_is_finished_not_judged() {
  const Victim victim;
  const SetWord word = victim.word();
  victim.word(word.with_pending(2, victim.tag(2).slot(), word.hand()));  // a removal
  const Findings findings = walk(victim.cache().table(), victim.preamble());
  EXPECT(findings.broken.empty() && findings.entries == kKeys - 1);
  EXPECT(!victim.word().pending() && !victim.tag(2).valid());
}

void test_sentences_are_bounded() {
  const TableShape shape{1'400, 1, 1, Dtype::kFp32, IdKind::kInteger};
  const auto cache = Cache::create("", shape, some_seed(), 0, {.huge_pages = false});
  const float row = 1;
  for (std::uint64_t id = 0; id < 1'000; ++id) {
    const Key key{id, 0};
    cache->put_many({&key, 1}, &row, {});
  }
  for (std::uint64_t set = 0; set < 100; ++set) {
    for (auto& tag : cache->table().set(set).line->tags) tag.fetch_xor(1u << 28);
  }
  const std::size_t sentences = cache->check().size();
  EXPECT(sentences >= kSentences && sentences < kSentences + kWays);
}

}  // namespace
}  // namespace predawn

int main() {
  predawn::test_sound_cache_has_no_violations();
  predawn::test_two_ways_with_one_slot();
  predawn::test_one_key_twice();
  predawn::test_entry_in_a_slot_that_is_being_filled();
  predawn::test_claim_that_no_journal_line_notes();
  predawn::test_hand_that_points_to_no_way();
  predawn::test_slot_that_is_being_written();
  predawn::test_tag_of_another_writing_or_time();
  predawn::test_hints_may_differ_from_those_of_the_slot();
  predawn::test_key_of_another_set();
  predawn::test_fingerprint_of_another_key();
  predawn::test_contents_of_a_slot();
  predawn::test_count_that_disagrees();
  predawn::test_pending_change_is_finished_not_judged();
  predawn::test_sentences_are_bounded();
  return predawn::testing::failures == 0 ? 0 : 1;
}
