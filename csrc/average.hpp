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
// Memory: none but `Rounding`'s, a stored part. Cost: docs/benchmarks.md, `models`; no atomics.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
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
      : format_(dtype, static_cast<std::uint32_t>(dim), 1),
        stored_(format_.padded_bytes() / 8 + 1),
        again_(dtype == Dtype::kInt8 ? dim : 0) {}

  // Rounds `parts` parts in place.
  void apply(float* values, std::size_t parts) noexcept {
    if (format_.dtype() == Dtype::kFp32) return;
    for (std::size_t part = 0; part < parts; ++part, values += format_.dim()) one(values);
  }

 private:
  static constexpr float kHalfMost = 65504.0f;
  static constexpr float kBf16Most = 3.3895314e38f;

  void one(float* values) noexcept {
    if (format_.dtype() != Dtype::kInt8) {
      const float most = format_.dtype() == Dtype::kFp16 ? kHalfMost : kBf16Most;
      for (std::size_t i = 0; i < format_.dim(); ++i) {
        const float value = values[i];  // a NaN is not above nor below anything, and stays
        values[i] = value > most ? most : (value < -most ? -most : value);
      }
      through_the_store(values, values);
      return;
    }
    through_the_store(values, values);
    for (;;) {
      through_the_store(values, again_.data());
      if (std::memcmp(values, again_.data(), format_.dim() * sizeof(float)) == 0) return;
      std::copy(again_.begin(), again_.end(), values);
    }
  }

  void through_the_store(const float* from, float* to) noexcept {
    float scales[kScales];
    auto* bytes = reinterpret_cast<std::byte*>(stored_.data());
    format_.store(from, bytes, scales);
    format_.load(bytes, scales, to, 1);
  }

  RowFormat format_;
  std::vector<std::uint64_t> stored_;
  std::vector<float> again_;
};

}  // namespace predawn
