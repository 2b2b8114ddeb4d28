// What is still good of a table after a stop that was not clean.
//
// What: `recover`; `Recovered`, what it found.
// When not: beside anybody else: the caller is the only user of the store (Segment::must_recover).
// Functions: `recover` leaves a table whose every invariant holds (check.hpp), with every entry
// that
//   was published and is whole. It may be interrupted and run again.
// Design: set by set. A change that was announced is finished, claims are dropped. An entry stays
// if
//   its tag is that of its slot's finished writing, its key belongs into this set under this
//   fingerprint, and its checksum holds; of two with one key, or in one slot, the later written
//   one. Nothing in the file is believed: every index is masked or compared before it is used.
//   Lines that are right are not written.
// Memory: none. Cost: reads every entry once: what memory, or the disk, gives.
#pragma once

#include <bit>
#include <cstdint>

#include "checksum.hpp"
#include "header.hpp"
#include "table.hpp"

namespace predawn {

struct Recovered {
  std::uint64_t kept = 0;  // entries
  // Entries that are gone:
  std::uint64_t unfinished = 0;  // the slot was never wholly written
  std::uint64_t stale = 0;       // the slot has been written again since
  std::uint64_t misplaced = 0;   // the key belongs elsewhere
  std::uint64_t damaged = 0;     // the checksum does not hold
  std::uint64_t duplicate = 0;   // the key, or the slot, is another entry's
  // Repairs:
  std::uint64_t finished = 0;  // announced changes
  std::uint64_t released = 0;  // claimed slots

  [[nodiscard]] std::uint64_t dropped() const noexcept {
    return unfinished + stale + misplaced + damaged + duplicate;
  }
};

namespace detail {

class SetRecovery {
 public:
  SetRecovery(const Table& table, Recovered& count) noexcept
      : table_(table),
        count_(count),
        row_bytes_(table.row().padded_bytes(table.row().parts())),
        slot_bytes_(slot_bytes(row_bytes_)) {}

  void settle(std::uint64_t index) noexcept {
    const Set set = table_.set(index);
    const Tags before = load_tags(*set.line);
    tags_ = before;
    finish(set, index);
    keep_sound(set, index);
    drop_doubles(set);
    for (unsigned way = 0; way < kWays; ++way) {
      if (tags_[way] != before[way]) {
        set.line->tags[way].store(tags_[way].word(), std::memory_order_relaxed);
      }
      count_.kept += tags_[way].valid() ? 1 : 0;
    }
    put_to_rest(set);
  }

  // Asks memory for what `settle` will read of a set.
  void prefetch(std::uint64_t index) const noexcept {
    const Set set = table_.set(index);
    for (const Tag tag : load_tags(*set.line)) {
      if (!tag.valid()) continue;
      const auto* slot = reinterpret_cast<const std::byte*>(set.slot(tag.slot()));
      for (std::size_t at = 0; at < kPrefetchBytes && at < slot_bytes_; at += kLineBytes) {
        __builtin_prefetch(slot + at);
      }
    }
  }

 private:
  static constexpr std::size_t kPrefetchBytes = 512;  // the hardware streams longer rows itself

  // Why an entry may not stay; null: it may.
  using Reason = std::uint64_t Recovered::*;

  [[nodiscard]] static Key key_of(const SlotHeader<Atomics>& slot) noexcept {
    return {slot.key_lo.load(std::memory_order_relaxed),
            slot.key_hi.load(std::memory_order_relaxed)};
  }

  [[nodiscard]] Reason fault_of(const Set& set, std::uint64_t index, Tag tag) const noexcept {
    const SlotHeader<Atomics>& slot = *set.slot(tag.slot());
    const std::uint64_t seq = slot.seq.load(std::memory_order_relaxed);
    if ((seq & 1) != 0 || seq == 0) return &Recovered::unfinished;
    const SlotAbout about(slot.about.load(std::memory_order_relaxed));
    if (!about.tag(tag.slot(), seq).same_but_hints(tag)) return &Recovered::stale;
    const Place place = table_.place(key_of(slot));
    if (place.set != index || place.fingerprint != tag.fingerprint()) return &Recovered::misplaced;
    return is_whole(slot) ? nullptr : &Recovered::damaged;
  }

  [[nodiscard]] bool is_whole(const SlotHeader<Atomics>& slot) const noexcept {
    SlotFields fields{key_of(slot),
                      slot.written_at_ms.load(std::memory_order_relaxed),
                      slot.snapshot.load(std::memory_order_relaxed),
                      slot.about.load(std::memory_order_relaxed),
                      {}};
    for (std::size_t part = 0; part < kScales; ++part) {
      fields.scales[part] = slot.scales[part].load(std::memory_order_relaxed);
    }
    return slot_checksum(fields, row_checksum(row_of(&slot), row_bytes_)) ==
           slot.checksum.load(std::memory_order_relaxed);
  }

  // Does what the set's word announces, if that can be.
  void finish(const Set& set, std::uint64_t index) noexcept {
    const SetWord word(set.line->word.load(std::memory_order_relaxed));
    if (!word.pending() || word.way() >= kWays) return;
    Tag& tag = tags_[word.way()];
    if (word.publishes()) {
      const SlotHeader<Atomics>& slot = *set.slot(word.slot());
      const SlotAbout about(slot.about.load(std::memory_order_relaxed));
      const Tag published = about.tag(word.slot(), slot.seq.load(std::memory_order_relaxed));
      if (fault_of(set, index, published) != nullptr) return;
      if (!published.same_but_hints(tag)) tag = published;
    } else {
      tag = tag.without(Tag::kValid);
    }
    ++count_.finished;
  }

  void keep_sound(const Set& set, std::uint64_t index) noexcept {
    for (Tag& tag : tags_) {
      if (tag.valid()) drop_for(fault_of(set, index, tag), tag);
    }
  }

  void drop_for(Reason reason, Tag& tag) noexcept {
    if (reason == nullptr) return;
    ++(count_.*reason);
    tag = tag.without(Tag::kValid);
  }

  void drop_doubles(const Set& set) noexcept {
    for (unsigned one = 0; one < kWays; ++one) {
      for (unsigned two = one + 1; two < kWays && tags_[one].valid(); ++two) {
        if (!tags_[two].valid() || tags_[one].fingerprint() != tags_[two].fingerprint()) continue;
        const SlotHeader<Atomics>& first = *set.slot(tags_[one].slot());
        const SlotHeader<Atomics>& second = *set.slot(tags_[two].slot());
        if (key_of(first) != key_of(second)) continue;  // two ways of one slot have its key
        const std::uint32_t later = second.order.load(std::memory_order_relaxed) -
                                    first.order.load(std::memory_order_relaxed);
        const bool is_second_later = static_cast<std::int32_t>(later) > 0;
        drop_for(&Recovered::duplicate, tags_[is_second_later ? one : two]);
      }
    }
  }

  // No claim, no announcement, a hand that points to a way.
  void put_to_rest(const Set& set) noexcept {
    const SetWord before(set.line->word.load(std::memory_order_relaxed));
    const unsigned hand = before.hand() < kWays ? before.hand() : 0;
    SetWord word = before;
    for (unsigned slot = 0; slot < kSlots; ++slot) {
      if (!word.is_claimed(slot)) continue;
      word = SetWord(word.word() + SetWord::release_of(slot));
      ++count_.released;
    }
    if (word.pending() || word.hand() != hand) {
      word = word.with_pending(0, word.slot(), hand).finished();
    }
    if (word != before) set.line->word.store(word.word(), std::memory_order_relaxed);
  }

  const Table& table_;
  Recovered& count_;
  std::size_t row_bytes_;
  std::size_t slot_bytes_;
  Tags tags_{};
};

}  // namespace detail

[[nodiscard]] inline Recovered recover(Preamble& preamble, const Table& table) noexcept {
  Recovered count;
  detail::SetRecovery recovery(table, count);
  for (std::uint64_t set = 0; set < table.sets(); ++set) {
    if (set + 1 < table.sets()) recovery.prefetch(set + 1);
    recovery.settle(set);
  }
  SharedState& state = preamble.state;
  state.entries.store(static_cast<std::int64_t>(count.kept), std::memory_order_relaxed);
  const std::int64_t longest_ms = state.longest_age_ms.load(std::memory_order_relaxed);
  if (longest_ms < 0) state.longest_age_ms.store(0, std::memory_order_relaxed);
  return count;
}

}  // namespace predawn
