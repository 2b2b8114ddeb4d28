// The format of a stored row: floats outside; fp32, fp16, bf16 or int8 inside.
//
// What: `Dtype` with its names; `RowFormat`: `dim` values a part, `parts` parts a row, how they lie
//   in memory, and the conversions to and from it.
// When not: knowing what the parts mean (the server's business), or touching memory that others
//   write (atomics.hpp moves the bytes between a slot and an own buffer).
// Functions: `store` makes a whole row in an own buffer of `padded_bytes()`, `load` converts its
//   first parts out of one; a served part is a prefix. `bytes` is the stored size without the
//   scales, which lie in the slot's header.
// Design: parts lie one behind the other. fp32 keeps every bit. fp16 and bf16 round to the nearest,
//   ties to even, and NaN stays NaN. int8 is symmetric with one scale a part: scale = largest
//   absolute value / 127, a value is the nearest of -127..127 times the scale, off by at most half
//   of it (and a rounding). A part of zeros, or with no value of 127 * 2^-126 (1.5e-36) or more, is
//   all zeros with scale 0. int8 has no NaN nor infinity: a part that holds one of them has a NaN
//   for a scale and comes back as NaN, whole, which is how an absent part is marked. Nothing
//   made up is ever given back.
// Memory: the row, padded with zeros to whole 8-byte words. Cost: see convert_x86.hpp; no atomics.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <optional>
#include <string_view>

#include "convert.hpp"
#include "slot.hpp"

namespace predawn {

enum class Dtype : std::uint8_t { kFp32 = 0, kFp16 = 1, kBf16 = 2, kInt8 = 3 };

inline constexpr std::array<std::string_view, 4> kDtypeNames{"fp32", "fp16", "bf16", "int8"};
inline constexpr std::array<std::size_t, 4> kDtypeBytes{4, 2, 2, 1};

[[nodiscard]] constexpr std::string_view name_of(Dtype dtype) noexcept {
  return kDtypeNames[static_cast<std::size_t>(dtype)];
}
[[nodiscard]] constexpr std::optional<Dtype> dtype_named(std::string_view name) noexcept {
  for (std::size_t i = 0; i < kDtypeNames.size(); ++i) {
    if (kDtypeNames[i] == name) return static_cast<Dtype>(i);
  }
  return std::nullopt;
}
// How many parts a row of this type may have: int8 needs a scale for each.
[[nodiscard]] constexpr std::size_t most_parts(Dtype dtype) noexcept {
  return dtype == Dtype::kInt8 ? kScales : std::numeric_limits<std::uint32_t>::max();
}

// One part of `dim` values as int8; returns its scale.
inline float part_to_int8(const Converters& by, const float* from, std::int8_t* to,
                          std::size_t dim) noexcept {
  // The largest scale that times 127 is not infinite: a hair below the largest float / 127.
  constexpr float kScaleMax = 0x1.020406p121f;
  const std::uint32_t largest = by.largest(from, dim);
  if (largest >= kInfinityBits) {
    std::memset(to, 0, dim);
    return std::numeric_limits<float>::quiet_NaN();
  }
  const float scale = std::min(std::bit_cast<float>(largest) / 127.0f, kScaleMax);
  if (scale < std::numeric_limits<float>::min()) {
    std::memset(to, 0, dim);
    return 0;
  }
  by.to_int8(from, 1.0f / scale, to, dim);
  return scale;
}

class RowFormat {
 public:
  // `parts` is within most_parts(dtype), `isa` is supported.
  RowFormat(Dtype dtype, std::uint32_t dim, std::uint32_t parts, Isa isa = best_isa()) noexcept
      : converters_(converters(isa)), dim_(dim), parts_(parts), dtype_(dtype), isa_(isa) {}

  [[nodiscard]] Dtype dtype() const noexcept { return dtype_; }
  [[nodiscard]] std::uint32_t dim() const noexcept { return dim_; }
  [[nodiscard]] std::uint32_t parts() const noexcept { return parts_; }
  [[nodiscard]] Isa isa() const noexcept { return isa_; }
  [[nodiscard]] std::size_t values() const noexcept { return std::size_t{dim_} * parts_; }

  [[nodiscard]] std::size_t bytes(std::size_t parts) const noexcept {
    return parts * dim_ * kDtypeBytes[static_cast<std::size_t>(dtype_)];
  }
  [[nodiscard]] std::size_t bytes() const noexcept { return bytes(parts_); }
  // As whole words, which is what atomics.hpp moves.
  [[nodiscard]] std::size_t padded_bytes(std::size_t parts) const noexcept {
    return (bytes(parts) + 7) / 8 * 8;
  }
  [[nodiscard]] std::size_t padded_bytes() const noexcept { return padded_bytes(parts_); }

  // A whole row from `values()` floats. `to`: own memory of padded_bytes(), 4-byte aligned at
  // least, padding zeroed. `scales`: all kScales are set, to 0 where no part needs one.
  void store(const float* from, std::byte* to, float* scales) const noexcept {
    for (std::size_t i = 0; i < kScales; ++i) scales[i] = 0;
    std::memset(to + bytes(), 0, padded_bytes() - bytes());
    switch (dtype_) {
      case Dtype::kFp32:
        std::memcpy(to, from, bytes());
        return;
      case Dtype::kFp16:
        converters_.to_half(from, reinterpret_cast<std::uint16_t*>(to), values());
        return;
      case Dtype::kBf16:
        converters_.to_bf16(from, reinterpret_cast<std::uint16_t*>(to), values());
        return;
      case Dtype::kInt8:
        for (std::size_t part = 0; part < parts_; ++part) {
          auto* bytes_of_part = reinterpret_cast<std::int8_t*>(to + part * dim_);
          scales[part] = part_to_int8(converters_, from + part * dim_, bytes_of_part, dim_);
        }
        return;
    }
  }

  // `load` for a caller that is compiled for `kIsa` itself, so that the commonest conversion is
  // part of it.
  template <Isa kIsa>
  void load_by(const std::byte* from, const float* scales, float* to,
               std::size_t parts) const noexcept {
#if defined(__x86_64__)
    if constexpr (kIsa == Isa::kAvx512) {
      if (dtype_ == Dtype::kFp16) {
        avx512::from_half(reinterpret_cast<const std::uint16_t*>(from), to, parts * dim_);
        return;
      }
    }
#endif
    load(from, scales, to, parts);
  }

  // The first `parts` parts of a row that `store` made.
  void load(const std::byte* from, const float* scales, float* to,
            std::size_t parts) const noexcept {
    switch (dtype_) {
      case Dtype::kFp32:
        std::memcpy(to, from, bytes(parts));
        return;
      case Dtype::kFp16:
        converters_.from_half(reinterpret_cast<const std::uint16_t*>(from), to, parts * dim_);
        return;
      case Dtype::kBf16:
        converters_.from_bf16(reinterpret_cast<const std::uint16_t*>(from), to, parts * dim_);
        return;
      case Dtype::kInt8:
        for (std::size_t part = 0; part < parts; ++part) {
          const auto* bytes_of_part = reinterpret_cast<const std::int8_t*>(from + part * dim_);
          converters_.from_int8(bytes_of_part, scales[part], to + part * dim_, dim_);
        }
        return;
    }
  }

 private:
  Converters converters_;
  std::uint32_t dim_;
  std::uint32_t parts_;
  Dtype dtype_;
  Isa isa_;
};

}  // namespace predawn
