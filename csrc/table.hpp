// A table: sets over one mapping, and what can be done to one key in its set.
//
// What: `Table`; `ReadRules`, `ReadOut`, `WriteRules`: what a batch has in common.
// When not: batches and counters (cache.hpp), the mapping (segment.hpp).
// Functions: `place`, the prefetches; `get`, `put`, `touch`, `invalidate`, `read_at`. All are safe
//   from any thread of any process; none waits for another.
// Design: a key lives in one set only, under at most one way, which it keeps until it is removed.
//   The store knows no time to live: "expired" is older than the longest age that any reader has
//   accepted so far, and nothing before the first read. Whether a row of an invalidated snapshot
//   is still there makes no difference to readers: it counts as absent.
// Memory: none of its own. Cost: set_read.hpp's and set_write.hpp's.
//   Words of SharedState are relaxed: each is a fact of its own.
#pragma once

#include <algorithm>
#include <cstdint>

#include "checksum.hpp"
#include "counters.hpp"
#include "header.hpp"
#include "policy.hpp"
#include "rows.hpp"
#include "samples.hpp"
#include "set_write.hpp"

namespace predawn {

using Set = SetRef<Atomics>;
using Log = ClaimLog<Atomics>;

inline constexpr std::uint8_t kOriginComputed = 0;
inline constexpr std::uint8_t kOriginSpeculative = 1;  // every other origin counts as computed

enum class State : std::uint8_t { kAbsent = 0, kExpired = 1, kStale = 2, kFresh = 3 };

struct ReadRules {
  std::int64_t now_ms = 0;
  std::int64_t max_age_ms = 0;
  std::int64_t fresh_ms = 0;  // not older: fresh; else stale
  std::uint32_t parts = 1;
  std::size_t row_bytes = 0;  // of these parts, whole words
  std::size_t scales = 0;     // of these parts, where the row format has them
  std::uint32_t snapshot_floor = 0;
};

// Where one key's answer goes; null: not wanted.
struct ReadOut {
  float* row;
  std::int64_t* age_ms;
  std::uint32_t* snapshot;
  std::uint8_t* state;
};

struct WriteRules {
  std::int64_t now_ms = 0;
  std::uint32_t snapshot = 0;
  std::uint8_t origin = 0;
  std::int64_t longest_age_ms = 0;
  std::uint32_t stamp = 0;
  unsigned budget = 0;  // reads of a set's word
};

[[nodiscard]] inline SlotFields fields_of(const Key& key, std::int64_t written_at_ms,
                                          std::uint32_t snapshot, SlotAbout about,
                                          const std::array<float, kScales>& scales) noexcept {
  return {key, written_at_ms, snapshot, about.word(),
          std::bit_cast<std::array<std::uint32_t, kScales>>(scales)};
}

// The hardware streams what is longer.
inline constexpr std::size_t kPrefetchBytesMax = 4096;

class Table {
 public:
  // `header`: as it was verified, not as the mapping says now, where others may write.
  Table(SharedState& state, const TableHeader& header, std::byte* base) noexcept
      : state_(&state),
        row_(header.dtype, header.dim, header.parts),
        sets_(header.sets),
        slot_bytes_(header.slot_bytes),
        lines_(base + header.lines_at),
        slots_(base + header.slots_at),
        placer_(sip_key(header.seed.data()), sets_, header.placement),
        leaders_(sets_) {}
  Table(Preamble& preamble, std::byte* base) noexcept
      : Table(preamble.state, preamble.header, base) {}

  [[nodiscard]] const RowFormat& row() const noexcept { return row_; }
  [[nodiscard]] SharedState& state() const noexcept { return *state_; }
  [[nodiscard]] std::uint64_t sets() const noexcept { return sets_; }
  [[nodiscard]] std::uint64_t capacity() const noexcept { return sets_ * kWays; }
  [[nodiscard]] Group group_of(Place place) const noexcept { return leaders_.group_of(place.set); }
  [[nodiscard]] Place place(Key key) const noexcept { return placer_.place(key); }
  [[nodiscard]] Set set(std::uint64_t index) const noexcept {
    return {reinterpret_cast<SetLine<Atomics>*>(lines_ + index * sizeof(SetLine<Atomics>)),
            slots_ + index * kSlots * slot_bytes_, slot_bytes_};
  }

  void prefetch_line(Place place) const noexcept { __builtin_prefetch(set(place.set).line); }

  // The slot that holds the key, if its set's line says so. Returns the ways that may hold it.
  template <Isa kIsa = Isa::kPortable>
  std::uint32_t prefetch_read(Place place, std::size_t row_bytes) const noexcept {
    const Set held = set(place.set);
    const std::uint32_t found = match_hint<kIsa>(*held.line, place.fingerprint);
    if (found != 0) prefetch_slot(held, first_tag(*held.line, found).slot(), row_bytes);
    return found;
  }

  // The slot that a put will fill, and the header of the one that it replaces.
  std::uint32_t prefetch_write(Place place) const noexcept {
    const Set held = set(place.set);
    const Tags tags = load_tags(*held.line);
    const SetWord word(held.line->word.load(std::memory_order_relaxed));
    const std::uint32_t free = detail::free_slots(word, tags);
    if (free != 0) prefetch_slot(held, detail::next_free(free, word.slot()), row_.bytes());
    const std::uint32_t found = match_hint(*held.line, place.fingerprint);
    if (found != 0) prefetch_slot(held, first_tag(*held.line, found).slot(), 0);
    return found;
  }

  // `hint`: what prefetch_read gave. `bounce`: own memory for a row. Absent, or not young enough:
  // the row is left as it was.
  template <Isa kIsa = Isa::kPortable>
  State get(Place place, std::uint32_t hint, const Key& key, const ReadRules& rules,
            std::byte* bounce, const ReadOut& out, Tally& tally) const noexcept {
    Found found;
    const Set held = set(place.set);
    const auto is_wanted = [&](const Found& seen) {
      return seen.snapshot >= rules.snapshot_floor &&
             age_ms(seen.written_at_ms, rules.now_ms) <= rules.max_age_ms;
    };
    const RowBuffer buffer{bounce, rules.row_bytes, rules.scales};
    const ReadEnd end = read_entry(held, key, place.fingerprint, hint, buffer, found, is_wanted);
    tally.count(Event::kProbe, found.probes);
    const std::int64_t age = age_ms(found.written_at_ms, rules.now_ms);
    const State state = judge(end, found, age, rules, tally);
    *out.age_ms = state >= State::kStale ? age : -1;
    if (out.state != nullptr) *out.state = static_cast<std::uint8_t>(state);
    if (state < State::kStale) return state;
    row_.load_by<kIsa>(bounce, found.scales.data(), out.row, rules.parts);
    if (out.snapshot != nullptr) *out.snapshot = found.snapshot;
    count_use(held, found, tally);
    return state;
  }

  // `row`: own memory, as RowFormat stores it.
  PutResult put(Place place, const Key& key, const WriteRules& rules, const std::byte* row,
                const std::array<float, kScales>& scales, const Log& log) const noexcept {
    const Set held = set(place.set);
    const Entry entry{key,
                      place.fingerprint,
                      rules.stamp,
                      rules.now_ms,
                      rules.snapshot,
                      rules.origin,
                      rules.origin != kOriginSpeculative,
                      scales,
                      row,
                      row_.padded_bytes(row_.parts())};
    const auto way_for = [&](const Tags& tags, unsigned hand) {
      return choose_way(held, place, entry, rules, tags, hand);
    };
    const std::uint64_t row_sum = row_checksum(row, entry.row_bytes);
    const auto seal = [&](SlotAbout about) {
      return slot_checksum(fields_of(key, rules.now_ms, rules.snapshot, about, scales), row_sum);
    };
    const PutResult result = put_entry(held, entry, log, rules.budget, way_for, seal);
    const bool is_growth = result.end == PutEnd::kInserted && !result.victim.valid();
    grow((is_growth ? 1 : 0) - static_cast<int>(result.removed));
    return result;
  }

  // Age of the key's entry and its snapshot, -1 where `get` would find none. No use: no hint is set
  // and nothing counted.
  std::int64_t peek(Place place, std::uint32_t hint, const Key& key, const ReadRules& rules,
                    std::uint32_t& snapshot) const noexcept {
    Found found;
    const Set held = set(place.set);
    const auto no_row = [](const Found&) { return false; };
    const ReadEnd end = read_entry(held, key, place.fingerprint, hint, RowBuffer{}, found, no_row);
    if (end != ReadEnd::kFound || found.snapshot < rules.snapshot_floor) return -1;
    snapshot = found.snapshot;
    const std::int64_t age = age_ms(found.written_at_ms, rules.now_ms);
    return age <= rules.max_age_ms ? age : -1;
  }

  // Marks as used by a request; true if the key is there, of a snapshot that still counts.
  bool touch(Place place, const Key& key, std::uint32_t snapshot_floor) const noexcept {
    Found found;
    const Set held = set(place.set);
    const auto no_row = [](const Found&) { return false; };
    const ReadEnd end = read_entry(held, key, place.fingerprint, 0, {}, found, no_row);
    if (end != ReadEnd::kFound || found.snapshot < snapshot_floor) return false;
    mark_used(held, found.way, found.tag, Tag::kVisited | Tag::kDemanded);
    return true;
  }

  RemoveEnd invalidate(Place place, const Key& key, unsigned budget) const noexcept {
    const RemoveEnd end = remove_entry(set(place.set), key, place.fingerprint, budget);
    if (end == RemoveEnd::kRemoved) grow(-1);
    return end;
  }

  // A reader accepts ages up to this; it decides which entries count as expired for eviction.
  void accept_age(std::int64_t max_age_ms) const noexcept {
    std::atomic<std::int64_t>& longest = state_->longest_age_ms;
    std::int64_t held = longest.load(std::memory_order_relaxed);
    // 0 says that nobody has read yet, so an age of 0 is kept as 1.
    const std::int64_t accepted = std::max<std::int64_t>(max_age_ms, 1);
    while (accepted > held &&
           !longest.compare_exchange_weak(held, accepted, std::memory_order_relaxed)) {
    }
  }

  [[nodiscard]] ReadRules read_rules(std::int64_t now_ms, std::int64_t max_age_ms,
                                     std::int64_t fresh_ms, std::uint32_t parts) const noexcept {
    const std::size_t scales = row_.dtype() == Dtype::kInt8 ? parts : 0;
    const std::uint32_t floor = state_->snapshot_floor.load(std::memory_order_relaxed);
    return {now_ms, max_age_ms, fresh_ms, parts, row_.padded_bytes(parts), scales, floor};
  }

  [[nodiscard]] WriteRules write_rules(std::int64_t now_ms, std::uint32_t snapshot,
                                       std::uint8_t origin) const noexcept {
    const std::int64_t longest = state_->longest_age_ms.load(std::memory_order_relaxed);
    return {now_ms, snapshot, origin, longest, stamp_of(now_ms, stamp_shift(longest)), budget()};
  }

  // More than others can do to a set's word without a publication of their own (cache.md 5.8).
  [[nodiscard]] unsigned budget() const noexcept {
    return 16 + 4 * state_->writers.load(std::memory_order_relaxed);
  }

 private:
  static Tag first_tag(const SetLine<Atomics>& line, std::uint32_t ways) noexcept {
    return Tag(line.tags[std::countr_zero(ways)].load(std::memory_order_relaxed));
  }

  static void prefetch_slot(const Set& held, unsigned slot, std::size_t row_bytes) noexcept {
    const auto* bytes = reinterpret_cast<const std::byte*>(held.slot(slot));
    const std::size_t wanted = kLineBytes + std::min(row_bytes, kPrefetchBytesMax);
    for (std::size_t at = 0; at < wanted; at += kLineBytes) __builtin_prefetch(bytes + at);
  }

  void grow(int entries) const noexcept {
    if (entries != 0) state_->entries.fetch_add(entries, std::memory_order_relaxed);
  }

  static State judge(ReadEnd end, const Found& found, std::int64_t age, const ReadRules& rules,
                     Tally& tally) noexcept {
    const auto ends = [&](Event event, State state) {
      tally.count(event);
      return state;
    };
    if (end == ReadEnd::kAbsent) return ends(Event::kAbsent, State::kAbsent);
    if (end == ReadEnd::kRaced) return ends(Event::kRaced, State::kAbsent);
    if (found.snapshot < rules.snapshot_floor) return ends(Event::kOutdated, State::kAbsent);
    if (age > rules.max_age_ms) return ends(Event::kExpired, State::kExpired);
    if (age > rules.fresh_ms) return ends(Event::kStale, State::kStale);
    return ends(Event::kFresh, State::kFresh);
  }

  static void count_use(const Set& held, const Found& found, Tally& tally) noexcept {
    if (found.about.origin() == kOriginSpeculative) {
      tally.count(Event::kSpeculativeHit);
      if (!found.tag.demanded()) tally.count(Event::kPromoted);
    }
    constexpr std::uint32_t kUsed = Tag::kVisited | Tag::kDemanded;
    if ((found.tag.word() & kUsed) == kUsed) return;
    tally.count(Event::kHintSet);
    mark_used(held, found.way, found.tag, kUsed);
  }

  Choice choose_way(const Set& held, Place place, const Entry& entry, const WriteRules& rules,
                    const Tags& tags, unsigned hand) const noexcept {
    const auto slot_of = [&](unsigned way) { return held.slot(tags[way].slot()); };
    const auto is_expired = [&](unsigned way) {
      const std::int64_t written = slot_of(way)->written_at_ms.load(std::memory_order_relaxed);
      return age_ms(written, rules.now_ms) > rules.longest_age_ms;
    };
    const auto order_of = [&](unsigned way) {
      return slot_of(way)->order.load(std::memory_order_relaxed);
    };
    const SteeringDecision decision = state_->steering.decision_for(leaders_.group_of(place.set));
    return choose({.tags = tags,
                   .hand = hand,
                   .speculative = !entry.is_demanded,
                   .quota = decision.quota,
                   .rule = decision.rule,
                   .now_stamp = rules.stamp,
                   .any_reader = rules.longest_age_ms > 0},
                  is_expired, order_of);
  }

  SharedState* state_;
  RowFormat row_;
  std::uint64_t sets_;
  std::size_t slot_bytes_;
  std::byte* lines_;
  std::byte* slots_;
  Placer placer_;
  Leaders leaders_;
};

}  // namespace predawn
