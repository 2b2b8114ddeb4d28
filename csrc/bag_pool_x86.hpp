// The sums of bag_pool_portable.hpp by x86 vector instructions.
//
// What: `avx512_add_ups` (64 columns at a time), `avx2_add_ups` (AVX2, FMA and F16C, 32).
// When not: on a CPU without them; bag_pool.hpp asks.
// Functions: as bag_pool_portable.hpp says; product and sum are fused.
// Design: sums stay in registers over the whole bag. Between two rows that are summed, one of a
//   later bag is asked for: all of a bag at once would be more than a core keeps in flight.
// Memory: none. Cost: docs/benchmarks.md, `models`; no atomics.
#pragma once

#if defined(__x86_64__)

#  include <immintrin.h>

#  include "bag_pool_portable.hpp"

#  define PREDAWN_AVX512 __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq"))) inline
#  define PREDAWN_AVX2 __attribute__((target("avx2,fma,f16c"))) inline

namespace predawn {

// Rows are asked for 16 KiB before their turn, which the first cache has room for.
template <class Stored>
class Ahead {
 public:
  Ahead(const Stored* rows, std::size_t width) noexcept
      : rows_(reinterpret_cast<const std::byte*>(rows)),
        bytes_(width * sizeof(Stored)),
        takes_(std::clamp<std::size_t>((std::size_t{16} << 10) / (bytes_ + 1), 4, 64)) {}

  // For the take at `i`. Always inlined: GCC drops calls of functions that do nothing but this.
  [[gnu::always_inline]] void ask(const Takes& takes, std::size_t i) const noexcept {
    if (i + takes_ >= takes.all) return;
    const std::byte* row = rows_ + takes.begin[i + takes_].row * bytes_;
    for (std::size_t byte = 0; byte < bytes_; byte += 64) __builtin_prefetch(row + byte);
    __builtin_prefetch(row + bytes_ - 1);  // numpy's rows do not begin with a cache line
  }

 private:
  const std::byte* rows_;
  std::size_t bytes_;
  std::size_t takes_;
};

// GCC 12 takes the deliberately undefined operands inside its own AVX-512 intrinsics for a mistake
// of their callers.
#  pragma GCC diagnostic push
#  if !defined(__clang__)
#    pragma GCC diagnostic ignored "-Wuninitialized"
#    pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#  endif

namespace avx512 {

inline constexpr std::size_t kLanes = 16;
inline constexpr std::size_t kVectors = 4;

PREDAWN_AVX512 __mmask16 lanes_within(std::size_t left) noexcept {
  return static_cast<__mmask16>(left >= kLanes ? 0xffffu : (1u << left) - 1u);
}
PREDAWN_AVX512 __m512 widened(const float* from, __mmask16 mask) noexcept {
  return _mm512_maskz_loadu_ps(mask, from);
}
PREDAWN_AVX512 __m512 widened(const std::uint16_t* from, __mmask16 mask) noexcept {
  return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(mask, from));
}
PREDAWN_AVX512 __m512 widened(const std::int8_t* from, __mmask16 mask) noexcept {
  return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_maskz_loadu_epi8(mask, from)));
}

template <class Stored>
PREDAWN_AVX512 void add_up(const Stored* rows, std::size_t width, const Takes& takes,
                           float* out) noexcept {
  const Ahead ahead(rows, width);
  for (std::size_t column = 0; column < width; column += kVectors * kLanes) {
    __mmask16 masks[kVectors];
    __m512 sums[kVectors];
#  pragma GCC unroll 4
    for (std::size_t v = 0; v < kVectors; ++v) {
      const std::size_t at = column + v * kLanes;
      masks[v] = at < width ? lanes_within(width - at) : static_cast<__mmask16>(0);
      sums[v] = _mm512_setzero_ps();
    }
    for (std::size_t i = 0; i < takes.count; ++i) {
      if (column == 0) ahead.ask(takes, i);
      const Take take = takes.begin[i];
      const Stored* row = rows + take.row * width + column;
      const __m512 factor = _mm512_set1_ps(take.factor);
#  pragma GCC unroll 4
      for (std::size_t v = 0; v < kVectors; ++v) {
        sums[v] = _mm512_fmadd_ps(factor, widened(row + v * kLanes, masks[v]), sums[v]);
      }
    }
#  pragma GCC unroll 4
    for (std::size_t v = 0; v < kVectors; ++v) {
      _mm512_mask_storeu_ps(out + column + v * kLanes, masks[v], sums[v]);
    }
  }
}

}  // namespace avx512

#  pragma GCC diagnostic pop

namespace avx2 {

inline constexpr std::size_t kLanes = 8;
inline constexpr std::size_t kVectors = 4;

PREDAWN_AVX2 __m256 widened(const float* from) noexcept { return _mm256_loadu_ps(from); }
PREDAWN_AVX2 __m256 widened(const std::uint16_t* from) noexcept {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
}
PREDAWN_AVX2 __m256 widened(const std::int8_t* from) noexcept {
  const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(from));
  return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes));
}

// Whole blocks of 32 columns from registers, the rest one value at a time.
template <class Stored>
PREDAWN_AVX2 void add_up(const Stored* rows, std::size_t width, const Takes& takes,
                         float* out) noexcept {
  const Ahead ahead(rows, width);
  std::size_t column = 0;
  for (; column + kVectors * kLanes <= width; column += kVectors * kLanes) {
    __m256 sums[kVectors] = {};
    for (std::size_t i = 0; i < takes.count; ++i) {
      if (column == 0) ahead.ask(takes, i);
      const Take take = takes.begin[i];
      const Stored* row = rows + take.row * width + column;
      const __m256 factor = _mm256_set1_ps(take.factor);
#  pragma GCC unroll 4
      for (std::size_t v = 0; v < kVectors; ++v) {
        sums[v] = _mm256_fmadd_ps(factor, widened(row + v * kLanes), sums[v]);
      }
    }
#  pragma GCC unroll 4
    for (std::size_t v = 0; v < kVectors; ++v) {
      _mm256_storeu_ps(out + column + v * kLanes, sums[v]);
    }
  }
  for (; column < width; ++column) {
    float sum = 0;
    for (std::size_t i = 0; i < takes.count; ++i) {
      const Take take = takes.begin[i];
      sum += take.factor * portable::widened(rows[take.row * width + column]);
    }
    out[column] = sum;
  }
}

}  // namespace avx2

[[nodiscard]] constexpr AddUps avx512_add_ups() noexcept {
  return {avx512::add_up<float>, avx512::add_up<std::uint16_t>, avx512::add_up<std::int8_t>};
}
[[nodiscard]] constexpr AddUps avx2_add_ups() noexcept {
  return {avx2::add_up<float>, avx2::add_up<std::uint16_t>, avx2::add_up<std::int8_t>};
}

}  // namespace predawn

#  undef PREDAWN_AVX512
#  undef PREDAWN_AVX2

#endif
