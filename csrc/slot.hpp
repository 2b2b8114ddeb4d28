// One embedding: whose it is, when and by what it was written, and its row.
//
// What: `SlotHeader`, followed in memory by the row (rows.hpp), padded to whole cache lines.
// When not: recency and emptiness, which live in the set's line.
// Functions: `slot_bytes` (size of a slot), `row_of` (where the row starts).
// Design: all-zero memory is a slot that no set line refers to.
// Memory: 32 bytes and the row. Cost: plain loads and stores, under the lock of the set.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "key.hpp"

namespace predawn {

struct SlotHeader {
  Key key;
  std::int64_t written_at_ms = 0;
  std::uint32_t snapshot = 0;
  std::uint8_t origin = 0;
  std::uint8_t reserved[3] = {};
};
static_assert(sizeof(SlotHeader) == 32 && std::is_trivially_copyable_v<SlotHeader>);
static_assert(offsetof(SlotHeader, written_at_ms) == 16 && offsetof(SlotHeader, snapshot) == 24);

inline constexpr std::size_t kLineBytes = 64;

[[nodiscard]] constexpr std::size_t slot_bytes(std::size_t row_bytes) noexcept {
  return (sizeof(SlotHeader) + row_bytes + kLineBytes - 1) / kLineBytes * kLineBytes;
}

[[nodiscard]] inline std::byte* row_of(SlotHeader* slot) noexcept {
  return reinterpret_cast<std::byte*>(slot + 1);
}
[[nodiscard]] inline const std::byte* row_of(const SlotHeader* slot) noexcept {
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
