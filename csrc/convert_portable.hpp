// Floats as half, bfloat16 and int8, and back: what every conversion of a row means, bit by bit.
//
// What: `half_of_float`, `bf16_of_float`, `int8_of_float` and their inverses, one value each;
//   `Converters`, the same over runs of values, as functions chosen at run time (convert.hpp);
//   `portable_converters`, the ones that run anywhere and that all others agree with.
// When not: which format a row has, and its scales (rows.hpp).
// Functions: pure, over arrays of any length; no alignment is asked for but that of the values.
//   Half and bfloat16 round to the nearest, ties to even; half overflows to infinity from 65520
//   on; a NaN stays a NaN with its sign and upper payload and becomes quiet. Widening is exact.
//   int8 is the nearest whole number of value * inverse, ties to even, which must lie within
//   -127 to 127; back is that number * scale.
// Design: integer arithmetic where that is exact; the FPU's own rounding (its default mode, to the
//   nearest) where it is not. Subnormal results do not depend on flush-to-zero modes.
// Memory: none. Cost: about 1 ns a value, less where the compiler vectorises; no atomics.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>

namespace predawn {

inline constexpr std::uint32_t kSizeBits = 0x7fffffffu;  // all of a float's bits but its sign
inline constexpr std::uint32_t kInfinityBits = 0x7f800000u;

[[nodiscard]] inline std::uint16_t half_of_float(float value) noexcept {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t sign = (bits >> 16) & 0x8000u;
  const std::uint32_t size = bits & kSizeBits;
  std::uint32_t half = 0;
  if (size > kInfinityBits) {
    half = 0x7e00u | ((size >> 13) & 0x3ffu);  // NaN, made quiet
  } else if (size >= 0x477ff000u) {
    half = 0x7c00u;  // 65520 and more round to infinity
  } else if (size >= 0x38800000u) {
    half = (size - 0x38000000u + 0xfffu + ((size >> 13) & 1u)) >> 13;
  } else {
    // Below 2^-14: adding 0.5 makes the FPU round to multiples of 2^-24, to even.
    half = std::bit_cast<std::uint32_t>(std::bit_cast<float>(size) + 0.5f) - 0x3f000000u;
  }
  return static_cast<std::uint16_t>(sign | half);
}

[[nodiscard]] inline float float_of_half(std::uint16_t half) noexcept {
  const std::uint32_t sign = (half & 0x8000u) << 16;
  const std::uint32_t size = half & 0x7fffu;
  std::uint32_t bits = 0;
  if (size >= 0x7c00u) {
    const std::uint32_t quiet = size > 0x7c00u ? 0x400000u : 0u;
    bits = kInfinityBits | ((size & 0x3ffu) << 13) | quiet;
  } else if (size >= 0x400u) {
    bits = (size << 13) + 0x38000000u;
  } else {
    // Subnormal: size * 2^-24 is exact in a float.
    bits = std::bit_cast<std::uint32_t>(static_cast<float>(size) * 0x1p-24f);
  }
  return std::bit_cast<float>(sign | bits);
}

[[nodiscard]] inline std::uint16_t bf16_of_float(float value) noexcept {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t quiet = (bits >> 16) | 0x40u;
  const std::uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  return static_cast<std::uint16_t>((bits & kSizeBits) > kInfinityBits ? quiet : rounded);
}

[[nodiscard]] inline float float_of_bf16(std::uint16_t bf16) noexcept {
  return std::bit_cast<float>(std::uint32_t{bf16} << 16);
}

[[nodiscard]] inline std::int8_t int8_of_float(float value, float inverse) noexcept {
  // Not the usual sum with 1.5 * 2^23: compilers may fuse that with the product, which rounds once
  // where the vector instructions round twice.
  return static_cast<std::int8_t>(std::nearbyint(value * inverse));
}

[[nodiscard]] inline float float_of_int8(std::int8_t value, float scale) noexcept {
  return static_cast<float>(value) * scale;
}

struct Converters {
  void (*to_half)(const float* from, std::uint16_t* to, std::size_t count) noexcept;
  void (*from_half)(const std::uint16_t* from, float* to, std::size_t count) noexcept;
  void (*to_bf16)(const float* from, std::uint16_t* to, std::size_t count) noexcept;
  void (*from_bf16)(const std::uint16_t* from, float* to, std::size_t count) noexcept;
  void (*to_int8)(const float* from, float inverse, std::int8_t* to, std::size_t count) noexcept;
  void (*from_int8)(const std::int8_t* from, float scale, float* to, std::size_t count) noexcept;
  // The largest absolute value, as its bits: above kInfinityBits if any is a NaN; 0 of none.
  std::uint32_t (*largest)(const float* from, std::size_t count) noexcept;
};

namespace portable {

inline void to_half(const float* from, std::uint16_t* to, std::size_t count) noexcept {
  for (std::size_t i = 0; i < count; ++i) to[i] = half_of_float(from[i]);
}
inline void from_half(const std::uint16_t* from, float* to, std::size_t count) noexcept {
  for (std::size_t i = 0; i < count; ++i) to[i] = float_of_half(from[i]);
}
inline void to_bf16(const float* from, std::uint16_t* to, std::size_t count) noexcept {
  for (std::size_t i = 0; i < count; ++i) to[i] = bf16_of_float(from[i]);
}
inline void from_bf16(const std::uint16_t* from, float* to, std::size_t count) noexcept {
  for (std::size_t i = 0; i < count; ++i) to[i] = float_of_bf16(from[i]);
}
inline void to_int8(const float* from, float inverse, std::int8_t* to, std::size_t count) noexcept {
  for (std::size_t i = 0; i < count; ++i) to[i] = int8_of_float(from[i], inverse);
}
inline void from_int8(const std::int8_t* from, float scale, float* to, std::size_t count) noexcept {
  for (std::size_t i = 0; i < count; ++i) to[i] = float_of_int8(from[i], scale);
}
inline std::uint32_t largest(const float* from, std::size_t count) noexcept {
  std::uint32_t most = 0;
  for (std::size_t i = 0; i < count; ++i) {
    most = std::max(most, std::bit_cast<std::uint32_t>(from[i]) & kSizeBits);
  }
  return most;
}

}  // namespace portable

[[nodiscard]] constexpr Converters portable_converters() noexcept {
  return {portable::to_half, portable::from_half, portable::to_bf16, portable::from_bf16,
          portable::to_int8, portable::from_int8, portable::largest};
}

}  // namespace predawn
