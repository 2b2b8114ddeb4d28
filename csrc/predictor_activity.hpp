// How many fresh candidates a user will be shown within the ttl.
//
// What: `Activity`: `expected` of a user now; `note` an example, `learn` it when its ttl is over.
// When not: which candidates.
// Functions: one thread; instants ascend.
// Design: a product of factors, learnt by Poisson regression, around a first guess from the user's
//   own rate: requests of the session that may be running, and of those that come. Factors: time
//   since the last request, hour of the day, own rates at four scales. What came is told by a count
//   of the user's fresh candidates, at the example's beginning and at its end, so a label costs
//   nothing until it is due. Examples are taken of users who have just come and, as many, of any
//   user of the table: proposals are made for both.
// Memory: 4,096 examples of 64 bytes and 200 factors. Cost: about 40 ns, an example the same.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <vector>

#include "predictor_factors.hpp"
#include "predictor_users.hpp"

namespace predawn::predictor {

// first: the guess that the factors begin from.
struct ActivityFeatures {
  static constexpr std::size_t kCount = 7;
  float first;
  std::array<Blend, kCount> blends;
};

class Activity {
 public:
  static constexpr std::size_t kBuckets = 25;  // of each feature

  explicit Activity(std::int64_t ttl_ms)
      : ttl_ms_(ttl_ms), factors_(ActivityFeatures::kCount * kBuckets, 0.1f) {}

  [[nodiscard]] ActivityFeatures features(const User& user, std::int64_t now_ms) const noexcept {
    const std::int64_t gap = now_ms - user.last_ms;
    const float sessions = user.sessions * left_after(gap, User::kScalesMs[3]);
    const float seen = observed(now_ms - user.first_ms, User::kScalesMs[3]);
    const float a_week = requests_of(user, 3, gap);
    const float weekly = (a_week + 4) / (seen + kDayMs);
    const float begun = (sessions + 1) / (seen + kDayMs);
    const float ttl = static_cast<float>(ttl_ms_);
    const float running = kRunning * std::exp2(-static_cast<float>(gap) / kSessionMs);
    ActivityFeatures found{};
    found.first = std::log(per_request(user) * (running + weekly * ttl));
    found.blends = {
        blend_of(1.5f * std::log2(1 + static_cast<float>(gap) / 10e3f), kBuckets),
        blend_of(hour_of(now_ms), kBuckets),
        blend_of(4 * std::log2(1 + requests_of(user, 0, gap)), kBuckets),
        blend_of(4 * std::log2(1 + requests_of(user, 1, gap)), kBuckets),
        blend_of(3 * std::log2(1 + requests_of(user, 2, gap)), kBuckets),
        blend_of(12 + 3 * std::log2(begun * kDayMs), kBuckets),
        blend_of(12 + 3 * std::log2(weekly * kDayMs / 4), kBuckets),
    };
    return found;
  }

  [[nodiscard]] float expected(const ActivityFeatures& features) const noexcept {
    float log = features.first;
    for (std::size_t i = 0; i < features.blends.size(); ++i) {
      const Blend blend = features.blends[i];
      const std::size_t at = i * kBuckets + blend.first;
      log += factors_.log(at) * (1 - blend.share) + factors_.log(at + 1) * blend.share;
    }
    return std::exp(std::clamp(log, -8.0f, 8.0f));
  }

  // What an average request has: candidates, and fresh ones of them.
  void came(std::size_t size, std::size_t fresh) noexcept {
    size_ += (static_cast<float>(size) - size_) * kForgets;
    fresh_ += (static_cast<float>(fresh) - fresh_) * kForgets;
  }
  [[nodiscard]] float size() const noexcept { return size_; }

  // `came`: fresh candidates within the ttl.
  void learn(const ActivityFeatures& features, float came) noexcept {
    const float said = expected(features);
    const float scale = 1 / (1 + kDispersion * said);  // a negative binomial's variance
    const float slope = std::clamp((said - came) * scale, -4.0f, 4.0f);
    for (std::size_t i = 0; i < features.blends.size(); ++i) {
      const Blend blend = features.blends[i];
      const std::size_t at = i * kBuckets + blend.first;
      factors_.learn(at, slope * (1 - blend.share));
      factors_.learn(at + 1, slope * blend.share);
    }
    said_ = said_ * kKept + said;
    came_ = came_ * kKept + came;
  }

  // What was said and what came, fading sums.
  [[nodiscard]] float said() const noexcept { return said_; }
  [[nodiscard]] float came_sum() const noexcept { return came_; }

 private:
  static constexpr float kDayMs = 86'400e3f;
  static constexpr float kSessionMs = 300e3f;  // so long without a request halves the hope
  static constexpr float kRunning = 2;         // requests that follow in a session
  static constexpr float kForgets = 1.0f / 1024;
  static constexpr float kDispersion = 0.7f;
  static constexpr float kKept = 1.0f - 1.0f / 4096;

  [[nodiscard]] static float requests_of(const User& user, std::size_t scale,
                                         std::int64_t gap_ms) noexcept {
    return user.requests[scale] * left_after(gap_ms, User::kScalesMs[scale]);
  }

  // So long a time a decayed count of a user seen for `elapsed` speaks of.
  [[nodiscard]] static float observed(std::int64_t elapsed_ms, float half_life_ms) noexcept {
    return (1 - left_after(elapsed_ms, half_life_ms)) * half_life_ms * 1.442695f;
  }

  [[nodiscard]] static float hour_of(std::int64_t now_ms) noexcept {
    return static_cast<float>(now_ms % 86'400'000) / 3'600e3f;
  }

  // Fresh candidates of a request: the user's own, drawn to everybody's.
  [[nodiscard]] float per_request(const User& user) const noexcept {
    const float own = (user.fresh + kPriorCalls * fresh_) / (user.calls + kPriorCalls);
    return std::max(own, 0.01f);
  }

  static constexpr float kPriorCalls = 8;
  std::int64_t ttl_ms_;
  float size_ = 10;
  float fresh_ = 6;
  Factors factors_;
  float said_ = 0;
  float came_ = 0;
};

}  // namespace predawn::predictor
