// One embedding: whose it is, when and by what it was written, and its row.
//
// What: `SlotHeader`, one cache line, followed in memory by the row (rows.hpp), padded to whole
//   cache lines; `SlotAbout`, what a helper needs to know to publish a slot.
// When not: whether the entry is valid, and its recency, which the tag says (tag.hpp).
// Functions: `slot_bytes` (size of a slot), `row_of` (where the row starts), `age_ms`.
// Design: `seq` is odd while the slot is being filled and grows by 2 with every writing. All
//   fields are words of the atomics policy. Only the claimer of a slot writes it. `order` is the
//   set's version at the claim: later written is higher (modulo 2^32). `checksum` covers the other
//   fields but `order`, and the row; it is verified when a file is recovered, never on a read.
//   All-zero memory is a slot that was never written.
// Memory: 64 bytes and the row. Cost: relaxed words between the two reads of `seq` (1)/(2), see
//   set_read.hpp.
#pragma once

#include <cstddef>
#include <cstdint>

#include "atomics.hpp"
#include "key.hpp"
#include "tag.hpp"

namespace predawn {

// fingerprint 12 | stamp 4 | hints 8 (bits as in Tag) | origin 8, lowest bit first.
class SlotAbout {
 public:
  explicit constexpr SlotAbout(std::uint32_t word) noexcept : word_(word) {}
  constexpr SlotAbout(std::uint32_t fingerprint, std::uint32_t stamp, std::uint32_t hints,
                      std::uint8_t origin) noexcept
      : word_(fingerprint | (stamp << 12) | (hints << 16) | (std::uint32_t{origin} << 24)) {}

  [[nodiscard]] constexpr std::uint32_t word() const noexcept { return word_; }
  [[nodiscard]] constexpr std::uint32_t fingerprint() const noexcept { return word_ & 0xfffu; }
  [[nodiscard]] constexpr std::uint32_t stamp() const noexcept { return (word_ >> 12) & 0xfu; }
  [[nodiscard]] constexpr std::uint32_t hints() const noexcept { return (word_ >> 16) & 0xffu; }
  [[nodiscard]] constexpr std::uint8_t origin() const noexcept {
    return static_cast<std::uint8_t>(word_ >> 24);
  }
  // The tag that publishes this slot: the same for everyone who computes it.
  [[nodiscard]] constexpr Tag tag(unsigned slot, std::uint64_t seq) const noexcept {
    return {slot, seq, fingerprint(), stamp(), hints()};
  }

 private:
  std::uint32_t word_;
};

inline constexpr std::size_t kLineBytes = 64;
inline constexpr std::size_t kScales = 4;

template <class A>
struct alignas(kLineBytes) SlotHeader {
  template <class T>
  using Word = typename A::template Word<T>;

  Word<std::uint64_t> seq;
  Word<std::uint64_t> key_lo;
  Word<std::uint64_t> key_hi;
  Word<std::int64_t> written_at_ms;
  Word<std::uint32_t> snapshot;
  Word<std::uint32_t> about;
  Word<std::uint32_t> order;
  Word<std::uint32_t> checksum;
  Word<std::uint32_t> scales[kScales];  // bits of a float per part; int8 rows only
};
static_assert(sizeof(SlotHeader<StdAtomics>) == kLineBytes);

[[nodiscard]] constexpr std::size_t slot_bytes(std::size_t row_bytes) noexcept {
  return kLineBytes + (row_bytes + kLineBytes - 1) / kLineBytes * kLineBytes;
}

template <class A>
[[nodiscard]] std::byte* row_of(SlotHeader<A>* slot) noexcept {
  return reinterpret_cast<std::byte*>(slot + 1);
}
template <class A>
[[nodiscard]] const std::byte* row_of(const SlotHeader<A>* slot) noexcept {
  return reinterpret_cast<const std::byte*>(slot + 1);
}

// How long ago a row was written; a clock that went back gives 0.
[[nodiscard]] inline std::int64_t age_ms(std::int64_t written_at_ms, std::int64_t now_ms) noexcept {
  if (now_ms <= written_at_ms) return 0;
  const std::uint64_t age =
      static_cast<std::uint64_t>(now_ms) - static_cast<std::uint64_t>(written_at_ms);
  return age > INT64_MAX ? INT64_MAX : static_cast<std::int64_t>(age);
}

}  // namespace predawn
