// What memory can do at most, as native loops: nothing is looked for, everything is prefetched.
//
// `Lookups` is the physical limit of a lookup in the store: the line of a set says in which slot
// the row is; then the line before the row, and the row, which is copied out.
#include <algorithm>
#include <cstring>
#include <random>

#include "huge_memory.hpp"

namespace predawn::bench {
namespace {

constexpr std::size_t kLine = 64;
constexpr std::size_t kAhead = 8;  // rows asked for before they are copied: more is no faster

void ask_for(const std::byte* start, std::size_t bytes) noexcept {
  for (std::size_t at = 0; at < bytes; at += kLine) __builtin_prefetch(start + at);
}

// Rows of one size at random places.
class Rows {
 public:
  Rows(std::size_t bytes, std::size_t row_bytes, bool huge)
      : pages_(bytes, huge), row_bytes_(row_bytes) {
    std::memset(pages_.start(), 1, pages_.bytes());
  }

  void take(const std::uint64_t* positions, std::size_t n, std::byte* out) const noexcept {
    for (std::size_t i = 0; i < std::min(n, kAhead); ++i) ask_for(at(positions[i]), row_bytes_);
    for (std::size_t i = 0; i < n; ++i) {
      if (i + kAhead < n) ask_for(at(positions[i + kAhead]), row_bytes_);
      std::memcpy(out + i * row_bytes_, at(positions[i]), row_bytes_);
    }
  }

 private:
  [[nodiscard]] const std::byte* at(std::uint64_t position) const noexcept {
    return pages_.start() + position * row_bytes_;
  }

  Pages pages_;
  std::size_t row_bytes_;
};

// The store's memory without the store: a line of 14 slot numbers per set, 16 slots per set.
class Lookups {
 public:
  Lookups(std::size_t entries, std::size_t row_bytes)
      : sets_((entries + kWays - 1) / kWays),
        row_bytes_(row_bytes),
        lines_(sets_ * kLine, true),
        slots_(sets_ * kSlots * slot_bytes(), true) {
    std::memset(slots_.start(), 1, slots_.bytes());
    std::minstd_rand random(1);
    for (std::size_t set = 0; set < sets_; ++set) {
      std::uint32_t order[kSlots];
      for (std::uint32_t slot = 0; slot < kSlots; ++slot) order[slot] = slot;
      std::shuffle(order, order + kSlots, random);
      std::memcpy(line(set), order, kWays * sizeof *order);
    }
  }

  // positions: of entries. Returns the sum of the lines before the rows, so that they are read.
  std::uint64_t take(const std::uint64_t* positions, std::size_t n, std::byte* out) const noexcept {
    std::uint64_t sum = 0;
    const std::byte* slots[kAhead] = {};
    for (std::size_t i = 0; i < n + 2 * kAhead; ++i) {
      if (i >= 2 * kAhead) sum += copied(slots[i % kAhead], out + (i - 2 * kAhead) * row_bytes_);
      if (i >= kAhead && i < n + kAhead) {
        slots[i % kAhead] = slot(positions[i - kAhead]);
        ask_for(slots[i % kAhead], slot_bytes());
      }
      if (i < n) __builtin_prefetch(line(positions[i] / kWays));
    }
    return sum;
  }

 private:
  static constexpr std::size_t kWays = 14;
  static constexpr std::size_t kSlots = 16;

  [[nodiscard]] std::size_t slot_bytes() const noexcept { return kLine + row_bytes_; }
  [[nodiscard]] std::byte* line(std::size_t set) const noexcept {
    return lines_.start() + set * kLine;
  }
  [[nodiscard]] const std::byte* slot(std::uint64_t position) const noexcept {
    const std::size_t set = position / kWays;
    std::uint32_t index = 0;
    std::memcpy(&index, line(set) + position % kWays * sizeof index, sizeof index);
    return slots_.start() + (set * kSlots + index) * slot_bytes();
  }
  [[nodiscard]] std::uint64_t copied(const std::byte* slot, std::byte* to) const noexcept {
    std::uint64_t first = 0;
    std::memcpy(&first, slot, sizeof first);
    std::memcpy(to, slot + kLine, row_bytes_);
    return first;
  }

  std::size_t sets_;
  std::size_t row_bytes_;
  Pages lines_;
  Pages slots_;
};

}  // namespace
}  // namespace predawn::bench

using predawn::bench::Lookups;
using predawn::bench::Rows;

extern "C" {

void* rows_create(std::uint64_t bytes, std::uint64_t row_bytes, int huge) {
  try {
    return new Rows(bytes, row_bytes, huge != 0);
  } catch (const std::bad_alloc&) {
    return nullptr;
  }
}
void rows_take(void* rows, const std::uint64_t* positions, std::uint64_t n, void* out) {
  static_cast<Rows*>(rows)->take(positions, n, static_cast<std::byte*>(out));
}
void rows_destroy(void* rows) { delete static_cast<Rows*>(rows); }

void* lookups_create(std::uint64_t entries, std::uint64_t row_bytes) {
  try {
    return new Lookups(entries, row_bytes);
  } catch (const std::bad_alloc&) {
    return nullptr;
  }
}
std::uint64_t lookups_take(void* lookups, const std::uint64_t* positions, std::uint64_t n,
                           void* out) {
  return static_cast<Lookups*>(lookups)->take(positions, n, static_cast<std::byte*>(out));
}
void lookups_destroy(void* lookups) { delete static_cast<Lookups*>(lookups); }

}  // extern "C"
