// A linear regression that learns one example at a time, and its forgetting.
//
// What: `Regression`, a look at W [features, dim] and P [features, features] in somebody's memory;
//   `begin`, `fade`, `learn`; `learns`, the best `learn` of this machine.
// When not: which items have one (item_aggregates.hpp); W p of many (bag_pool.hpp).
// Functions: recursive least squares with a ridge: a Kalman filter of W. Of N(0, 1 / noise) for
//   every number of W before anything is seen, and noise of variance 1 around W p:
//     k = P p / (1 + p.P p),   W += k (e - W p)^T,   P -= k (P p)^T
//   so that W = (sum p p^T + noise I)^-1 sum p e^T: exact, not in the limit. `fade` makes all that
//   was seen count `kept` of what it did and leaves W: P_fg *= d_f d_g with d_f^2 =
//   min(1 / kept, (1 / noise) / P_ff), so that no P_ff passes the prior, and what is not on the
//   diagonal loses (1 - kept) / 64 more, so that in the end P is the prior in all directions.
// Design: P is kept exactly symmetric: that it is not is what makes such filters diverge. Floats
//   carry a noise of 1e-3 and more: below, P loses what is small beside 1 / noise. The AVX2 version
//   is the same text compiled anew.
// Memory: `scratch`, the caller's. Cost: 4 * features * (dim + features) FLOP; no atomics.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>

#include "dense.hpp"

namespace predawn {

struct Regression {
  float* weights;
  float* uncertainty;
  std::size_t features;
  std::size_t dim;
  float noise;
};

namespace regression {

inline constexpr float kLeast = 1e-30f;
inline constexpr float kApart = 1.0f / 64;

inline std::size_t scratch_floats(std::size_t features, std::size_t dim) noexcept {
  return features + dim;
}

inline void begin(const Regression& of) noexcept {
  std::fill_n(of.weights, of.features * of.dim, 0.0f);
  std::fill_n(of.uncertainty, of.features * of.features, 0.0f);
  for (std::size_t i = 0; i < of.features; ++i) {
    of.uncertainty[i * of.features + i] = 1.0f / of.noise;
  }
}

// kept: 0 to 1.
inline void fade(const Regression& of, float kept, float* scratch) noexcept {
  const float wider = 1.0f / std::max(kept, kLeast);
  const float apart = 1.0f - (1.0f - kept) * kApart;
  for (std::size_t i = 0; i < of.features; ++i) {
    const float own = std::max(of.uncertainty[i * of.features + i], kLeast);
    scratch[i] = std::sqrt(std::min(wider, 1.0f / (of.noise * own)));
  }
  for (std::size_t i = 0; i < of.features; ++i) {
    float* row = of.uncertainty + i * of.features;
    const float own = row[i] * scratch[i] * scratch[i];
    for (std::size_t j = 0; j < of.features; ++j) row[j] *= apart * (scratch[i] * scratch[j]);
    row[i] = own;
  }
}

// p [features], e [dim].
inline void learn_portable(const Regression& of, const float* p, const float* e,
                           float* scratch) noexcept {
  float* const product = scratch;  // P p, later times the root of 1 / (1 + p.P p)
  float* const error = scratch + of.features;
  std::fill_n(product, of.features, 0.0f);
  for (std::size_t i = 0; i < of.features; ++i) {
    const float* row = of.uncertainty + i * of.features;
    for (std::size_t j = 0; j < of.features; ++j) product[j] += p[i] * row[j];
  }
  float spread = 0;
  for (std::size_t i = 0; i < of.features; ++i) spread += p[i] * product[i];
  const float root = std::sqrt(1.0f / (1.0f + std::max(spread, 0.0f)));
  for (std::size_t i = 0; i < of.features; ++i) product[i] *= root;
  std::copy_n(e, of.dim, error);
  for (std::size_t i = 0; i < of.features; ++i) {
    const float* row = of.weights + i * of.dim;
    for (std::size_t j = 0; j < of.dim; ++j) error[j] -= p[i] * row[j];
  }
  for (std::size_t i = 0; i < of.features; ++i) {
    float* row = of.weights + i * of.dim;
    const float gain = product[i] * root;
    for (std::size_t j = 0; j < of.dim; ++j) row[j] += gain * error[j];
    float* square = of.uncertainty + i * of.features;
    for (std::size_t j = 0; j < of.features; ++j) square[j] -= product[i] * product[j];
    square[i] = std::max(square[i], 0.0f);
  }
}

#if defined(__x86_64__)
[[gnu::target("avx2,fma"), gnu::flatten]] inline void learn_avx2(const Regression& of,
                                                                 const float* p, const float* e,
                                                                 float* scratch) noexcept {
  learn_portable(of, p, e, scratch);
}
#endif

using Learn = void (*)(const Regression& of, const float* p, const float* e,
                       float* scratch) noexcept;

[[nodiscard]] inline Learn learns() noexcept {
#if defined(__x86_64__)
  if (is_supported(Isa::kAvx2) && has_fma()) return learn_avx2;
#endif
  return learn_portable;
}

}  // namespace regression
}  // namespace predawn
