// The conversions of convert_portable.hpp by NEON instructions, the same bits.
//
// What: `neon_converters`: 4 or 8 values at a time, the rest as portable does.
// When not: on anything but 64-bit ARM, where this header is empty.
// Functions: as convert_portable.hpp says, in the default modes of the FPCR (round to the nearest,
//   NaNs propagate, IEEE half precision).
// Design: only what every ARMv8.0 core has, so nothing is to be asked at run time.
// Memory: none. Cost: not measured; no atomics.
#pragma once

#if defined(__aarch64__)

#  include <arm_neon.h>

#  include "convert_portable.hpp"

namespace predawn {
namespace neon {

inline void to_half(const float* from, std::uint16_t* to, std::size_t count) noexcept {
  for (; count >= 4; count -= 4, from += 4, to += 4) {
    vst1_u16(to, vreinterpret_u16_f16(vcvt_f16_f32(vld1q_f32(from))));
  }
  portable::to_half(from, to, count);
}

inline void from_half(const std::uint16_t* from, float* to, std::size_t count) noexcept {
  for (; count >= 4; count -= 4, from += 4, to += 4) {
    vst1q_f32(to, vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(from))));
  }
  portable::from_half(from, to, count);
}

inline uint16x4_t bf16_of(uint32x4_t bits) noexcept {
  const uint32x4_t high = vshrq_n_u32(bits, 16);
  const uint32x4_t odd = vandq_u32(high, vdupq_n_u32(1));
  const uint32x4_t bias = vaddq_u32(odd, vdupq_n_u32(0x7fff));
  const uint32x4_t rounded = vshrq_n_u32(vaddq_u32(bits, bias), 16);
  const uint32x4_t size = vandq_u32(bits, vdupq_n_u32(kSizeBits));
  const uint32x4_t nan = vcgtq_u32(size, vdupq_n_u32(kInfinityBits));
  const uint32x4_t quiet = vorrq_u32(high, vdupq_n_u32(0x40));
  return vmovn_u32(vbslq_u32(nan, quiet, rounded));
}

inline void to_bf16(const float* from, std::uint16_t* to, std::size_t count) noexcept {
  for (; count >= 4; count -= 4, from += 4, to += 4) {
    vst1_u16(to, bf16_of(vreinterpretq_u32_f32(vld1q_f32(from))));
  }
  portable::to_bf16(from, to, count);
}

inline void from_bf16(const std::uint16_t* from, float* to, std::size_t count) noexcept {
  for (; count >= 4; count -= 4, from += 4, to += 4) {
    vst1q_f32(to, vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(from), 16)));
  }
  portable::from_bf16(from, to, count);
}

inline void to_int8(const float* from, float inverse, std::int8_t* to, std::size_t count) noexcept {
  for (; count >= 8; count -= 8, from += 8, to += 8) {
    const int32x4_t low = vcvtnq_s32_f32(vmulq_n_f32(vld1q_f32(from), inverse));
    const int32x4_t high = vcvtnq_s32_f32(vmulq_n_f32(vld1q_f32(from + 4), inverse));
    vst1_s8(to, vmovn_s16(vcombine_s16(vmovn_s32(low), vmovn_s32(high))));
  }
  portable::to_int8(from, inverse, to, count);
}

inline void from_int8(const std::int8_t* from, float scale, float* to, std::size_t count) noexcept {
  for (; count >= 8; count -= 8, from += 8, to += 8) {
    const int16x8_t words = vmovl_s8(vld1_s8(from));
    const float32x4_t low = vcvtq_f32_s32(vmovl_s16(vget_low_s16(words)));
    const float32x4_t high = vcvtq_f32_s32(vmovl_s16(vget_high_s16(words)));
    vst1q_f32(to, vmulq_n_f32(low, scale));
    vst1q_f32(to + 4, vmulq_n_f32(high, scale));
  }
  portable::from_int8(from, scale, to, count);
}

inline std::uint32_t largest(const float* from, std::size_t count) noexcept {
  uint32x4_t most = vdupq_n_u32(0);
  for (; count >= 4; count -= 4, from += 4) {
    const uint32x4_t bits = vreinterpretq_u32_f32(vld1q_f32(from));
    most = vmaxq_u32(most, vandq_u32(bits, vdupq_n_u32(kSizeBits)));
  }
  return std::max(vmaxvq_u32(most), portable::largest(from, count));
}

}  // namespace neon

[[nodiscard]] constexpr Converters neon_converters() noexcept {
  return {neon::to_half, neon::from_half, neon::to_bf16, neon::from_bf16,
          neon::to_int8, neon::from_int8, neon::largest};
}

}  // namespace predawn

#endif
