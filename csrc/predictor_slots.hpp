// A bounded table of what is remembered by 64-bit key: users and items of the pair predictor.
//
// What: `KeyedSlots`: key -> slot number; the slots' contents lie in the owner's arrays.
// When not: anything that must not be forgotten: a new key in a full set takes the place of
// another. Functions: `find` and `take` (find, or take a slot for it). One thread. Design: sets of
// eight ways. A key belongs to one set, by a seeded mix, so that who picks ids can
//   at most crowd out others of his set. A key is a number and its kind, compared both: an integer
//   and a string whose hash is that integer are two keys. Whom a new key replaces the owner says.
// Memory: 9 bytes a slot, all at creation. Cost: one cache line of keys a look.
#pragma once

#include <bit>
#include <cstdint>
#include <vector>

namespace predawn::predictor {

// What an id was before it became a number.
enum class Kind : std::uint8_t { kNone = 0, kInteger = 1, kText = 2 };

struct Id {
  std::uint64_t number = 0;
  Kind kind = Kind::kInteger;
};

// The finaliser of SplitMix64.
[[nodiscard]] constexpr std::uint64_t mixed(std::uint64_t word) noexcept {
  word += 0x9e3779b97f4a7c15u;
  word = (word ^ (word >> 30)) * 0xbf58476d1ce4e5b9u;
  word = (word ^ (word >> 27)) * 0x94d049bb133111ebu;
  return word ^ (word >> 31);
}

inline constexpr std::uint32_t kNoSlot = ~std::uint32_t{0};

class KeyedSlots {
 public:
  static constexpr std::size_t kWays = 8;

  // Rounded up to a power of two, eight at least.
  KeyedSlots(std::size_t slots, std::uint64_t seed)
      : mask_(std::bit_ceil(slots < kWays ? kWays : slots) / kWays - 1),
        seed_(mixed(seed)),
        keys_((mask_ + 1) * kWays),
        kinds_(keys_.size(), Kind::kNone) {}

  [[nodiscard]] std::size_t size() const noexcept { return keys_.size(); }
  [[nodiscard]] std::size_t used() const noexcept { return used_; }
  [[nodiscard]] bool holds(std::uint32_t slot) const noexcept {
    return kinds_[slot] != Kind::kNone;
  }
  [[nodiscard]] Id id(std::uint32_t slot) const noexcept { return {keys_[slot], kinds_[slot]}; }

  [[nodiscard]] std::uint32_t find(Id id) const noexcept {
    const std::size_t first = set_of(id);
    for (std::size_t slot = first; slot < first + kWays; ++slot) {
      if (keys_[slot] == id.number && kinds_[slot] == id.kind) {
        return static_cast<std::uint32_t>(slot);
      }
    }
    return kNoSlot;
  }

  // The slot of `id`; `is_new`: it was another's or nobody's. `worth(slot)`: of a full set the slot
  // of least worth is replaced.
  template <class Worth>
  std::uint32_t take(Id id, Worth&& worth, bool& is_new) {
    const std::uint32_t known = find(id);
    is_new = known == kNoSlot;
    if (!is_new) return known;
    const auto first = static_cast<std::uint32_t>(set_of(id));
    std::uint32_t chosen = first;
    for (std::uint32_t slot = first; slot < first + kWays; ++slot) {
      if (!holds(slot)) {
        chosen = slot;
        break;
      }
      if (worth(slot) < worth(chosen)) chosen = slot;
    }
    used_ += holds(chosen) ? 0 : 1;
    keys_[chosen] = id.number;
    kinds_[chosen] = id.kind;
    return chosen;
  }

 private:
  [[nodiscard]] std::size_t set_of(Id id) const noexcept {
    const std::uint64_t kind = static_cast<std::uint64_t>(id.kind) << 62;
    return (mixed(id.number ^ kind ^ seed_) & mask_) * kWays;
  }

  std::size_t mask_;
  std::uint64_t seed_;
  std::vector<std::uint64_t> keys_;
  std::vector<Kind> kinds_;
  std::size_t used_ = 0;
};

}  // namespace predawn::predictor
