// Which entry of a pool has a key: an open-addressed index of 32-bit hashes and positions.
//
// What: `OpenIndex`: find, insert, erase of positions 1 to `entries`; the keys stay in the pool.
// When not: from several threads, or when more than `entries` may be in at once.
// Functions: `find(hash, is)` calls `is(position)` for every entry in the way that has this hash.
// Design: linear probing over twice as many slots as entries, a power of two; an erased slot is
//   filled by moving back what follows it, so nothing is left behind and probes stay short. Hashes
//   must come from a seeded mix: ids that clients choose cannot then be aimed at one slot.
// Memory: 16 to 32 bytes an entry, touched as it is used. Cost: one cache line, mostly.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>

namespace predawn {

// An array of zeroes whose pages cost nothing until they are written.
template <class T>
class ZeroedArray {
 public:
  explicit ZeroedArray(std::size_t size) : values_(static_cast<T*>(std::calloc(size, sizeof(T)))) {
    if (values_ == nullptr) throw std::bad_alloc();
  }
  [[nodiscard]] T& operator[](std::size_t at) noexcept { return values_.get()[at]; }
  [[nodiscard]] const T& operator[](std::size_t at) const noexcept { return values_.get()[at]; }

 private:
  struct Free {
    void operator()(T* values) const noexcept { std::free(values); }
  };
  std::unique_ptr<T, Free> values_;
};

class OpenIndex {
 public:
  static constexpr std::uint32_t kNone = 0;
  static constexpr std::size_t kEntriesMax = std::size_t{1} << 30;

  explicit OpenIndex(std::size_t entries)
      : mask_(std::bit_ceil(2 * entries) - 1), slots_(mask_ + 1) {}

  void prefetch(std::uint32_t hash) const noexcept { __builtin_prefetch(&slots_[hash & mask_]); }

  // The position whose entry has this hash and `is` the one, or kNone.
  template <class Is>
  [[nodiscard]] std::uint32_t find(std::uint32_t hash, Is is) const noexcept {
    for (std::size_t at = hash & mask_; slots_[at].position != kNone; at = (at + 1) & mask_) {
      if (slots_[at].hash == hash && is(slots_[at].position)) return slots_[at].position;
    }
    return kNone;
  }

  void insert(std::uint32_t hash, std::uint32_t position) noexcept {
    std::size_t at = hash & mask_;
    while (slots_[at].position != kNone) at = (at + 1) & mask_;
    slots_[at] = {hash, position};
  }

  // The entry must be in.
  void erase(std::uint32_t hash, std::uint32_t position) noexcept {
    std::size_t hole = hash & mask_;
    while (slots_[hole].position != position) hole = (hole + 1) & mask_;
    for (std::size_t at = hole;;) {
      at = (at + 1) & mask_;
      if (slots_[at].position == kNone) break;
      const std::size_t way = (at - (slots_[at].hash & mask_)) & mask_;
      if (way >= ((at - hole) & mask_)) {  // it may stand in the hole: its home is not after it
        slots_[hole] = slots_[at];
        hole = at;
      }
    }
    slots_[hole] = {};
  }

 private:
  struct Slot {
    std::uint32_t hash;
    std::uint32_t position;
  };

  std::size_t mask_;
  ZeroedArray<Slot> slots_;
};

}  // namespace predawn
