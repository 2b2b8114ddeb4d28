// The directory of a set: one cache line that says which keys its 16 ways may hold, and in which
// order they were used.
//
// What: `SetLine`: a lock, a 16-bit fingerprint per way (0: empty), the order of use of the ways.
// When not: the keys and rows themselves (slot.hpp); a fingerprint only says "perhaps".
// Functions: `matches`, `order` are safe without the lock, as hints for prefetching; everything
// else
//   is called with it held.
// Design: exact least-recently-used order as a permutation of 16 nibbles, the most recently used
//   lowest. It is kept as the difference from the identity, so that untouched (zero) memory is a
//   valid empty set and an unused table costs no memory.
// Memory: 64 bytes. Cost: `matches` 4 relaxed loads and no branch; `mark_used` a dozen
// instructions.
//   Fingerprints and order are relaxed atomics: what orders them is the lock.
#pragma once

#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>

#include "spin_lock.hpp"

namespace predawn {

inline constexpr unsigned kWays = 16;

// The permutation of ways by use: nibble 0 is the way used last, nibble 15 the next victim.
class WayOrder {
 public:
  static constexpr std::uint64_t kIdentity = 0xfedcba9876543210u;

  explicit constexpr WayOrder(std::uint64_t nibbles) noexcept : nibbles_(nibbles) {}

  [[nodiscard]] constexpr std::uint64_t nibbles() const noexcept { return nibbles_; }

  [[nodiscard]] constexpr unsigned way_at(unsigned rank) const noexcept {
    return static_cast<unsigned>(nibbles_ >> (4 * rank)) & 0xfu;
  }

  // Moves `way` to the front; the ways that were before it go one step back.
  [[nodiscard]] constexpr WayOrder with_first(unsigned way) const noexcept {
    const std::uint64_t difference = nibbles_ ^ (std::uint64_t{way} * kOnes);
    const std::uint64_t zero = (difference - kOnes) & ~difference & (kOnes << 3);
    const unsigned bits_before = static_cast<unsigned>(std::countr_zero(zero)) & ~3u;
    const std::uint64_t before = (std::uint64_t{1} << bits_before) - 1;
    const std::uint64_t moved = (before << 4) | 0xfu;
    return WayOrder((nibbles_ & ~moved) | ((nibbles_ & before) << 4) | way);
  }

  [[nodiscard]] constexpr bool is_permutation() const noexcept {
    unsigned seen = 0;
    for (unsigned rank = 0; rank < kWays; ++rank) seen |= 1u << way_at(rank);
    return seen == 0xffffu;
  }

 private:
  static constexpr std::uint64_t kOnes = 0x1111111111111111u;
  std::uint64_t nibbles_;
};

class alignas(64) SetLine {
 public:
  [[nodiscard]] SpinLock& lock() noexcept { return lock_; }

  // Bit w: way w has this fingerprint (0: way w is empty).
  [[nodiscard]] std::uint32_t matches(std::uint16_t fingerprint) const noexcept {
    std::uint32_t mask = 0;
    for (unsigned word = 0; word < kWords; ++word) {
      const std::uint64_t held = fingerprints_[word].load(std::memory_order_relaxed);
      mask |= equal_lanes(held, fingerprint) << (4 * word);
    }
    return mask;
  }

  [[nodiscard]] std::uint16_t fingerprint(unsigned way) const noexcept {
    const std::uint64_t held = fingerprints_[way / 4].load(std::memory_order_relaxed);
    return static_cast<std::uint16_t>(held >> (16 * (way % 4)));
  }

  void set_fingerprint(unsigned way, std::uint16_t fingerprint) noexcept {
    std::atomic<std::uint64_t>& word = fingerprints_[way / 4];
    const unsigned shift = 16 * (way % 4);
    const std::uint64_t others =
        word.load(std::memory_order_relaxed) & ~(std::uint64_t{0xffff} << shift);
    word.store(others | (std::uint64_t{fingerprint} << shift), std::memory_order_relaxed);
  }

  [[nodiscard]] WayOrder order() const noexcept {
    return WayOrder(order_.load(std::memory_order_relaxed) ^ WayOrder::kIdentity);
  }

  void mark_used(unsigned way) noexcept {
    const WayOrder before = order();
    if (before.way_at(0) == way) return;
    order_.store(before.with_first(way).nibbles() ^ WayOrder::kIdentity, std::memory_order_relaxed);
  }

 private:
  static constexpr unsigned kWords = kWays / 4;

  // Which of the four 16-bit lanes of `word` equal `lane`, as four bits; exact for every value.
  static std::uint32_t equal_lanes(std::uint64_t word, std::uint16_t lane) noexcept {
    constexpr std::uint64_t kLow15 = 0x7fff7fff7fff7fffu;
    constexpr std::uint64_t kGather = 0x0001000200040008u;  // lane bits 0, 16, 32, 48 -> 48..51
    const std::uint64_t difference = word ^ (std::uint64_t{lane} * 0x0001000100010001u);
    const std::uint64_t zero = ~(((difference & kLow15) + kLow15) | difference | kLow15);
    return static_cast<std::uint32_t>(((zero >> 15) * kGather) >> 48) & 0xfu;
  }

  SpinLock lock_;
  std::uint32_t reserved_ = 0;
  std::atomic<std::uint64_t> order_{0};
  std::atomic<std::uint64_t> fingerprints_[kWords] = {};
};
static_assert(sizeof(SetLine) == 64 && alignof(SetLine) == 64);

}  // namespace predawn
