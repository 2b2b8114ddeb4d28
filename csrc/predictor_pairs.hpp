// The chance of a pair from its features: the model of the pair predictor.
//
// What: `PairModel`: `intensity` of what a pair's chance is made of, `chance` as it is said,
// `learn`. When not: anything about users or items: features are made in predictor.hpp. Functions:
// one thread. Design: a pair is asked for when an event of any of several kinds comes first: a
// fresh draw of a
//   popular item, a copy out of the k-th list back. Their expected counts add up to an intensity L,
//   P = 1 - exp(-L): a complementary log-log model with sums of products of learnt factors inside.
//   Copies: a list of n items that is k lists old is copied about c[k, its age, time since the last
//   request] / n times an item; a factor by rank, by times shown, by the user's own share of
//   repeats. The log-likelihood's slope by L is exp(-L) / (1 - exp(-L)) for a pair that came, -1
//   for one that did not; by a factor's logarithm, that times the part of L that has the factor.
//   What the sum gets wrong the calibration (by chance and origin) sets right afterwards.
// Memory: under 8 KiB. Cost: about 10 ns a pair without its exponential; an example 100 ns.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>

#include "predictor_calibration.hpp"
#include "predictor_examples.hpp"
#include "predictor_factors.hpp"
#include "predictor_items.hpp"

namespace predawn::predictor {

enum class Origin : std::uint8_t { kMissed = 0, kShown = 1, kPopular = 2, kNearest = 3 };

class PairModel {
 public:
  static constexpr std::size_t kAges = 6;
  static constexpr std::size_t kGaps = 4;
  static constexpr std::size_t kRanks = 8;
  static constexpr std::size_t kTimes = 6;
  static constexpr std::size_t kRepeaters = 8;

  PairModel()
      : copies_(16 * kAges * kGaps),
        ranks_(kRanks, 0.05f),
        times_(kTimes, 0.05f),
        repeaters_(kRepeaters, 0.05f),
        sightings_(Items::kSightingBuckets, 0.05f),
        missed_(Items::kMissedBuckets, 0.05f) {
    for (std::size_t i = 0; i < copies_.size(); ++i) {
      const std::size_t list = i / (kAges * kGaps);
      const float begin = list == 0 ? 0.3f : list < 3 ? 0.1f : 0.04f;
      copies_.begin(i, std::log(begin * kByAge[i / kGaps % kAges] * kByGap[i % kGaps]));
    }
  }

  [[nodiscard]] const Factors& sightings() const noexcept { return sightings_; }
  [[nodiscard]] const Factors& missed() const noexcept { return missed_; }

  [[nodiscard]] static std::uint16_t copy_bucket(std::size_t list, std::int64_t age_ms,
                                                 std::int64_t gap_ms) noexcept {
    std::size_t age = 0;
    while (age + 1 < kAges && age_ms > kAgesMs[age]) ++age;
    std::size_t gap = 0;
    while (gap + 1 < kGaps && gap_ms > kGapsMs[gap]) ++gap;
    return static_cast<std::uint16_t>((list * kAges + age) * kGaps + gap);
  }

  // Expected copies an item, of a list's bucket.
  [[nodiscard]] float copied(std::uint16_t bucket) const noexcept {
    return std::exp(copies_.log(bucket));
  }

  // What the copies of a pair are multiplied by.
  [[nodiscard]] float copy_factor(const PairFeatures& pair) const noexcept {
    return std::exp(ranks_.log(pair.rank) + times_.log(pair.times) + repeaters_.log(pair.repeater));
  }

  // What the draws are multiplied by; the list of popular items has it in its rates.
  [[nodiscard]] float draw_factor(const PairFeatures& pair) const noexcept {
    return std::exp(sightings_.log(pair.sightings) + missed_.log(pair.missed));
  }

  // 1 - exp(-intensity); by its series where that is as good.
  [[nodiscard]] static float raw(float intensity) noexcept {
    const float x = intensity;
    if (x > 0.25f) return 1 - std::exp(-x);
    return x * (1 - x / 2 * (1 - x / 3 * (1 - x / 4 * (1 - x / 5))));
  }

  [[nodiscard]] float chance(float raw, Origin origin) const noexcept {
    return calibrations_[origin == Origin::kPopular ? 1 : 0].of(raw);
  }

  void learn(const PairExample& example) noexcept {
    const PairFeatures& pair = example.features;
    const float drawn = pair.draws * draw_factor(pair);
    const float factor = copy_factor(pair);
    std::array<float, PairFeatures::kCopies> copied_from{};
    float copies = 0;
    for (std::size_t i = 0; i < pair.copies; ++i) {
      copied_from[i] = pair.copy[i].count * copied(pair.copy[i].bucket) * factor;
      copies += copied_from[i];
    }
    const float intensity = std::clamp(drawn + copies, 1e-6f, 20.0f);
    const float slope = example.came ? -std::exp(-intensity) / -std::expm1(-intensity) : 1.0f;
    for (std::size_t i = 0; i < pair.copies; ++i) {
      copies_.learn(pair.copy[i].bucket, slope * copied_from[i]);
    }
    if (pair.copies != 0) {
      ranks_.learn(pair.rank, slope * copies);
      times_.learn(pair.times, slope * copies);
      repeaters_.learn(pair.repeater, slope * copies);
    }
    if (pair.draws > 0) {
      sightings_.learn(pair.sightings, slope * drawn);
      missed_.learn(pair.missed, slope * drawn);
    }
    calibrations_[example.origin == static_cast<std::uint8_t>(Origin::kPopular) ? 1 : 0].learn(
        example.raw, example.came);
  }

 private:
  static constexpr std::array<std::int64_t, kAges> kAgesMs{120'000,   600'000,    1'800'000,
                                                           7'200'000, 21'600'000, 0};
  static constexpr std::array<std::int64_t, kGaps> kGapsMs{5'000, 600'000, 7'200'000, 0};
  static constexpr std::array<float, kAges> kByAge{1, 1, 0.8f, 0.5f, 0.1f, 0.05f};
  static constexpr std::array<float, kGaps> kByGap{1, 0.8f, 0.3f, 0.1f};

  Factors copies_;
  Factors ranks_;
  Factors times_;
  Factors repeaters_;
  Factors sightings_;
  Factors missed_;
  std::array<Calibration, 2> calibrations_;
};

}  // namespace predawn::predictor
