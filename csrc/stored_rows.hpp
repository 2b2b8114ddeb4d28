// Tables of rows that are read many at a time: floats, halves, or bytes with a scale a row.
//
// What: `StoredRows`, a look at somebody's table; `at`, one of its rows as floats; `first_outside`,
//   the check of positions that all readers make first.
// When not: rows of the store (rows.hpp), which have headers and are written meanwhile.
// Functions: positions given to `at` and `ask_for` are within the table.
// Design: a row of floats is read where it lies, others are widened into the caller's memory.
// Memory: none. Cost: a conversion of the row; no atomics.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "convert.hpp"
#include "rows.hpp"

namespace predawn {

struct StoredRows {
  const std::byte* data = nullptr;
  Dtype dtype = Dtype::kFp32;     // or fp16 or int8
  const float* scales = nullptr;  // int8: one a row
  std::size_t count = 0;
  std::size_t width = 0;

  [[nodiscard]] std::size_t row_bytes() const noexcept {
    return width * kDtypeBytes[static_cast<std::size_t>(dtype)];
  }

  [[nodiscard]] const std::byte* bytes_at(std::int64_t row) const noexcept {
    return data + static_cast<std::size_t>(row) * row_bytes();
  }

  // Brings a row nearer. Always inlined: GCC drops calls of functions that do nothing but this.
  [[gnu::always_inline]] void ask_for(std::int64_t row) const noexcept {
    constexpr std::size_t kLine = 64;
    const std::byte* first = bytes_at(row);
    const std::size_t bytes = row_bytes();
    for (std::size_t byte = 0; byte < bytes; byte += kLine) __builtin_prefetch(first + byte);
  }

  // `room`: `width` floats, used where the row is not stored as floats.
  [[nodiscard]] const float* at(std::int64_t row, float* room,
                                const Converters& by) const noexcept {
    const std::byte* from = bytes_at(row);
    if (dtype == Dtype::kFp32) return reinterpret_cast<const float*>(from);
    if (dtype == Dtype::kFp16) {
      by.from_half(reinterpret_cast<const std::uint16_t*>(from), room, width);
    } else {
      const float scale = scales[row];
      by.from_int8(reinterpret_cast<const std::int8_t*>(from), scale, room, width);
    }
    return room;
  }

  [[nodiscard]] bool has(std::int64_t row) const noexcept {
    return static_cast<std::uint64_t>(row) < count;
  }
};

// The place of the first position that the table does not have; as many as there are if it has all.
[[nodiscard]] inline std::size_t first_outside(const StoredRows& table,
                                               std::span<const std::int64_t> positions) noexcept {
  std::size_t i = 0;
  while (i < positions.size() && table.has(positions[i])) ++i;
  return i;
}

}  // namespace predawn
