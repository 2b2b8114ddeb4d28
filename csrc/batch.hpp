// How a batch of keys goes over a table: memory asked for ahead of its use.
//
// What: `pipeline`; `RowMemory`, own memory for a row.
// When not: what is done to a key (table.hpp), who shares a batch (cache.hpp).
// Functions: `pipeline(table, keys, begin, end, prefetch, visit)` calls `prefetch(place) -> hint`
// for
//   every key, `kAhead` keys before `visit(i, place, hint)`.
// Design: the set line of a key is asked for `2 * kAhead` keys before the key's turn, its slot
//   `kAhead` keys before. 4 M entries, dim 64 in fp16, uniform keys: 42, 31, 27, 26, 26 ns a key
//   with 5, 8, 12, 16, 24 keys ahead.
// Memory: 2 KiB of stack, and a row: on the stack unless it is longer than 4 KiB. Cost: none of its
//   own to speak of.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "table.hpp"

namespace predawn {

inline constexpr std::size_t kAheadMost = 16;
inline constexpr std::size_t kAheadLeast = 4;
inline constexpr std::size_t kLinesAhead = 128;  // of 512 that the first cache has
inline constexpr std::size_t kRing = 64;         // a power of two above 2 * kAheadMost

// How many keys ahead slots with rows of `row_bytes` are asked for.
[[nodiscard]] constexpr std::size_t keys_ahead(std::size_t row_bytes) noexcept {
  return std::clamp(kLinesAhead / (slot_bytes(row_bytes) / kLineBytes), kAheadLeast, kAheadMost);
}

struct KeyRange {
  std::size_t begin;
  std::size_t end;
  std::size_t ahead;
};

// Own memory for a row: on the stack unless rows are long.
class RowMemory {
 public:
  explicit RowMemory(std::size_t bytes)
      : long_row_(bytes > kStackRow ? new std::byte[bytes] : nullptr) {}
  [[nodiscard]] std::byte* data() noexcept { return long_row_ ? long_row_.get() : short_row_; }

 private:
  static constexpr std::size_t kStackRow = 4096;

  std::unique_ptr<std::byte[]> long_row_;
  alignas(kLineBytes) std::byte short_row_[kStackRow];
};

template <class Prefetch, class Visit>
void pipeline(const Table& table, std::span<const Key> keys, KeyRange range, Prefetch prefetch,
              Visit visit) noexcept {
  struct Ahead {
    Place place;
    std::uint32_t hint;
  };
  std::array<Ahead, kRing> ring;
  const auto [begin, end, ahead] = range;
  const auto look = [&](std::size_t i) {
    ring[i % kRing].place = table.place(keys[i]);
    table.prefetch_line(ring[i % kRing].place);
  };
  const auto ask = [&](std::size_t i) { ring[i % kRing].hint = prefetch(ring[i % kRing].place); };
  for (std::size_t i = begin; i < std::min(end, begin + 2 * ahead); ++i) look(i);
  for (std::size_t i = begin; i < std::min(end, begin + ahead); ++i) ask(i);
  for (std::size_t i = begin; i < end; ++i) {
    if (i + 2 * ahead < end) look(i + 2 * ahead);
    if (i + ahead < end) ask(i + ahead);
    visit(i, ring[i % kRing].place, ring[i % kRing].hint);
  }
}

}  // namespace predawn
