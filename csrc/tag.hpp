// What a set knows of an entry without touching its slot: one 32-bit word per way.
//
// What: `Tag`: valid 1 | visited 1 | survived 1 | demanded 1 | slot 4 | ver 8 | fingerprint 12 |
//   stamp 4, lowest bit first.
// When not: proof of identity; the key in the slot is compared whole.
// Functions: pure.
// Design: `slot` says where the entry lies, `ver` which writing of that slot it is: the low bits of
//   the slot's sequence number / 2, so that a reader never takes a row that was written but not
//   published yet. visited, survived and demanded are hints of the eviction policy: readers and
//   hands change them at any time, so comparisons of the protocol leave them out (`kHints`). stamp
//   is the coarse time of writing (see policy.hpp).
// Memory: 4 bytes. Cost: shifts; no atomics.
#pragma once

#include <cstdint>

namespace predawn {

inline constexpr unsigned kWays = 14;   // live entries of a set
inline constexpr unsigned kSlots = 16;  // places of a set: two spare ones for writes out of place
inline constexpr unsigned kFingerprintBits = 12;
inline constexpr unsigned kStampBits = 4;

class Tag {
 public:
  static constexpr std::uint32_t kValid = 1u << 0;
  static constexpr std::uint32_t kVisited = 1u << 1;   // read since the hand last passed
  static constexpr std::uint32_t kSurvived = 1u << 2;  // the hand has passed and spared it
  static constexpr std::uint32_t kDemanded = 1u << 3;  // a request has asked for it
  static constexpr std::uint32_t kHints = kVisited | kSurvived | kDemanded;

  constexpr Tag() noexcept = default;
  explicit constexpr Tag(std::uint32_t word) noexcept : word_(word) {}
  constexpr Tag(unsigned slot, std::uint64_t seq, std::uint32_t fingerprint, std::uint32_t stamp,
                std::uint32_t hints) noexcept
      : word_(kValid | (hints & kHints) | (slot << 4) | (ver_of(seq) << 8) | (fingerprint << 16) |
              (stamp << 28)) {}

  [[nodiscard]] constexpr std::uint32_t word() const noexcept { return word_; }
  [[nodiscard]] constexpr bool valid() const noexcept { return (word_ & kValid) != 0; }
  [[nodiscard]] constexpr bool visited() const noexcept { return (word_ & kVisited) != 0; }
  [[nodiscard]] constexpr bool survived() const noexcept { return (word_ & kSurvived) != 0; }
  [[nodiscard]] constexpr bool demanded() const noexcept { return (word_ & kDemanded) != 0; }
  [[nodiscard]] constexpr unsigned slot() const noexcept { return (word_ >> 4) & 0xfu; }
  [[nodiscard]] constexpr std::uint32_t ver() const noexcept { return (word_ >> 8) & 0xffu; }
  [[nodiscard]] constexpr std::uint32_t fingerprint() const noexcept {
    return (word_ >> 16) & 0xfffu;
  }
  [[nodiscard]] constexpr std::uint32_t stamp() const noexcept { return word_ >> 28; }

  // The same entry, in the same writing; hints may differ.
  [[nodiscard]] constexpr bool same_but_hints(Tag other) const noexcept {
    return ((word_ ^ other.word_) & ~kHints) == 0;
  }
  [[nodiscard]] constexpr Tag with(std::uint32_t bits) const noexcept { return Tag(word_ | bits); }
  [[nodiscard]] constexpr Tag without(std::uint32_t bits) const noexcept {
    return Tag(word_ & ~bits);
  }
  [[nodiscard]] friend constexpr bool operator==(Tag, Tag) noexcept = default;

  [[nodiscard]] static constexpr std::uint32_t ver_of(std::uint64_t seq) noexcept {
    return static_cast<std::uint32_t>(seq >> 1) & 0xffu;
  }

 private:
  std::uint32_t word_ = 0;
};
static_assert(sizeof(Tag) == 4);

}  // namespace predawn
