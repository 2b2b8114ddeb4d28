// Accesses to a cache as seeded, synthetic traffic makes them.
//
// What: `TrafficShape` (what kind), `traffic` (the accesses), `Random`.
// When not: real traces.
// Design: keys are ranks of a Zipf distribution, shifted as time goes (`drift` places per access
//   onwards: a key's popularity grows place by place until, past the first rank, it is gone; a
//   negative drift: new keys are the most popular ones and decay). Scanned keys come once.
//   Speculative fills name a key that will be asked for within the lead, with probability
//   `precision`, or one that never will be.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

namespace predawn::simulation {

struct TrafficShape {
  std::uint32_t keys = 500'000;
  std::uint64_t accesses = 4'000'000;
  std::uint64_t seed = 1;
  double alpha = 0.9;       // of the Zipf distribution
  double drift = 0;         // ranks per access
  double scanned = 0;       // share of accesses to keys that come once
  double repeated = 0;      // share of accesses that repeat one of the last 5,000
  double phase = 0;         // accesses after which the other phase begins; 0: one phase only
  double other_alpha = -1;  // of every second phase; negative: as the first
  double other_drift = 0;   // of every second phase
  double fills = 0;         // speculative fills per access
  double precision = 0;     // share of them that is asked for
  double lead_min = 100;    // accesses between such a fill and its use
  double lead_max = 1'000;
};

struct Access {
  std::uint32_t key;
  bool speculative;  // a fill; else a request's read, followed by a fill if the key is absent
};

// Splitmix64.
class Random {
 public:
  explicit Random(std::uint64_t seed) noexcept : state_(seed) {}

  [[nodiscard]] static std::uint64_t mixed(std::uint64_t word) noexcept {
    word = (word ^ (word >> 30)) * 0xbf58476d1ce4e5b9u;
    word = (word ^ (word >> 27)) * 0x94d049bb133111ebu;
    return word ^ (word >> 31);
  }
  [[nodiscard]] std::uint64_t next() noexcept { return mixed(state_ += 0x9e3779b97f4a7c15u); }
  [[nodiscard]] std::uint64_t below(std::uint64_t end) noexcept {
    return static_cast<std::uint64_t>(unit() * static_cast<double>(end));
  }
  [[nodiscard]] double unit() noexcept { return static_cast<double>(next() >> 11) * 0x1p-53; }

 private:
  std::uint64_t state_;
};

// Ranks 0, 1, ... with probabilities as (rank + 1)^-alpha, drawn by Walker's alias method.
class Zipf {
 public:
  Zipf(std::uint32_t ranks, double alpha) : share_(ranks, 1.0), alias_(ranks, 0) {
    std::vector<double> weight(ranks);
    double total = 0;
    for (std::uint32_t rank = 0; rank < ranks; ++rank) {
      total += weight[rank] = std::pow(rank + 1.0, -alpha);
    }
    std::vector<std::uint32_t> small;
    std::vector<std::uint32_t> large;
    for (std::uint32_t rank = 0; rank < ranks; ++rank) {
      weight[rank] *= ranks / total;
      (weight[rank] < 1 ? small : large).push_back(rank);
    }
    while (!small.empty() && !large.empty()) {
      const std::uint32_t low = small.back();
      const std::uint32_t high = large.back();
      small.pop_back();
      share_[low] = weight[low];
      alias_[low] = high;
      weight[high] -= 1 - weight[low];
      if (weight[high] >= 1) continue;
      large.pop_back();
      small.push_back(high);
    }
  }

  [[nodiscard]] std::uint32_t draw(Random& random) const {
    const std::uint64_t at = random.below(share_.size());
    return random.unit() < share_[at] ? static_cast<std::uint32_t>(at) : alias_[at];
  }

 private:
  std::vector<double> share_;
  std::vector<std::uint32_t> alias_;
};

// The keys that requests ask for; scanned ones count on from `shape.keys`.
[[nodiscard]] inline std::vector<std::uint32_t> demands(const TrafficShape& shape, Random& random) {
  constexpr std::uint64_t kRecent = 5'000;
  const Zipf first(shape.keys, shape.alpha);
  const Zipf second(shape.keys, shape.other_alpha < 0 ? shape.alpha : shape.other_alpha);
  std::vector<std::uint32_t> keys(shape.accesses);
  std::uint32_t scanned = shape.keys;
  double shift = 0;
  for (std::uint64_t t = 0; t < shape.accesses; ++t) {
    const auto number = shape.phase > 0 ? static_cast<double>(t) / shape.phase : 0.0;
    const bool is_other = (static_cast<std::uint64_t>(number) & 1u) != 0;
    shift = std::fmod(shift + (is_other ? shape.other_drift : shape.drift) + shape.keys,
                      static_cast<double>(shape.keys));
    if (shape.scanned > 0 && random.unit() < shape.scanned) {
      keys[t] = scanned++;
    } else if (shape.repeated > 0 && t > kRecent && random.unit() < shape.repeated) {
      keys[t] = keys[t - 1 - random.below(kRecent)];
    } else {
      const std::uint32_t rank = (is_other ? second : first).draw(random);
      keys[t] = (rank + static_cast<std::uint32_t>(shift)) % shape.keys;
    }
  }
  return keys;
}

[[nodiscard]] inline std::vector<Access> traffic(const TrafficShape& shape) {
  Random random(shape.seed);
  const std::vector<std::uint32_t> keys = demands(shape, random);
  const auto lead_min = static_cast<std::uint64_t>(shape.lead_min);
  const auto leads = static_cast<std::uint64_t>(shape.lead_max) - lead_min + 1;
  auto unwanted = static_cast<std::uint32_t>(shape.keys + shape.accesses);
  std::vector<Access> accesses;
  accesses.reserve(static_cast<std::size_t>(static_cast<double>(keys.size()) * (1 + shape.fills)) +
                   1);
  double owed = 0;
  for (std::uint64_t t = 0; t < keys.size(); ++t) {
    accesses.push_back({keys[t], false});
    for (owed += shape.fills; owed >= 1; owed -= 1) {
      const bool is_right = random.unit() < shape.precision;
      const std::uint64_t use = t + lead_min + random.below(leads);
      if (!is_right) accesses.push_back({unwanted++, true});
      if (is_right && use < keys.size()) accesses.push_back({keys[use], true});
    }
  }
  return accesses;
}

}  // namespace predawn::simulation
