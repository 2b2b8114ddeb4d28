// Reading one key of a set, beside writers, without waiting for any of them.
//
// What: `read_entry`: a validated copy of the newest published entry of a key; `mark_used`.
// When not: the table's rules on age (the caller's `accept` decides on them).
// Functions: safe from any thread of any process; bounded: at most `kReadTries` looks at the set,
//   then the key counts as absent, which a cache may say.
// Design: an entry is taken if its tag is published, its slot is the writing that the tag names
//   (`ver`) and the slot did not change while it was copied. Without the `ver` check a reader could
//   take a row that is complete but not published, and later see an older one.
//   (1) seq.load(acquire) here pairs with seq.store(release) at the end of filling (set_write.hpp):
//       the row is at least as new as the number says.
//   (2) A::reread(seq) here pairs with A::open_write there: if any word of a newer writing was
//       seen, the number has changed.
//   (3) tag.load(acquire) pairs with the tag's compare_exchange(release) in `help`: what the
//       publisher knew of the slot is known here.
// Memory: the caller's buffer for the row. Cost: one line of tags, one of the header, those of the
//   row; no store, but for a hint that is not set yet.
#pragma once

#include <bit>
#include <cstring>

#include "key.hpp"
#include "set_line.hpp"

namespace predawn {

struct Found {
  Tag tag;
  unsigned way = 0;
  std::int64_t written_at_ms = 0;
  std::uint32_t snapshot = 0;
  SlotAbout about{0};
  std::array<float, kScales> scales{};
  bool has_row = false;  // the row was wanted and is in the buffer
  unsigned probes = 0;   // slots looked at
};

// Own memory for a row: whole words, and how many parts of it have a scale.
struct RowBuffer {
  std::byte* row = nullptr;
  std::size_t bytes = 0;
  std::size_t scales = 0;
};

enum class ReadEnd : std::uint8_t { kFound, kAbsent, kRaced };

inline constexpr unsigned kReadTries = 4;

namespace detail {

template <class A>
[[nodiscard]] bool holds(const SlotHeader<A>& slot, const Key& key) noexcept {
  return slot.key_lo.load(std::memory_order_relaxed) == key.lo &&
         slot.key_hi.load(std::memory_order_relaxed) == key.hi;
}

template <class A>
void load_fields(const SlotHeader<A>& slot, Found& found) noexcept {
  found.written_at_ms = slot.written_at_ms.load(std::memory_order_relaxed);
  found.snapshot = slot.snapshot.load(std::memory_order_relaxed);
  found.about = SlotAbout(slot.about.load(std::memory_order_relaxed));
}

template <class A>
void load_scales(const SlotHeader<A>& slot, Found& found, std::size_t parts = kScales) noexcept {
  for (std::size_t part = 0; part < parts; ++part) {
    found.scales[part] = std::bit_cast<float>(slot.scales[part].load(std::memory_order_relaxed));
  }
}

// Tries the entry in `way`.
template <class A, class Accept>
ReadEnd read_way(const SetRef<A>& set, unsigned way, const Key& key, std::uint32_t fingerprint,
                 const RowBuffer& buffer, Found& found, Accept&& accept) noexcept {
  found.tag = Tag(set.line->tags[way].load(std::memory_order_acquire));  // (3)
  if (!found.tag.valid() || found.tag.fingerprint() != fingerprint) return ReadEnd::kRaced;
  const SlotHeader<A>* slot = set.slot(found.tag.slot());
  ++found.probes;
  const std::uint64_t seq = slot->seq.load(std::memory_order_acquire);  // (1)
  if ((seq & 1) != 0 || Tag::ver_of(seq) != found.tag.ver()) return ReadEnd::kRaced;
  const bool is_wanted = holds(*slot, key);
  if (is_wanted) {
    load_fields(*slot, found);
    found.has_row = accept(found);
    if (found.has_row) {
      load_scales(*slot, found, buffer.scales);
      A::load_words(row_of(slot), buffer.row, buffer.bytes);
    }
  }
  if (A::reread(slot->seq) != seq) return ReadEnd::kRaced;  // (2)
  found.way = way;
  return is_wanted ? ReadEnd::kFound : ReadEnd::kAbsent;
}

}  // namespace detail

// `buffer` takes the row if `accept(found)`, called with the fields before they are validated, says
// so. Found: everything in `found`, and the row, are of one published entry. `hint`: ways that
// match_hint named a moment ago, after the call began.
template <class A, class Accept>
ReadEnd read_entry(const SetRef<A>& set, const Key& key, std::uint32_t fingerprint,
                   std::uint32_t hint, const RowBuffer& buffer, Found& found,
                   Accept&& accept) noexcept {
  ReadEnd end = ReadEnd::kAbsent;
  std::uint32_t ways = hint;
  for (unsigned tries = 0; tries < kReadTries; ++tries) {
    if (ways == 0) ways = match_hint(*set.line, fingerprint);
    end = ReadEnd::kAbsent;
    for (; ways != 0; ways &= ways - 1) {
      const auto way = static_cast<unsigned>(std::countr_zero(ways));
      const ReadEnd at_way = detail::read_way(set, way, key, fingerprint, buffer, found, accept);
      if (at_way == ReadEnd::kFound) return ReadEnd::kFound;
      if (at_way == ReadEnd::kRaced) end = ReadEnd::kRaced;
    }
    if (end == ReadEnd::kAbsent) return end;
  }
  return end;
}

template <class A, class Accept>
ReadEnd read_entry(const SetRef<A>& set, const Key& key, std::uint32_t fingerprint,
                   std::size_t row_bytes, std::byte* row, Found& found, Accept&& accept) noexcept {
  return read_entry(set, key, fingerprint, 0, RowBuffer{row, row_bytes, kScales}, found, accept);
}

// The entry in `way`, whose ever it is, with its row unless `row` is null: for walks over a table.
// kAbsent: the way is empty.
template <class A>
ReadEnd read_any(const SetRef<A>& set, unsigned way, std::size_t row_bytes, std::byte* row,
                 Key& key, Found& found) noexcept {
  for (unsigned tries = 0; tries < kReadTries; ++tries) {
    found.tag = Tag(set.line->tags[way].load(std::memory_order_acquire));  // (3)
    if (!found.tag.valid()) return ReadEnd::kAbsent;
    const SlotHeader<A>* slot = set.slot(found.tag.slot());
    const std::uint64_t seq = slot->seq.load(std::memory_order_acquire);  // (1)
    if ((seq & 1) != 0 || Tag::ver_of(seq) != found.tag.ver()) continue;
    key = {slot->key_lo.load(std::memory_order_relaxed),
           slot->key_hi.load(std::memory_order_relaxed)};
    detail::load_fields(*slot, found);
    detail::load_scales(*slot, found);
    if (row != nullptr) A::load_words(row_of(slot), row, row_bytes);
    found.way = way;
    if (A::reread(slot->seq) == seq) return ReadEnd::kFound;  // (2)
  }
  return ReadEnd::kRaced;
}

// Sets hints of the entry that was read, if it is still there; a lost race loses a hint.
template <class A>
void mark_used(const SetRef<A>& set, unsigned way, Tag tag, std::uint32_t hints) noexcept {
  if ((tag.word() & hints) == hints) return;
  std::uint32_t expected = tag.word();
  set.line->tags[way].compare_exchange_strong(expected, tag.with(hints).word(),
                                              std::memory_order_relaxed);
}

}  // namespace predawn
