// Writing one entry into a set, beside readers and other writers, without waiting for any of them.
//
// What: `put_entry`; `remove_entry`.
// When not: choosing what to evict (policy.hpp, passed in as `choose`).
// Functions: safe from any thread of any process. A put may give up, never because somebody sleeps:
//   each lost step means that another operation succeeded, or took its claim back. Only when
//   stopped writers hold every slot of a set can nobody write to it.
// Design: claim a free slot, fill it out of place, announce its publication in the set's word
//   (from then on anybody may finish it), finish. The announcement succeeds only if the word has
//   not changed since the key was searched, so two tags never carry the same key. A writer that
//   gives up after its claim takes it back by one addition, which cannot fail.
//   (1) seq.store(release) after filling pairs with seq.load(acquire) in set_read.hpp.
//   (2) A::open_write before filling pairs with A::reread there.
//   (3) every exchange of the word is acq_rel, every load acquire (set_help.hpp): a slot's filler
//       sees the slot's last filler, and a searcher the tags of the change before.
//   (4) the journal is written before the claim is exchanged (release): who sees a claim sees its
//       note. The note itself is a release: who sees it instead of the note before (reap.hpp) knows
//       that the claim before has ended.
// Memory: none. Cost: three compare-exchanges of the set's word, one of a tag.
#pragma once

#include <bit>

#include "journal.hpp"
#include "policy.hpp"
#include "set_help.hpp"
#include "set_read.hpp"

namespace predawn {

struct Entry {
  Key key;
  std::uint32_t fingerprint = 0;
  std::uint32_t stamp = 0;
  std::int64_t written_at_ms = 0;
  std::uint32_t snapshot = 0;
  std::uint8_t origin = 0;
  bool is_demanded = true;  // not speculative
  std::array<float, kScales> scales{};
  const std::byte* row = nullptr;  // own memory, whole words
  std::size_t row_bytes = 0;
};

// The journal line of this writer, and its generation.
template <class A>
struct ClaimLog {
  JournalLine<A>* line;
  std::uint16_t generation;
  std::uint64_t set_index;

  void note(unsigned slot) const noexcept {
    line->claim.store(ClaimNote(set_index, slot, generation).word(), std::memory_order_release);
  }
  void clear() const noexcept {
    line->claim.store(ClaimNote::none(generation).word(), std::memory_order_release);
  }
};

enum class PutEnd : std::uint8_t { kInserted, kOverwrote, kBusy, kNoSlot };

struct PutResult {
  PutEnd end = PutEnd::kBusy;
  Cause cause = Cause::kNone;  // of the eviction that an insertion made
  Tag victim;                  // the tag it replaced
  unsigned removed = 0;        // ways emptied because stopped writers held the spare slots
  unsigned reads = 0;          // of the set's word
};

namespace detail {

inline constexpr int kNowhere = -1;

// The way that holds `key`. A tag that names a claimed slot, or not its slot's present writing, is
// nobody's: it was published too late (set_help.hpp, known limit).
template <class A>
int find_way(const SetRef<A>& set, SetWord word, const Tags& tags, const Key& key,
             std::uint32_t fingerprint) noexcept {
  for (unsigned way = 0; way < kWays; ++way) {
    const Tag tag = tags[way];
    if ((tag.word() & kMatchMask) != match_word(fingerprint)) continue;
    if (word.is_claimed(tag.slot())) continue;
    const SlotHeader<A>* slot = set.slot(tag.slot());
    const std::uint64_t seq = slot->seq.load(std::memory_order_relaxed);
    const bool is_written = (seq & 1) == 0 && Tag::ver_of(seq) == tag.ver();
    if (is_written && holds(*slot, key)) return static_cast<int>(way);
  }
  return kNowhere;
}

// The free slots: neither claimed nor named by a valid tag.
inline std::uint32_t free_slots(SetWord word, const Tags& tags) noexcept {
  std::uint32_t taken = word.claimed();
  for (const Tag tag : tags) taken |= (tag.valid() ? 1u : 0u) << tag.slot();
  return ~taken & 0xffffu;
}

// Of the free slots the next after the one published last: that gives readers of replaced entries
// the longest time before their slot is filled anew.
inline unsigned next_free(std::uint32_t free, unsigned last) noexcept {
  const std::uint32_t turned = (free >> (last + 1)) | (free << (kSlots - 1 - last));
  return (last + 1 + static_cast<unsigned>(std::countr_zero(turned))) % kSlots;
}

template <class A>
void fill(SlotHeader<A>* slot, const Entry& entry, SlotAbout about, std::uint32_t order,
          std::uint32_t checksum) noexcept {
  const std::uint64_t before = slot->seq.load(std::memory_order_relaxed);
  const std::uint64_t odd = before + 1 + (before & 1);  // a dead writer may have left it odd
  A::open_write(slot->seq, odd);                        // (2)
  slot->key_lo.store(entry.key.lo, std::memory_order_relaxed);
  slot->key_hi.store(entry.key.hi, std::memory_order_relaxed);
  slot->written_at_ms.store(entry.written_at_ms, std::memory_order_relaxed);
  slot->snapshot.store(entry.snapshot, std::memory_order_relaxed);
  slot->about.store(about.word(), std::memory_order_relaxed);
  slot->order.store(order, std::memory_order_relaxed);
  slot->checksum.store(checksum, std::memory_order_relaxed);
  for (std::size_t part = 0; part < kScales; ++part) {
    slot->scales[part].store(std::bit_cast<std::uint32_t>(entry.scales[part]),
                             std::memory_order_relaxed);
  }
  A::store_words(row_of(slot), entry.row, entry.row_bytes);
  slot->seq.store(odd + 1, std::memory_order_release);  // (1)
}

// Hints are no part of the protocol: each exchange may fail.
template <class A>
void change_hints(const SetRef<A>& set, const Tags& tags, const Choice& choice) noexcept {
  for (std::uint32_t left = choice.unvisit | choice.survive | choice.renew; left != 0;
       left &= left - 1) {
    const auto way = static_cast<unsigned>(std::countr_zero(left));
    const auto bit = [&](std::uint32_t ways, std::uint32_t hint) {
      return ((ways >> way) & 1u) != 0 ? hint : 0u;
    };
    std::uint32_t expected = set.line->tags[way].load(std::memory_order_relaxed);
    if (!Tag(expected).same_but_hints(tags[way])) continue;
    const Tag changed =
        Tag(expected)
            .without(bit(choice.unvisit, Tag::kVisited) | bit(choice.renew, Tag::kSurvived))
            .with(bit(choice.survive, Tag::kSurvived));
    set.line->tags[way].compare_exchange_strong(expected, changed.word(),
                                                std::memory_order_relaxed);
  }
}

// `way`, or the next one whose slot can be set free by emptying it. There is one as long as some
// slot is not claimed and none is free.
inline unsigned valid_way(SetWord word, const Tags& tags, unsigned way) noexcept {
  while (!tags[way].valid() || word.is_claimed(tags[way].slot())) way = (way + 1) % kWays;
  return way;
}

struct Claim {
  int slot = kNowhere;
  std::uint32_t hints = 0;
  std::uint32_t order = 0;
};

// The hints a new tag starts with: what is known of the entry that it replaces.
inline std::uint32_t first_hints(const Entry& entry, const Tags& tags, int own_way) noexcept {
  const std::uint32_t own = entry.is_demanded ? Tag::kDemanded : 0u;
  if (own_way == kNowhere) return own;
  return own | (tags[static_cast<unsigned>(own_way)].word() & Tag::kHints);
}

template <class A, class Choose>
Claim claim_slot(const SetRef<A>& set, const Entry& entry, const ClaimLog<A>& log, unsigned budget,
                 Choose& choose, PutResult& result) noexcept {
  while (result.reads++ < budget) {
    const SetWord word = load_word(*set.line);
    if (word.pending()) {
      help(set, word);
      continue;
    }
    const Tags tags = load_tags(*set.line);
    const std::uint32_t free = free_slots(word, tags);
    if (free == 0) {
      if (word.claimed() == 0xffffu) {
        result.end = PutEnd::kNoSlot;
        return {};
      }
      const unsigned way = valid_way(word, tags, choose(tags, word.hand()).way);
      result.removed += remove_way(set, word, way, tags[way]) ? 1 : 0;
      continue;
    }
    const unsigned slot = next_free(free, word.slot());
    log.note(slot);  // (4)
    const SetWord claimed = word.with_claim(slot);
    if (!exchange_word(*set.line, word, claimed)) continue;
    const int own = find_way(set, word, tags, entry.key, entry.fingerprint);
    return {static_cast<int>(slot), first_hints(entry, tags, own),
            static_cast<std::uint32_t>(claimed.version())};
  }
  result.end = PutEnd::kBusy;
  return {};
}

template <class A, class Choose>
bool publish(const SetRef<A>& set, const Entry& entry, unsigned slot, unsigned budget,
             Choose& choose, PutResult& result) noexcept {
  while (result.reads++ < budget) {
    const SetWord word = load_word(*set.line);
    if (word.pending()) {
      help(set, word);
      continue;
    }
    const Tags tags = load_tags(*set.line);
    const int own = find_way(set, word, tags, entry.key, entry.fingerprint);
    Choice choice;
    if (own == kNowhere) {
      choice = choose(tags, word.hand());
    } else {
      choice.way = static_cast<unsigned>(own);
      choice.hand = word.hand();
    }
    const SetWord announced = word.with_pending(choice.way, slot, choice.hand);
    if (!exchange_word(*set.line, word, announced)) continue;
    finish(set, announced);
    result.victim = tags[choice.way];
    result.cause = choice.cause;
    result.end = own == kNowhere ? PutEnd::kInserted : PutEnd::kOverwrote;
    change_hints(set, tags, choice);
    return true;
  }
  result.end = PutEnd::kBusy;
  return false;
}

}  // namespace detail

// `choose(tags, hand) -> Choice` names the way for a key that has none; `seal(about) -> uint32` is
// the checksum of the entry with these hints.
template <class A, class Choose, class Seal>
PutResult put_entry(const SetRef<A>& set, const Entry& entry, const ClaimLog<A>& log,
                    unsigned budget, Choose&& choose, Seal&& seal) noexcept {
  PutResult result;
  const detail::Claim claim = detail::claim_slot(set, entry, log, budget, choose, result);
  if (claim.slot == detail::kNowhere) {
    log.clear();
    return result;
  }
  const auto slot = static_cast<unsigned>(claim.slot);
  const SlotAbout about(entry.fingerprint, entry.stamp, claim.hints, entry.origin);
  detail::fill(set.slot(slot), entry, about, claim.order, seal(about));
  if (!detail::publish(set, entry, slot, budget, choose, result)) {
    set.line->word.fetch_add(SetWord::release_of(slot), std::memory_order_acq_rel);
  }
  log.clear();
  return result;
}

enum class RemoveEnd : std::uint8_t { kRemoved, kAbsent, kBusy };

template <class A>
RemoveEnd remove_entry(const SetRef<A>& set, const Key& key, std::uint32_t fingerprint,
                       unsigned budget) noexcept {
  for (unsigned reads = 0; reads < budget; ++reads) {
    const SetWord word = load_word(*set.line);
    if (word.pending()) {
      help(set, word);
      continue;
    }
    const Tags tags = load_tags(*set.line);
    const int way = detail::find_way(set, word, tags, key, fingerprint);
    if (way == detail::kNowhere) {
      // The tags that were looked at are those of `word` only if it is still the same.
      if (A::reread(set.line->word) == word.word()) return RemoveEnd::kAbsent;
      continue;
    }
    const auto at = static_cast<unsigned>(way);
    if (remove_way(set, word, at, tags[at])) return RemoveEnd::kRemoved;
  }
  return RemoveEnd::kBusy;
}

}  // namespace predawn
