// Averaging over versions of an embedding (SUM) and rounding it to the stored format.
//
// What: `mean_of_parts`, `exponential_mean`, one row each; `Rounding`: a part as the store will
//   give it back, and as it will give that back.
// When not: the store's own conversions (rows.hpp), which this goes through.
// Functions: a part is wholly there or wholly NaN, and absent then; its first value says which.
//   `mean_of_parts` makes [served | raw | previous parts but the oldest]: served is the mean of the
//   raw part and the previous ones that are there, added from the newest on, then divided.
//   `exponential_mean` is before + weight * (raw - before), the raw part where none was before.
// Design: finite values beyond the format's range become its largest, as an infinity would be no
//   embedding. int8 is rounded until it stays: a scale that is rounded again may move by one bit.
//   Sums and products are not fused (setup.py), so that numpy gets the same bits.
// Memory: none but `Rounding`'s, a part as bytes. Cost: docs/benchmarks.md, `models`; no atomics.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "rows.hpp"

namespace predawn {

// raw [dim], previous [kept * dim], out [(kept + 1) * dim].
inline void mean_of_parts(const float* raw, const float* previous, std::size_t dim,
                          std::size_t kept, float* out) noexcept {
  std::copy_n(raw, dim, out);
  if (kept == 0) return;
  float there = 1;
  for (std::size_t part = 0; part < kept; ++part) {
    const float* values = previous + part * dim;
    if (std::isnan(values[0])) continue;
    for (std::size_t i = 0; i < dim; ++i) out[i] += values[i];
    ++there;
  }
  for (std::size_t i = 0; i < dim; ++i) out[i] /= there;
  std::copy_n(raw, dim, out + dim);
  std::copy_n(previous, (kept - 1) * dim, out + 2 * dim);
}

// All [dim]. weight: 0 to 1, of the raw part.
inline void exponential_mean(const float* raw, const float* before, float weight, std::size_t dim,
                             float* out) noexcept {
  if (std::isnan(before[0])) {
    std::copy_n(raw, dim, out);
    return;
  }
  for (std::size_t i = 0; i < dim; ++i) {
    const float step = weight * (raw[i] - before[i]);
    out[i] = before[i] + step;
  }
}

class Rounding {
 public:
  Rounding(Dtype dtype, std::size_t dim)
      : dtype_(dtype), dim_(dim), by_(converters(best_isa())), steps_(is_int8() ? dim : 0) {}

  // Rounds `parts` parts in place.
  void apply(float* values, std::size_t parts) noexcept {
    if (is_int8()) {
      for (std::size_t part = 0; part < parts; ++part) as_bytes(values + part * dim_);
    } else if (dtype_ != Dtype::kFp32) {
      const std::size_t count = parts * dim_;
      for (std::size_t i = 0; i < count; i += kAtOnce) {
        as_words(values + i, std::min(kAtOnce, count - i));
      }
    }
  }

 private:
  static constexpr std::size_t kAtOnce = 512;
  static constexpr float kHalfMost = 65504.0f;
  static constexpr float kBf16Most = 3.3895314e38f;

  [[nodiscard]] bool is_int8() const noexcept { return dtype_ == Dtype::kInt8; }

  void as_words(float* values, std::size_t count) const noexcept {
    std::uint16_t words[kAtOnce];
    const float most = dtype_ == Dtype::kFp16 ? kHalfMost : kBf16Most;
    for (std::size_t i = 0; i < count; ++i) {
      const float value = values[i];  // a NaN is not above nor below anything, and stays
      const float cut = value > most ? most : value;
      values[i] = cut < -most ? -most : cut;
    }
    if (dtype_ == Dtype::kFp16) {
      by_.to_half(values, words, count);
      by_.from_half(words, values, count);
    } else {
      by_.to_bf16(values, words, count);
      by_.from_bf16(words, values, count);
    }
  }

  // Ends when the scale does not move any more: the steps are the same then, too.
  void as_bytes(float* values) noexcept {
    float before = std::numeric_limits<float>::infinity();
    for (;;) {
      const float scale = part_to_int8(by_, values, steps_.data(), dim_);
      by_.from_int8(steps_.data(), scale, values, dim_);
      if (scale == before || !(scale > 0)) return;
      before = scale;
    }
  }

  Dtype dtype_;
  std::size_t dim_;
  Converters by_;
  std::vector<std::int8_t> steps_;
};

}  // namespace predawn
