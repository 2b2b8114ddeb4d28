// The arithmetic of dense_portable.hpp by x86 vector instructions.
//
// What: `avx512_arithmetic` (a panel of weights is one vector), `avx2_arithmetic` (AVX2 and FMA, a
//   panel is two), `has_fma`.
// When not: on a CPU without them; dense.hpp asks.
// Functions: as dense_portable.hpp says; both fuse product and sum, in the same order.
// Design: a tile of 6 rows by 4 panels (AVX-512) or 1 panel (AVX2) stays in registers over all of
//   `depth`: 24 or 12 sums for 4 or 2 vectors of weights and 6 numbers read. One row takes 8 or 4
//   panels at a time, so that enough sums are under way to hide the latency of each.
// Memory: none. Cost: see docs/benchmarks.md, `models`; no atomics.
#pragma once

#if defined(__x86_64__)

#  include <immintrin.h>

#  include "dense_portable.hpp"

#  define PREDAWN_AVX512 __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq"))) inline
#  define PREDAWN_FMA __attribute__((target("avx2,fma"))) inline

namespace predawn {

// GCC 12 takes the deliberately undefined operands inside its own AVX-512 intrinsics for a mistake
// of their callers.
#  pragma GCC diagnostic push
#  if !defined(__clang__)
#    pragma GCC diagnostic ignored "-Wuninitialized"
#    pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#  endif

namespace avx512 {

inline constexpr std::size_t kTileRows = 6;

// The first `left` of 16 values, all of them from 16 on.
PREDAWN_AVX512 __mmask16 mask_within(std::size_t left) noexcept {
  return static_cast<__mmask16>(left >= kPanel ? 0xffffu : (1u << left) - 1u);
}

// kRows rows by kPanels panels from (row, column) on; all panels but the last are whole.
template <std::size_t kRows, std::size_t kPanels>
PREDAWN_AVX512 void tile(const Product& p, std::size_t row, std::size_t column) noexcept {
  const float* x = p.x + row * p.x_stride;
  const float* weights = p.panels + column / kPanel * p.panel_stride;
  float* out = p.out + row * p.out_stride + column;
  const __mmask16 last = mask_within(p.columns - column - (kPanels - 1) * kPanel);
  __m512 sums[kRows][kPanels];
#  pragma GCC unroll 8
  for (std::size_t r = 0; r < kRows; ++r) {
#  pragma GCC unroll 8
    for (std::size_t c = 0; c < kPanels; ++c) {
      const __mmask16 mask = c + 1 < kPanels ? static_cast<__mmask16>(0xffff) : last;
      sums[r][c] = _mm512_maskz_loadu_ps(mask, out + r * p.out_stride + c * kPanel);
    }
  }
  for (std::size_t i = 0; i < p.depth; ++i, weights += kPanel) {
    __m512 panel[kPanels];
#  pragma GCC unroll 8
    for (std::size_t c = 0; c < kPanels; ++c) {
      panel[c] = _mm512_loadu_ps(weights + c * p.panel_stride);
    }
#  pragma GCC unroll 8
    for (std::size_t r = 0; r < kRows; ++r) {
      const __m512 value = _mm512_set1_ps(x[r * p.x_stride + i]);
#  pragma GCC unroll 8
      for (std::size_t c = 0; c < kPanels; ++c) {
        sums[r][c] = _mm512_fmadd_ps(value, panel[c], sums[r][c]);
      }
    }
  }
  const __m512 zero = _mm512_setzero_ps();
#  pragma GCC unroll 8
  for (std::size_t r = 0; r < kRows; ++r) {
#  pragma GCC unroll 8
    for (std::size_t c = 0; c < kPanels; ++c) {
      const __mmask16 mask = c + 1 < kPanels ? static_cast<__mmask16>(0xffff) : last;
      const __m512 done = p.is_rectified ? _mm512_max_ps(zero, sums[r][c]) : sums[r][c];
      _mm512_mask_storeu_ps(out + r * p.out_stride + c * kPanel, mask, done);
    }
  }
}

template <std::size_t kPanels>
PREDAWN_AVX512 void tiles(const Product& p, std::size_t column) noexcept {
  std::size_t row = 0;
  for (; row + kTileRows <= p.rows; row += kTileRows) tile<kTileRows, kPanels>(p, row, column);
  if (row + 4 <= p.rows) {
    tile<4, kPanels>(p, row, column);
    row += 4;
  }
  if (row + 2 <= p.rows) {
    tile<2, kPanels>(p, row, column);
    row += 2;
  }
  if (row < p.rows) tile<1, kPanels>(p, row, column);
}

PREDAWN_AVX512 void multiply(const Product& p) noexcept {
  std::size_t column = 0;
  const auto panels_left = [&] { return (p.columns - column + kPanel - 1) / kPanel; };
  if (p.rows == 1) {
    for (; panels_left() >= 8; column += 8 * kPanel) tile<1, 8>(p, 0, column);
  }
  for (; column < p.columns && panels_left() >= 4; column += 4 * kPanel) tiles<4>(p, column);
  if (column < p.columns && panels_left() >= 2) {
    tiles<2>(p, column);
    column += 2 * kPanel;
  }
  if (column < p.columns) tiles<1>(p, column);
}

PREDAWN_AVX512 void sum(const Sum& s) noexcept {
  const __m512 factor = _mm512_set1_ps(s.factor);
  for (std::size_t j = 0; j < s.length; j += kPanel) {
    const __mmask16 mask = mask_within(s.length - j);
    __m512 value = _mm512_maskz_loadu_ps(mask, s.parts[0] + j);
    for (std::size_t part = 1; part < s.count; ++part) {
      value = _mm512_add_ps(value, _mm512_maskz_loadu_ps(mask, s.parts[part] + j));
    }
    if (s.row != nullptr) {
      value = _mm512_fmadd_ps(factor, _mm512_maskz_loadu_ps(mask, s.row + j), value);
    }
    _mm512_mask_storeu_ps(s.out + j, mask, value);
  }
}

PREDAWN_AVX512 float dot(const float* a, const float* b, std::size_t length) noexcept {
  __m512 lanes = _mm512_setzero_ps();
  for (std::size_t i = 0; i < length; i += kPanel) {
    const __mmask16 mask = mask_within(length - i);
    const __m512 factor = _mm512_maskz_loadu_ps(mask, a + i);
    lanes = _mm512_fmadd_ps(factor, _mm512_maskz_loadu_ps(mask, b + i), lanes);
  }
  return _mm512_reduce_add_ps(lanes);
}

}  // namespace avx512

#  pragma GCC diagnostic pop

namespace avx2 {

inline constexpr std::size_t kHalf = kPanel / 2;
inline constexpr std::size_t kTileRows = 6;

PREDAWN_FMA __m256i mask_within(std::size_t left) noexcept {
  const __m256i places = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(std::min(left, kHalf))), places);
}

// As avx512::tile, with each panel in halves.
template <std::size_t kRows, std::size_t kPanels>
PREDAWN_FMA void tile(const Product& p, std::size_t row, std::size_t column) noexcept {
  constexpr std::size_t kHalves = 2 * kPanels;
  const float* x = p.x + row * p.x_stride;
  const float* weights = p.panels + column / kPanel * p.panel_stride;
  float* out = p.out + row * p.out_stride + column;
  const std::size_t width = std::min(p.columns - column, kPanels * kPanel);
  __m256i masks[kHalves];
#  pragma GCC unroll 8
  for (std::size_t c = 0; c < kHalves; ++c) {
    masks[c] = mask_within(width > c * kHalf ? width - c * kHalf : 0);
  }
  __m256 sums[kRows][kHalves];
#  pragma GCC unroll 8
  for (std::size_t r = 0; r < kRows; ++r) {
#  pragma GCC unroll 8
    for (std::size_t c = 0; c < kHalves; ++c) {
      sums[r][c] = _mm256_maskload_ps(out + r * p.out_stride + c * kHalf, masks[c]);
    }
  }
  for (std::size_t i = 0; i < p.depth; ++i, weights += kPanel) {
    __m256 panel[kHalves];
#  pragma GCC unroll 8
    for (std::size_t c = 0; c < kHalves; ++c) {
      panel[c] = _mm256_loadu_ps(weights + c / 2 * p.panel_stride + c % 2 * kHalf);
    }
#  pragma GCC unroll 8
    for (std::size_t r = 0; r < kRows; ++r) {
      const __m256 value = _mm256_set1_ps(x[r * p.x_stride + i]);
#  pragma GCC unroll 8
      for (std::size_t c = 0; c < kHalves; ++c) {
        sums[r][c] = _mm256_fmadd_ps(value, panel[c], sums[r][c]);
      }
    }
  }
  const __m256 zero = _mm256_setzero_ps();
#  pragma GCC unroll 8
  for (std::size_t r = 0; r < kRows; ++r) {
#  pragma GCC unroll 8
    for (std::size_t c = 0; c < kHalves; ++c) {
      const __m256 done = p.is_rectified ? _mm256_max_ps(zero, sums[r][c]) : sums[r][c];
      _mm256_maskstore_ps(out + r * p.out_stride + c * kHalf, masks[c], done);
    }
  }
}

PREDAWN_FMA void multiply(const Product& p) noexcept {
  std::size_t column = 0;
  if (p.rows == 1) {
    for (; column + 3 * kPanel < p.columns; column += 4 * kPanel) tile<1, 4>(p, 0, column);
  }
  for (; column < p.columns; column += kPanel) {
    std::size_t row = 0;
    for (; row + kTileRows <= p.rows; row += kTileRows) tile<kTileRows, 1>(p, row, column);
    for (; row + 2 <= p.rows; row += 2) tile<2, 1>(p, row, column);
    if (row < p.rows) tile<1, 1>(p, row, column);
  }
}

PREDAWN_FMA void sum(const Sum& s) noexcept {
  const __m256 factor = _mm256_set1_ps(s.factor);
  for (std::size_t j = 0; j < s.length; j += kHalf) {
    const __m256i mask = mask_within(s.length - j);
    __m256 value = _mm256_maskload_ps(s.parts[0] + j, mask);
    for (std::size_t part = 1; part < s.count; ++part) {
      value = _mm256_add_ps(value, _mm256_maskload_ps(s.parts[part] + j, mask));
    }
    if (s.row != nullptr) {
      value = _mm256_fmadd_ps(factor, _mm256_maskload_ps(s.row + j, mask), value);
    }
    _mm256_maskstore_ps(s.out + j, mask, value);
  }
}

PREDAWN_FMA float dot(const float* a, const float* b, std::size_t length) noexcept {
  __m256 lanes[2] = {_mm256_setzero_ps(), _mm256_setzero_ps()};
  for (std::size_t i = 0, half = 0; i < length; i += kHalf, half ^= 1) {
    const __m256i mask = mask_within(length - i);
    const __m256 factor = _mm256_maskload_ps(a + i, mask);
    lanes[half] = _mm256_fmadd_ps(factor, _mm256_maskload_ps(b + i, mask), lanes[half]);
  }
  const __m256 eight = _mm256_add_ps(lanes[0], lanes[1]);
  __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  four = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(four, _mm_shuffle_ps(four, four, 1)));
}

}  // namespace avx2

[[nodiscard]] constexpr Arithmetic avx512_arithmetic() noexcept {
  return {avx512::multiply, avx512::sum, avx512::dot};
}
[[nodiscard]] constexpr Arithmetic avx2_arithmetic() noexcept {
  return {avx2::multiply, avx2::sum, avx2::dot};
}

[[nodiscard]] inline bool has_fma() noexcept { return __builtin_cpu_supports("fma") != 0; }

}  // namespace predawn

#  undef PREDAWN_AVX512
#  undef PREDAWN_FMA

#endif
