// Counts that forget: halved every half-life.
//
// What: `halvings` (2^-x), `Decayed` (a count and when it was brought up to date).
// When not: exact counts.
// Functions: pure, or of one owner. Time that goes back stands still.
// Memory: 12 bytes a count. Cost: about 3 ns.
#pragma once

#include <cmath>
#include <cstdint>

namespace predawn::predictor {

// What is left of 1 after `elapsed`, where half is left after `half_life`.
[[nodiscard]] inline float left_after(std::int64_t elapsed_ms, float half_life_ms) noexcept {
  return elapsed_ms <= 0 ? 1.0f : std::exp2(-static_cast<float>(elapsed_ms) / half_life_ms);
}

class Decayed {
 public:
  [[nodiscard]] float at(std::int64_t now_ms, float half_life_ms) const noexcept {
    return count_ * left_after(now_ms - since_ms_, half_life_ms);
  }

  void add(float count, std::int64_t now_ms, float half_life_ms) noexcept {
    count_ = at(now_ms, half_life_ms) + count;
    since_ms_ = now_ms > since_ms_ ? now_ms : since_ms_;
  }

 private:
  float count_ = 0;
  std::int64_t since_ms_ = 0;
};

}  // namespace predawn::predictor
