// How many fresh candidates a user will be shown within the ttl.
//
// What: `Activity`: `expected` of a user now, from `features`; `learn` when the ttl is over.
// When not: which candidates.
// Functions: one thread; instants ascend.
// Design: a log-linear model of a count, around a first guess: requests of the session that may be
//   running and those of the sessions to come, at the user's own rate, times what a request of his
//   has fresh. Features: his rates of sessions and requests, the mean logarithm of his gaps between
//   sessions, requests lately, time since the last one, hour of the day (two harmonics). Few
//   weights, learnt by a recursive Newton step on the quasi-likelihood of an overdispersed count
//   (below): no learning rate, and as little noise as the examples allow.
// Memory: kFeatures^2 numbers. Cost: about 60 ns, an example 300 ns.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>

#include "predictor_users.hpp"

namespace predawn::predictor {

inline constexpr std::size_t kFeatures = 15;

// guess: logarithm of the first guess.
struct ActivityFeatures {
  float guess = 0;
  std::array<float, kFeatures> values{};
};

class Activity {
 public:
  explicit Activity(std::int64_t ttl_ms) : ttl_ms_(static_cast<float>(ttl_ms)) {
    for (std::size_t i = 0; i < kFeatures; ++i) spread_[i][i] = kPriorVariance;
  }

  [[nodiscard]] ActivityFeatures features(const User& user, std::int64_t now_ms) const noexcept {
    const std::int64_t gap_ms = now_ms - user.last_ms;
    const float gap = static_cast<float>(gap_ms);
    const float left = left_after(gap_ms, User::kWeekMs);
    const float days = observed(now_ms - user.first_ms) / kDayMs;
    const float sessions = (user.sessions * left + kPriorSessions) / (days + 0.5f);
    const float requests = (user.weekly * left + 5) / (days + 0.5f);
    const float pauses = user.pauses * left;
    const float pause = (user.log_pauses * left + 2 * kMeanLogPause) / (pauses + 2);
    const float since = std::log2(1 + gap / 60e3f);
    const float angle = static_cast<float>(now_ms % 86'400'000) / kDayMs * 6.2831853f;
    const float running = kRunning * std::exp2(-gap / kSessionMs);
    const float rate = std::log(sessions);
    const float coming = sessions * kPerSession * ttl_ms_ / kDayMs;
    return {std::log(per_request(user) * (running + coming)),
            {1, rate, rate * rate * 0.25f, std::log(requests) - 2, pause - kMeanLogPause,
             std::log1p(user.lately * left_after(gap_ms, User::kLatelyMs)) - 1.5f,
             std::log1p(user.daily * left_after(gap_ms, User::kDailyMs)) - 2, std::cos(angle),
             std::sin(angle), std::cos(2 * angle), std::sin(2 * angle), gap_ms > 1000 ? 1.0f : 0.0f,
             since * 0.2f, since * since * 0.04f, since * rate * 0.1f}};
  }

  [[nodiscard]] float expected(const ActivityFeatures& features) const noexcept {
    float log = features.guess;
    for (std::size_t i = 0; i < kFeatures; ++i) log += weights_[i] * features.values[i];
    return std::exp(std::clamp(log, -8.0f, 9.0f));
  }

  // What an average request has: candidates, and fresh ones of them.
  void came(std::size_t size, std::size_t fresh) noexcept {
    size_ += (static_cast<float>(size) - size_) * kForgets;
    fresh_ += (static_cast<float>(fresh) - fresh_) * kForgets;
  }
  [[nodiscard]] float size() const noexcept { return size_; }

  // `came`: fresh candidates within the ttl. A Newton step: spread_ is the inverse of the fading
  // sum of information * x x^T, kept by the formula of Sherman and Morrison.
  void learn(const ActivityFeatures& features, float came) noexcept {
    const float said = expected(features);
    const double information = static_cast<double>(said / (1 + kDispersion * said));
    std::array<double, kFeatures> x{};
    std::copy(features.values.begin(), features.values.end(), x.begin());
    std::array<double, kFeatures> along{};
    double norm = 0;
    for (std::size_t i = 0; i < kFeatures; ++i) {
      for (std::size_t j = 0; j < kFeatures; ++j) along[i] += spread_[i][j] * x[j];
      norm += along[i] * x[i];
    }
    const double gain = 1 / (1 / information + norm);
    const double surprise = static_cast<double>(std::min((came - said) / said, kMostSurprise));
    for (std::size_t i = 0; i < kFeatures; ++i) {
      weights_[i] += static_cast<float>(along[i] * gain * surprise);
      for (std::size_t j = 0; j < kFeatures; ++j) spread_[i][j] -= along[i] * along[j] * gain;
    }
    forget();
    said_ = said_ * kKept + said;
    came_ = came_ * kKept + came;
  }

  // What was said and what came, fading sums.
  [[nodiscard]] float said() const noexcept { return said_; }
  [[nodiscard]] float came_sum() const noexcept { return came_; }

 private:
  static constexpr float kDayMs = 86'400e3f;
  static constexpr float kSessionMs = 300e3f;  // so long without a request halves the hope
  static constexpr float kRunning = 3;         // requests that follow in a session
  static constexpr float kPerSession = 4;      // requests of a session
  static constexpr float kPriorSessions = 1;   // in half a day
  static constexpr float kMeanLogPause = 9;    // of seconds: 2 h
  static constexpr float kForgets = 1.0f / 1024;
  static constexpr float kDispersion = 0.7f;
  static constexpr float kMostSurprise = 8;
  static constexpr float kKept = 1.0f - 1.0f / 4096;
  static constexpr double kPriorVariance = 0.1;
  static constexpr double kRemembers = 1.0 - 1.0 / 32768;
  static constexpr float kPriorCalls = 40;

  // So long a time a weekly count of a user speaks of, who was seen first so long ago.
  [[nodiscard]] static float observed(std::int64_t elapsed_ms) noexcept {
    return (1 - left_after(elapsed_ms, User::kWeekMs)) * User::kWeekMs * 1.442695f;
  }

  // Fresh candidates of a request: the user's own, drawn to everybody's.
  [[nodiscard]] float per_request(const User& user) const noexcept {
    const float own = (user.fresh + kPriorCalls * fresh_) / (user.calls + kPriorCalls);
    return std::max(own, 0.01f);
  }

  // Old examples count less, but no direction becomes less certain than at the beginning.
  void forget() noexcept {
    double most = 0;
    for (std::size_t i = 0; i < kFeatures; ++i) most = std::max(most, spread_[i][i]);
    if (most > kPriorVariance * kRemembers) return;
    for (auto& row : spread_) {
      for (double& each : row) each /= kRemembers;
    }
  }

  float ttl_ms_;
  float size_ = 10;
  float fresh_ = 6;
  std::array<float, kFeatures> weights_{};
  std::array<std::array<double, kFeatures>, kFeatures> spread_{};
  float said_ = 0;
  float came_ = 0;
};

}  // namespace predawn::predictor
