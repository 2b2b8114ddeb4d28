// Keys of the store, and where in a table a key belongs.
//
// What: `Key` (128 bits, compared whole), `Place` (set and fingerprint), `Placer` (key -> place).
// When not: hashing of strings to keys (siphash.hpp).
// Functions: `Placer::place` is pure; equal keys have equal places under one seed.
// Design: a seeded 64-bit mix of both halves (two 64x64->128 multiplications, folded); its high
// part
//   scaled to the number of sets by multiplication (no power of two needed), its low 12 bits the
//   fingerprint. User-major: the user alone chooses the first of `kUserSets` sets, the pair one of
//   them. The seed is secret, so a client that picks ids cannot aim them at one set.
// Memory: 24 bytes. Cost: about 3 ns; no atomics.
#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "siphash.hpp"

namespace predawn {

// Integer ids: (id, 0), or (user, item). Strings: SipHash-128 of their UTF-8 bytes.
struct Key {
  std::uint64_t lo = 0;
  std::uint64_t hi = 0;
  [[nodiscard]] friend bool operator==(const Key&, const Key&) noexcept = default;
};
static_assert(sizeof(Key) == 16 && std::is_trivially_copyable_v<Key>);

struct Place {
  std::uint64_t set = 0;
  std::uint32_t fingerprint = 0;  // kFingerprintBits
};

// Which sets the keys of one user go to: anywhere, or near one another.
enum class Placement : std::uint8_t { kHashed = 0, kUserMajor = 1 };

class Placer {
 public:
  // The pairs of a user share this many neighbouring sets.
  static constexpr std::uint64_t kUserSets = 64;

  Placer(SipKey seed, std::uint64_t sets, Placement placement = Placement::kHashed) noexcept
      : a_(seed.k0),
        b_(seed.k1 | 1),
        sets_(sets),
        span_(placement == Placement::kUserMajor ? std::min(sets, kUserSets) : 0) {}

  [[nodiscard]] Place place(Key key) const noexcept {
    const std::uint64_t mixed = fold(fold(key.lo ^ a_, key.hi ^ b_) ^ a_, kOdd);
    const auto fingerprint = static_cast<std::uint32_t>(mixed) & 0xfffu;
    if (span_ == 0) return {high(mixed, sets_), fingerprint};
    const std::uint64_t user = fold(fold(key.lo ^ a_, b_) ^ a_, kOdd);
    const std::uint64_t set = high(user, sets_) + high(mixed, span_);
    return {set < sets_ ? set : set - sets_, fingerprint};
  }

 private:
  __extension__ using Wide = unsigned __int128;
  static constexpr std::uint64_t kOdd = 0x9e3779b97f4a7c15u;  // 2^64 / golden ratio

  static std::uint64_t high(std::uint64_t x, std::uint64_t y) noexcept {
    return static_cast<std::uint64_t>((Wide{x} * y) >> 64);
  }
  static std::uint64_t fold(std::uint64_t x, std::uint64_t y) noexcept {
    const Wide product = Wide{x} * y;
    return static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64);
  }

  std::uint64_t a_;
  std::uint64_t b_;
  std::uint64_t sets_;
  std::uint64_t span_;
};

}  // namespace predawn
