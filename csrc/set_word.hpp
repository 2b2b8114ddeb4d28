// The word through which every change of a set goes.
//
// What: `SetWord`: claimed 16 | slot 4 | way 4 | pending 1 | hand 4 | version 35, lowest bit first.
// When not: what the entries are (tag.hpp, slot.hpp).
// Functions: pure; each `with_...` is the word after one change, its version one higher.
// Design: `claimed` has a bit per slot that a writer is filling. `pending` announces one change of
//   the tags: if slot `slot` is claimed, the publication of that slot in way `way`; if not, the
//   removal of way `way`, whose tag names `slot`. The word and the slot hold all that is needed to
//   finish the change, so whoever comes by can. After a change, `slot` keeps the slot that was
//   published last. `hand` is where the eviction policy looks next.
// Memory: 8 bytes. Cost: shifts; no atomics.
#pragma once

#include <cstdint>

#include "tag.hpp"

namespace predawn {

class SetWord {
 public:
  constexpr SetWord() noexcept = default;
  explicit constexpr SetWord(std::uint64_t word) noexcept : word_(word) {}

  [[nodiscard]] constexpr std::uint64_t word() const noexcept { return word_; }
  [[nodiscard]] constexpr std::uint32_t claimed() const noexcept {
    return static_cast<std::uint32_t>(word_ & 0xffffu);
  }
  [[nodiscard]] constexpr bool is_claimed(unsigned slot) const noexcept {
    return ((word_ >> slot) & 1u) != 0;
  }
  [[nodiscard]] constexpr unsigned slot() const noexcept { return field(kSlotAt); }
  [[nodiscard]] constexpr unsigned way() const noexcept { return field(kWayAt); }
  [[nodiscard]] constexpr bool pending() const noexcept { return (word_ & kPending) != 0; }
  // A pending publication; else a pending removal.
  [[nodiscard]] constexpr bool publishes() const noexcept { return is_claimed(slot()); }
  // The change that `other` announces is pending here, whatever was claimed or released since.
  [[nodiscard]] constexpr bool announces_as(SetWord other) const noexcept {
    return pending() && slot() == other.slot() && way() == other.way();
  }
  [[nodiscard]] constexpr unsigned hand() const noexcept { return field(kHandAt); }
  [[nodiscard]] constexpr std::uint64_t version() const noexcept { return word_ >> kVersionAt; }

  [[nodiscard]] constexpr SetWord with_claim(unsigned slot) const noexcept {
    return SetWord((word_ | (std::uint64_t{1} << slot)) + kOneVersion);
  }
  [[nodiscard]] constexpr SetWord with_pending(unsigned way, unsigned slot,
                                               unsigned hand) const noexcept {
    const std::uint64_t kept =
        word_ & ~(kNibble << kSlotAt | kNibble << kWayAt | kNibble << kHandAt);
    return SetWord((kept | std::uint64_t{slot} << kSlotAt | std::uint64_t{way} << kWayAt |
                    std::uint64_t{hand} << kHandAt | kPending) +
                   kOneVersion);
  }
  // The pending change is done; its slot is claimed no longer.
  [[nodiscard]] constexpr SetWord finished() const noexcept {
    return SetWord((word_ & ~kPending & ~(std::uint64_t{1} << slot())) + kOneVersion);
  }
  // Added to the word, takes a claim back, whatever else has changed since.
  [[nodiscard]] static constexpr std::uint64_t release_of(unsigned slot) noexcept {
    return kOneVersion - (std::uint64_t{1} << slot);
  }
  [[nodiscard]] friend constexpr bool operator==(SetWord, SetWord) noexcept = default;

 private:
  static constexpr unsigned kSlotAt = 16;
  static constexpr unsigned kWayAt = 20;
  static constexpr unsigned kPendingAt = 24;
  static constexpr unsigned kHandAt = 25;
  static constexpr unsigned kVersionAt = 29;
  static constexpr std::uint64_t kNibble = 0xf;
  static constexpr std::uint64_t kPending = std::uint64_t{1} << kPendingAt;
  static constexpr std::uint64_t kOneVersion = std::uint64_t{1} << kVersionAt;

  [[nodiscard]] constexpr unsigned field(unsigned at) const noexcept {
    return static_cast<unsigned>(word_ >> at) & 0xfu;
  }

  std::uint64_t word_ = 0;
};
static_assert(sizeof(SetWord) == 8);

}  // namespace predawn
