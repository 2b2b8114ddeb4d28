// Factors of an intensity, learnt one example at a time.
//
// What: `Factors`: a logarithm for each bucket; `bucket_of` and `Blend`: where a number falls.
// When not: anything that needs more than a product of a few factors.
// Functions: `log` and `learn` of a bucket. One thread.
// Design: AdaGrad (Duchi, Hazan, Singer 2011) with a slowly fading sum of squares, so that a factor
//   keeps following what changes. Logarithms stay within +-kMost.
// Memory: 8 bytes a bucket. Cost: about 5 ns a step.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

namespace predawn::predictor {

class Factors {
 public:
  static constexpr float kMost = 8.0f;

  explicit Factors(std::size_t buckets, float rate = 0.2f)
      : rate_(rate), logs_(buckets, 0.0f), squares_(buckets, 1.0f) {}

  [[nodiscard]] std::size_t size() const noexcept { return logs_.size(); }
  [[nodiscard]] float log(std::size_t bucket) const noexcept { return logs_[bucket]; }
  void begin(std::size_t bucket, float log) noexcept { logs_[bucket] = log; }

  // slope: of the loss by this logarithm.
  void learn(std::size_t bucket, float slope) noexcept {
    float& squares = squares_[bucket];
    squares = squares * kFading + slope * slope;
    const float step = rate_ * slope / std::sqrt(squares);
    logs_[bucket] = std::clamp(logs_[bucket] - step, -kMost, kMost);
  }

 private:
  static constexpr float kFading = 1.0f - 1.0f / 8192;
  float rate_;
  std::vector<float> logs_;
  std::vector<float> squares_;
};

// Two neighbouring buckets and the share of the second.
struct Blend {
  std::uint8_t first;
  float share;
};

// `value` on a scale of `buckets` whole steps from 0 on, between the two nearest.
[[nodiscard]] inline Blend blend_of(float value, std::size_t buckets) noexcept {
  const float within = std::clamp(value, 0.0f, static_cast<float>(buckets - 1) - 1e-3f);
  const auto first = static_cast<std::uint8_t>(within);
  return {first, within - static_cast<float>(first)};
}

}  // namespace predawn::predictor
