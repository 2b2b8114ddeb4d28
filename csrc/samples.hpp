// Distributions of what happens to entries, from a sample of them.
//
// What: `Samples`: age at hit, time between two reads of a key, lifetime until eviction, all in ms.
// When not: counts of everything (counters.hpp).
// Functions: safe from any thread; `wants(place)` says whether a key belongs to the sample.
// Design: the sample are the keys of one set in `kEvery`, so a key is in it always or never. The
//   last read of a sampled key is remembered in a small table that forgets when two keys meet.
// Memory: 16 KiB and three histograms. Cost: nothing for keys outside the sample, about 20 ns for
//   those inside; relaxed atomics.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>

#include "histogram.hpp"
#include "slot.hpp"

namespace predawn {

class Samples {
 public:
  static constexpr std::uint64_t kEvery = 64;
  static constexpr std::uint64_t kChosen =
      4;  // sets that follow the policy's leaders (steering.hpp)

  [[nodiscard]] static bool wants(Place place) noexcept { return place.set % kEvery == kChosen; }

  void read(const Key& key, Place place, std::int64_t now_ms, std::int64_t age_ms) noexcept {
    if (age_ms >= 0) age_at_hit_.record(static_cast<std::uint64_t>(age_ms));
    Last& last = last_[(place.set / kEvery * 0x9e37u + place.fingerprint) % kRemembered];
    const std::uint64_t mark = (key.lo * 0x9e3779b97f4a7c15u) ^ key.hi;
    const std::int64_t before = last.read_ms.exchange(now_ms, std::memory_order_relaxed);
    if (last.mark.exchange(mark, std::memory_order_relaxed) != mark || before == 0) return;
    reuse_gap_.record(static_cast<std::uint64_t>(predawn::age_ms(before, now_ms)));
  }

  void evicted(std::int64_t lifetime_ms) noexcept {
    lifetime_.record(static_cast<std::uint64_t>(std::max<std::int64_t>(0, lifetime_ms)));
  }

  [[nodiscard]] const Histogram& age_at_hit() const noexcept { return age_at_hit_; }
  [[nodiscard]] const Histogram& reuse_gap() const noexcept { return reuse_gap_; }
  [[nodiscard]] const Histogram& lifetime() const noexcept { return lifetime_; }

 private:
  static constexpr std::size_t kRemembered = 1024;
  struct Last {
    std::atomic<std::uint64_t> mark{0};
    std::atomic<std::int64_t> read_ms{0};
  };

  Histogram age_at_hit_;
  Histogram reuse_gap_;
  Histogram lifetime_;
  std::array<Last, kRemembered> last_{};
};

}  // namespace predawn
