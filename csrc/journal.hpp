// What a writer notes in shared memory before it claims a slot, so that others can take the claim
// back when its process has died.
//
// What: `JournalLine` (one cache line per writer), `ClaimNote` (set and slot of the claim under
//   way, or nothing), `OwnerNote` (which attachment a line belongs to).
// When not: claims of the living; a note alone never proves that a claim is its writer's
// (reap.hpp). Functions: pure, but for the words. Design: a line belongs to one writing thread at a
// time. `claim` is noted before the claim and
//   cleared after its end; both words carry the line's generation, so that a reaper's late clearing
//   compares unequal once the line has been given to somebody else.
// Memory: 64 bytes a line. Cost: two stores a put.
#pragma once

#include <cstdint>

#include "atomics.hpp"
#include "slot.hpp"

namespace predawn {

// active 1 | slot 4 | generation 16 | set 43, lowest bit first.
class ClaimNote {
 public:
  static constexpr unsigned kSetBits = 43;

  explicit constexpr ClaimNote(std::uint64_t word) noexcept : word_(word) {}
  constexpr ClaimNote(std::uint64_t set, unsigned slot, std::uint16_t generation) noexcept
      : word_(1u | (std::uint64_t{slot} << 1) | (std::uint64_t{generation} << 5) | (set << 21)) {}
  // No claim under way.
  [[nodiscard]] static constexpr ClaimNote none(std::uint16_t generation) noexcept {
    return ClaimNote(std::uint64_t{generation} << 5);
  }

  [[nodiscard]] constexpr std::uint64_t word() const noexcept { return word_; }
  [[nodiscard]] constexpr bool active() const noexcept { return (word_ & 1u) != 0; }
  [[nodiscard]] constexpr unsigned slot() const noexcept {
    return static_cast<unsigned>(word_ >> 1) & 0xfu;
  }
  [[nodiscard]] constexpr std::uint16_t generation() const noexcept {
    return static_cast<std::uint16_t>(word_ >> 5);
  }
  [[nodiscard]] constexpr std::uint64_t set() const noexcept { return word_ >> 21; }
  [[nodiscard]] constexpr bool names(std::uint64_t set_index, unsigned slot_index) const noexcept {
    return active() && set() == set_index && slot() == slot_index;
  }

 private:
  std::uint64_t word_;
};

// used 1 | generation 16 | attachment 15, lowest bit first. All zero: free, generation 0.
class OwnerNote {
 public:
  explicit constexpr OwnerNote(std::uint32_t word) noexcept : word_(word) {}
  constexpr OwnerNote(std::uint32_t attachment, std::uint16_t generation, bool used) noexcept
      : word_((used ? 1u : 0u) | (std::uint32_t{generation} << 1) | (attachment << 17)) {}

  [[nodiscard]] constexpr std::uint32_t word() const noexcept { return word_; }
  [[nodiscard]] constexpr bool used() const noexcept { return (word_ & 1u) != 0; }
  [[nodiscard]] constexpr std::uint16_t generation() const noexcept {
    return static_cast<std::uint16_t>(word_ >> 1);
  }
  [[nodiscard]] constexpr std::uint32_t attachment() const noexcept { return word_ >> 17; }

 private:
  std::uint32_t word_;
};

template <class A>
struct alignas(kLineBytes) JournalLine {
  typename A::template Word<std::uint64_t> claim;
  typename A::template Word<std::uint32_t> owner;
};
static_assert(sizeof(JournalLine<StdAtomics>) == kLineBytes);

inline constexpr std::size_t kJournalLines = 256;
using Journal = JournalLine<Atomics>[kJournalLines];

}  // namespace predawn
