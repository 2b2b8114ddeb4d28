// Whether chances are what they say, and what makes them so.
//
// What: `Calibration`: chance -> chance, from how such chances have come out lately; `Reliability`:
//   what was said beside what came, by tenths, for reports.
// When not: ordering: neighbouring chances keep their order but for noise.
// Functions: `of` and `learn`; one thread. Examples are weighted by 1 / how likely they were taken.
// Design: bins of half an octave of the chance; each holds fading sums of chances and outcomes and
//   starts as if some had come out as said. Between the centres of two bins their correction is
//   interpolated. Reports are prequential: of chances said before the outcome was known, over the
//   last one to two days.
// Memory: under 2 KiB. Cost: about 3 ns.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>

namespace predawn::predictor {

class Calibration {
 public:
  static constexpr std::size_t kBins = 24;
  static constexpr float kMost = 0.995f;

  [[nodiscard]] float of(float chance) const noexcept {
    const float place = place_of(chance);
    const auto bin = static_cast<std::size_t>(place);
    const float share = place - static_cast<float>(bin);
    const float factor = factor_of(bin) * (1 - share) + factor_of(bin + 1) * share;
    return std::clamp(chance * factor, 0.0f, kMost);
  }

  void learn(float chance, bool came) noexcept {
    Bin& bin = bins_[static_cast<std::size_t>(place_of(chance) + 0.5f)];
    bin.said = bin.said * kFading + chance;
    bin.came = bin.came * kFading + (came ? 1.0f : 0.0f);
  }

 private:
  struct Bin {
    float said = 0;
    float came = 0;
  };
  static constexpr float kFading = 1.0f - 1.0f / 4096;
  static constexpr float kBegin = 4.0f;  // outcomes as said that a bin begins with

  // About the logarithm: straight between powers of two, which is the exponent and the mantissa as
  // they are.
  [[nodiscard]] static float place_of(float chance) noexcept {
    const auto bits = std::bit_cast<std::uint32_t>(std::max(chance, 1e-6f));
    const float octaves = static_cast<float>(bits) * 0x1p-23f - 127.0f;
    const float place = static_cast<float>(kBins - 1) + 2.0f * octaves;
    return std::clamp(place, 0.0f, static_cast<float>(kBins - 1) - 1e-3f);
  }

  [[nodiscard]] float factor_of(std::size_t bin) const noexcept {
    return (bins_[bin].came + kBegin) / (bins_[bin].said + kBegin);
  }

  std::array<Bin, kBins> bins_{};
};

class Reliability {
 public:
  static constexpr std::size_t kBins = 20;
  static constexpr std::array<float, 8> kThresholds{0.02f, 0.05f, 0.1f, 0.2f,
                                                    0.3f,  0.5f,  0.7f, 0.9f};
  // Weighted sums over examples.
  struct Sums {
    double weight = 0;
    double said = 0;
    double came = 0;
    double squared_error = 0;
    void add(const Sums& other) noexcept {
      weight += other.weight;
      said += other.said;
      came += other.came;
      squared_error += other.squared_error;
    }
  };
  // by_chance: bins of 1 / kBins; above: at or above each threshold.
  struct Table {
    std::array<Sums, kBins> by_chance{};
    std::array<Sums, kThresholds.size()> above{};
    std::uint64_t examples = 0;
  };

  void add(float chance, bool came, float weight, std::int64_t now_ms) noexcept {
    turn(now_ms);
    const double error = static_cast<double>(chance) - (came ? 1 : 0);
    const double w = static_cast<double>(weight);
    const Sums one{w, w * static_cast<double>(chance), came ? w : 0.0, w * error * error};
    const auto bin = static_cast<std::size_t>(chance * static_cast<float>(kBins));
    today_.by_chance[std::min(bin, kBins - 1)].add(one);
    for (std::size_t i = 0; i < kThresholds.size(); ++i) {
      if (chance >= kThresholds[i]) today_.above[i].add(one);
    }
    ++today_.examples;
  }

  // Of the day before and the day that is running.
  [[nodiscard]] Table recent() const noexcept {
    Table both = before_;
    for (std::size_t i = 0; i < kBins; ++i) both.by_chance[i].add(today_.by_chance[i]);
    for (std::size_t i = 0; i < kThresholds.size(); ++i) both.above[i].add(today_.above[i]);
    both.examples += today_.examples;
    return both;
  }

 private:
  static constexpr std::int64_t kDayMs = 86'400'000;

  void turn(std::int64_t now_ms) noexcept {
    if (now_ms - began_ms_ < kDayMs) return;
    before_ = now_ms - began_ms_ < 2 * kDayMs ? today_ : Table{};
    today_ = {};
    began_ms_ = now_ms;
  }

  Table before_;
  Table today_;
  std::int64_t began_ms_ = 0;
};

}  // namespace predawn::predictor
