// The conversions of convert_portable.hpp by x86 vector instructions, the same bits.
//
// What: `avx512_converters` (16 values at a time, the rest under a mask), `avx2_converters` (AVX2
//   and F16C, 8 at a time, the rest as portable does).
// When not: on a CPU without them; convert.hpp asks.
// Functions: as convert_portable.hpp says.
// Design: each function names its instruction set, so that the rest of the build stays general.
//   vcvtneps2bf16 is not used: it takes subnormal values for zero.
// Memory: none. Cost: 0.02 to 0.04 ns a value read, 0.03 to 0.2 written; no atomics.
#pragma once

#if defined(__x86_64__)

#  include <cpuid.h>
#  include <immintrin.h>

#  include "convert_portable.hpp"

#  define PREDAWN_AVX512 __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq"))) inline
#  define PREDAWN_AVX2 __attribute__((target("avx2,f16c"))) inline

namespace predawn {

// GCC 12 takes the deliberately undefined operands inside its own AVX-512 intrinsics for a mistake
// of their callers.
#  pragma GCC diagnostic push
#  if !defined(__clang__)
#    pragma GCC diagnostic ignored "-Wuninitialized"
#    pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#  endif

namespace avx512 {

// The first `left` (below 16) of 16 values.
PREDAWN_AVX512 __mmask16 mask_of(std::size_t left) noexcept {
  return static_cast<__mmask16>((1u << left) - 1u);
}

PREDAWN_AVX512 void to_half(const float* from, std::uint16_t* to, std::size_t count) noexcept {
  constexpr int kNearest = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
  for (; count >= 16; count -= 16, from += 16, to += 16) {
    const __m256i halves = _mm512_cvtps_ph(_mm512_loadu_ps(from), kNearest);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), halves);
  }
  if (count == 0) return;
  const __mmask16 mask = mask_of(count);
  const __m512 floats = _mm512_maskz_loadu_ps(mask, from);
  _mm256_mask_storeu_epi16(to, mask, _mm512_cvtps_ph(floats, kNearest));
}

PREDAWN_AVX512 void from_half(const std::uint16_t* from, float* to, std::size_t count) noexcept {
  for (; count >= 16; count -= 16, from += 16, to += 16) {
    const __m256i halves = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
    _mm512_storeu_ps(to, _mm512_cvtph_ps(halves));
  }
  if (count == 0) return;
  const __mmask16 mask = mask_of(count);
  _mm512_mask_storeu_ps(to, mask, _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(mask, from)));
}

PREDAWN_AVX512 __m256i bf16_of(__m512i bits) noexcept {
  const __m512i high = _mm512_srli_epi32(bits, 16);
  const __m512i odd = _mm512_and_si512(high, _mm512_set1_epi32(1));
  const __m512i bias = _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff));
  const __m512i rounded = _mm512_srli_epi32(_mm512_add_epi32(bits, bias), 16);
  const __m512i size = _mm512_and_si512(bits, _mm512_set1_epi32(kSizeBits));
  const __mmask16 nan = _mm512_cmpgt_epi32_mask(size, _mm512_set1_epi32(kInfinityBits));
  return _mm512_cvtepi32_epi16(_mm512_mask_or_epi32(rounded, nan, high, _mm512_set1_epi32(0x40)));
}

PREDAWN_AVX512 void to_bf16(const float* from, std::uint16_t* to, std::size_t count) noexcept {
  for (; count >= 16; count -= 16, from += 16, to += 16) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), bf16_of(_mm512_loadu_si512(from)));
  }
  if (count == 0) return;
  const __mmask16 mask = mask_of(count);
  _mm256_mask_storeu_epi16(to, mask, bf16_of(_mm512_maskz_loadu_epi32(mask, from)));
}

PREDAWN_AVX512 void from_bf16(const std::uint16_t* from, float* to, std::size_t count) noexcept {
  for (; count >= 16; count -= 16, from += 16, to += 16) {
    const __m256i bf16 = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
    _mm512_storeu_si512(to, _mm512_slli_epi32(_mm512_cvtepu16_epi32(bf16), 16));
  }
  if (count == 0) return;
  const __mmask16 mask = mask_of(count);
  const __m512i wide = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, from));
  _mm512_mask_storeu_epi32(to, mask, _mm512_slli_epi32(wide, 16));
}

PREDAWN_AVX512 __m128i int8_of(__m512 floats, __m512 inverse) noexcept {
  return _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(_mm512_mul_ps(floats, inverse)));
}

PREDAWN_AVX512 void to_int8(const float* from, float inverse, std::int8_t* to,
                            std::size_t count) noexcept {
  const __m512 inverses = _mm512_set1_ps(inverse);
  for (; count >= 16; count -= 16, from += 16, to += 16) {
    const __m128i bytes = int8_of(_mm512_loadu_ps(from), inverses);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), bytes);
  }
  if (count == 0) return;
  const __mmask16 mask = mask_of(count);
  _mm_mask_storeu_epi8(to, mask, int8_of(_mm512_maskz_loadu_ps(mask, from), inverses));
}

PREDAWN_AVX512 __m512 floats_of(__m128i bytes, __m512 scale) noexcept {
  return _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes)), scale);
}

PREDAWN_AVX512 void from_int8(const std::int8_t* from, float scale, float* to,
                              std::size_t count) noexcept {
  const __m512 scales = _mm512_set1_ps(scale);
  for (; count >= 16; count -= 16, from += 16, to += 16) {
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
    _mm512_storeu_ps(to, floats_of(bytes, scales));
  }
  if (count == 0) return;
  const __mmask16 mask = mask_of(count);
  _mm512_mask_storeu_ps(to, mask, floats_of(_mm_maskz_loadu_epi8(mask, from), scales));
}

PREDAWN_AVX512 std::uint32_t largest(const float* from, std::size_t count) noexcept {
  const __m512i size = _mm512_set1_epi32(kSizeBits);
  __m512i most = _mm512_setzero_si512();
  for (; count >= 16; count -= 16, from += 16) {
    most = _mm512_max_epu32(most, _mm512_and_si512(_mm512_loadu_si512(from), size));
  }
  const __m512i rest = _mm512_maskz_loadu_epi32(mask_of(count), from);
  return _mm512_reduce_max_epu32(_mm512_max_epu32(most, _mm512_and_si512(rest, size)));
}

}  // namespace avx512

#  pragma GCC diagnostic pop

namespace avx2 {

PREDAWN_AVX2 void to_half(const float* from, std::uint16_t* to, std::size_t count) noexcept {
  for (; count >= 8; count -= 8, from += 8, to += 8) {
    const __m128i halves = _mm256_cvtps_ph(_mm256_loadu_ps(from), _MM_FROUND_TO_NEAREST_INT);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), halves);
  }
  portable::to_half(from, to, count);
}

PREDAWN_AVX2 void from_half(const std::uint16_t* from, float* to, std::size_t count) noexcept {
  for (; count >= 8; count -= 8, from += 8, to += 8) {
    const __m128i halves = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
    _mm256_storeu_ps(to, _mm256_cvtph_ps(halves));
  }
  portable::from_half(from, to, count);
}

PREDAWN_AVX2 __m128i bf16_of(__m256i bits) noexcept {
  const __m256i high = _mm256_srli_epi32(bits, 16);
  const __m256i odd = _mm256_and_si256(high, _mm256_set1_epi32(1));
  const __m256i bias = _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff));
  const __m256i rounded = _mm256_srli_epi32(_mm256_add_epi32(bits, bias), 16);
  const __m256i size = _mm256_and_si256(bits, _mm256_set1_epi32(kSizeBits));
  const __m256i nan = _mm256_cmpgt_epi32(size, _mm256_set1_epi32(kInfinityBits));
  const __m256i quiet = _mm256_or_si256(high, _mm256_set1_epi32(0x40));
  const __m256i wide = _mm256_blendv_epi8(rounded, quiet, nan);
  return _mm_packus_epi32(_mm256_castsi256_si128(wide), _mm256_extracti128_si256(wide, 1));
}

PREDAWN_AVX2 void to_bf16(const float* from, std::uint16_t* to, std::size_t count) noexcept {
  for (; count >= 8; count -= 8, from += 8, to += 8) {
    const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), bf16_of(bits));
  }
  portable::to_bf16(from, to, count);
}

PREDAWN_AVX2 void from_bf16(const std::uint16_t* from, float* to, std::size_t count) noexcept {
  for (; count >= 8; count -= 8, from += 8, to += 8) {
    const __m128i bf16 = _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
    const __m256i bits = _mm256_slli_epi32(_mm256_cvtepu16_epi32(bf16), 16);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), bits);
  }
  portable::from_bf16(from, to, count);
}

PREDAWN_AVX2 void to_int8(const float* from, float inverse, std::int8_t* to,
                          std::size_t count) noexcept {
  const __m256 inverses = _mm256_set1_ps(inverse);
  for (; count >= 8; count -= 8, from += 8, to += 8) {
    const __m256i wide = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(from), inverses));
    const __m128i words =
        _mm_packs_epi32(_mm256_castsi256_si128(wide), _mm256_extracti128_si256(wide, 1));
    _mm_storel_epi64(reinterpret_cast<__m128i*>(to), _mm_packs_epi16(words, words));
  }
  portable::to_int8(from, inverse, to, count);
}

PREDAWN_AVX2 void from_int8(const std::int8_t* from, float scale, float* to,
                            std::size_t count) noexcept {
  const __m256 scales = _mm256_set1_ps(scale);
  for (; count >= 8; count -= 8, from += 8, to += 8) {
    const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(from));
    const __m256 values = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes));
    _mm256_storeu_ps(to, _mm256_mul_ps(values, scales));
  }
  portable::from_int8(from, scale, to, count);
}

PREDAWN_AVX2 std::uint32_t largest_of(__m256i sizes) noexcept {
  __m128i most = _mm_max_epu32(_mm256_castsi256_si128(sizes), _mm256_extracti128_si256(sizes, 1));
  most = _mm_max_epu32(most, _mm_shuffle_epi32(most, 0b01'00'11'10));
  most = _mm_max_epu32(most, _mm_shuffle_epi32(most, 0b10'11'00'01));
  return static_cast<std::uint32_t>(_mm_cvtsi128_si32(most));
}

PREDAWN_AVX2 std::uint32_t largest(const float* from, std::size_t count) noexcept {
  const __m256i size = _mm256_set1_epi32(kSizeBits);
  __m256i most = _mm256_setzero_si256();
  for (; count >= 8; count -= 8, from += 8) {
    const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
    most = _mm256_max_epu32(most, _mm256_and_si256(bits, size));
  }
  return std::max(largest_of(most), portable::largest(from, count));
}

}  // namespace avx2

[[nodiscard]] constexpr Converters avx512_converters() noexcept {
  return {avx512::to_half, avx512::from_half, avx512::to_bf16, avx512::from_bf16,
          avx512::to_int8, avx512::from_int8, avx512::largest};
}
[[nodiscard]] constexpr Converters avx2_converters() noexcept {
  return {avx2::to_half, avx2::from_half, avx2::to_bf16, avx2::from_bf16,
          avx2::to_int8, avx2::from_int8, avx2::largest};
}

[[nodiscard]] inline bool has_avx512() noexcept {
  return __builtin_cpu_supports("avx512f") != 0 && __builtin_cpu_supports("avx512bw") != 0 &&
         __builtin_cpu_supports("avx512vl") != 0 && __builtin_cpu_supports("avx512dq") != 0;
}
// The compilers' own query says whether the system keeps vector registers, but clang's does not
// know F16C. Asked once: under a hypervisor the instruction that says so takes tens of
// microseconds.
[[nodiscard]] inline bool has_avx2() noexcept {
  static const bool has = [] {
    unsigned a = 0;
    unsigned b = 0;
    unsigned c = 0;
    unsigned d = 0;
    const bool has_f16c = __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & bit_F16C) != 0;
    return has_f16c && __builtin_cpu_supports("avx2") != 0;
  }();
  return has;
}

}  // namespace predawn

#  undef PREDAWN_AVX512
#  undef PREDAWN_AVX2

#endif
