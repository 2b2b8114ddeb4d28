// The format of a stored row: floats outside, fp32 or fp16 inside, converted while being copied.
//
// What: `RowFormat`: `dim` values a part, `parts` parts a row, and how they lie in a slot.
// When not: knowing what the parts mean (the server's business).
// Functions: `store`, `load` copy whole parts; `bytes` is the stored size.
// Design: parts lie one behind the other, so that the first (what is served) is a prefix. fp32 is
//   kept bit by bit, fp16 rounds as half.hpp says.
// Memory: the row, nothing else. Cost: that of the copy; no atomics.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "half.hpp"

namespace predawn {

enum class Dtype : std::uint8_t { kFp32 = 0, kFp16 = 1 };

class RowFormat {
 public:
  RowFormat(Dtype dtype, std::uint32_t dim, std::uint32_t parts) noexcept
      : dtype_(dtype), dim_(dim), parts_(parts), half_(HalfConverters::chosen()) {}

  [[nodiscard]] Dtype dtype() const noexcept { return dtype_; }
  [[nodiscard]] std::uint32_t dim() const noexcept { return dim_; }
  [[nodiscard]] std::uint32_t parts() const noexcept { return parts_; }
  [[nodiscard]] std::size_t values() const noexcept { return std::size_t{dim_} * parts_; }
  [[nodiscard]] std::size_t bytes(std::size_t parts) const noexcept {
    const std::size_t value = dtype_ == Dtype::kFp16 ? sizeof(std::uint16_t) : sizeof(float);
    return parts * dim_ * value;
  }
  [[nodiscard]] std::size_t bytes() const noexcept { return bytes(parts_); }

  // `count` values of a row that starts at `to` (at least 4-byte aligned).
  void store(const float* from, std::byte* to, std::size_t count) const noexcept {
    if (dtype_ == Dtype::kFp16) {
      half_.to_half(from, reinterpret_cast<std::uint16_t*>(to), count);
    } else {
      std::memcpy(to, from, count * sizeof(float));
    }
  }

  void load(const std::byte* from, float* to, std::size_t count) const noexcept {
    if (dtype_ == Dtype::kFp16) {
      half_.to_float(reinterpret_cast<const std::uint16_t*>(from), to, count);
    } else {
      std::memcpy(to, from, count * sizeof(float));
    }
  }

 private:
  Dtype dtype_;
  std::uint32_t dim_;
  std::uint32_t parts_;
  HalfConverters half_;
};

}  // namespace predawn
