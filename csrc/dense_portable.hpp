// A small dense layer's arithmetic, in plain C++: what the vector versions of it compute.
//
// What: `Product`, rows times packed weights, added to what is there; `multiply`, `sum`, `dot`;
//   `Arithmetic`, the same as functions chosen at run time (dense.hpp).
// When not: packing (dense.hpp), gathering (first_layer.hpp), products worth more than one thread.
// Functions: pure, no alignment asked for. The order in which one number is added up is fixed by
//   the number of terms alone: a row gives the same bits whatever rows lie beside it. Between sets
//   of instructions the bits may differ: AVX-512 and AVX2 fuse product and sum, this does not.
// Design: weights lie in panels of 16 columns, each [depth, 16]: a vector of AVX-512, two of AVX2.
//   A NaN goes through everything, the rectifier included.
// Memory: none. Cost: about 1 ns a 4 products; no atomics.
#pragma once

#include <algorithm>
#include <cstddef>

namespace predawn {

inline constexpr std::size_t kPanel = 16;

// out[rows, columns] += x[rows, depth] * weights[depth, columns], then the rectifier if asked for.
struct Product {
  const float* x;
  std::size_t x_stride;
  const float* panels;       // the first of them, from the first of `depth` on
  std::size_t panel_stride;  // floats from one panel to the next
  std::size_t depth;
  float* out;
  std::size_t out_stride;
  std::size_t rows;
  std::size_t columns;
  bool is_rectified;
};

// out[j] = parts[0][j] + parts[1][j] + .. + factor * row[j], j below `length`, in this order.
struct Sum {
  const float* const* parts;
  std::size_t count;  // 1 or more
  float factor;
  const float* row;  // or null
  float* out;
  std::size_t length;
};

struct Arithmetic {
  void (*multiply)(const Product&) noexcept;
  void (*sum)(const Sum&) noexcept;
  float (*dot)(const float* a, const float* b, std::size_t length) noexcept;
};

namespace portable {

inline void multiply_panel(const Product& p, std::size_t row, std::size_t column) noexcept {
  const std::size_t width = std::min(kPanel, p.columns - column);
  const float* x = p.x + row * p.x_stride;
  const float* weights = p.panels + column / kPanel * p.panel_stride;
  float* out = p.out + row * p.out_stride + column;
  float sums[kPanel] = {};
  std::copy_n(out, width, sums);
  for (std::size_t i = 0; i < p.depth; ++i, weights += kPanel) {
    for (std::size_t j = 0; j < kPanel; ++j) sums[j] += x[i] * weights[j];
  }
  for (std::size_t j = 0; j < width; ++j) {
    out[j] = p.is_rectified && sums[j] < 0 ? 0.0f : sums[j];
  }
}

inline void multiply(const Product& p) noexcept {
  for (std::size_t column = 0; column < p.columns; column += kPanel) {
    for (std::size_t row = 0; row < p.rows; ++row) multiply_panel(p, row, column);
  }
}

inline void sum(const Sum& s) noexcept {
  for (std::size_t j = 0; j < s.length; ++j) {
    float value = s.parts[0][j];
    for (std::size_t part = 1; part < s.count; ++part) value += s.parts[part][j];
    s.out[j] = s.row == nullptr ? value : value + s.factor * s.row[j];
  }
}

inline float dot(const float* a, const float* b, std::size_t length) noexcept {
  float lanes[kPanel] = {};
  for (std::size_t i = 0; i < length; ++i) lanes[i % kPanel] += a[i] * b[i];
  for (std::size_t half = kPanel / 2; half > 0; half /= 2) {
    for (std::size_t j = 0; j < half; ++j) lanes[j] += lanes[j + half];
  }
  return lanes[0];
}

}  // namespace portable

[[nodiscard]] constexpr Arithmetic portable_arithmetic() noexcept {
  return {portable::multiply, portable::sum, portable::dot};
}

}  // namespace predawn
