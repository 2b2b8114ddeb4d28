// Counts of unsigned numbers in log-linear buckets: any quantile within 1/32 of its value.
//
// What: `Histogram`: record from any thread; quantiles, cumulative counts, sum.
// When not: exact values, or windows in time (take differences of counts outside).
// Functions: `record` is wait-free; readers see every record that happened before, and perhaps some
//   that are under way.
// Design: numbers below 32 have a bucket each; above, every power of two is cut into 32
// (HdrHistogram
//   with 5 bits). A quantile is the middle of its bucket, so it is off by at most 1/64.
// Memory: 1,920 buckets, 15 KiB. Cost: two relaxed additions a record.
#pragma once

#include <array>
#include <atomic>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>

namespace predawn {

class Histogram {
 public:
  static constexpr unsigned kBits = 5;
  static constexpr std::uint64_t kCut = std::uint64_t{1} << kBits;
  static constexpr std::size_t kBuckets = (64 - kBits + 1) * kCut;
  using Counts = std::array<std::uint64_t, kBuckets>;

  [[nodiscard]] static constexpr std::size_t bucket_of(std::uint64_t value) noexcept {
    if (value < kCut) return value;
    const unsigned shift = static_cast<unsigned>(std::bit_width(value)) - kBits - 1;
    return (std::size_t{shift} + 1) * kCut + ((value >> shift) & (kCut - 1));
  }
  [[nodiscard]] static constexpr std::uint64_t lowest_of(std::size_t bucket) noexcept {
    if (bucket < kCut) return bucket;
    return (kCut + bucket % kCut) << (bucket / kCut - 1);
  }
  [[nodiscard]] static constexpr std::uint64_t width_of(std::size_t bucket) noexcept {
    return bucket < kCut ? 1 : std::uint64_t{1} << (bucket / kCut - 1);
  }

  void record(std::uint64_t value) noexcept {
    buckets_[bucket_of(value)].fetch_add(1, std::memory_order_relaxed);
    sum_.fetch_add(value, std::memory_order_relaxed);
  }

  void merge(const Histogram& other) noexcept {
    const Counts added = other.counts();
    const std::uint64_t sum = other.sum();
    for (std::size_t i = 0; i < kBuckets; ++i) {
      if (added[i] != 0) buckets_[i].fetch_add(added[i], std::memory_order_relaxed);
    }
    sum_.fetch_add(sum, std::memory_order_relaxed);
  }

  void clear() noexcept {
    for (auto& bucket : buckets_) bucket.store(0, std::memory_order_relaxed);
    sum_.store(0, std::memory_order_relaxed);
  }

  [[nodiscard]] Counts counts() const noexcept {
    Counts copy;
    for (std::size_t i = 0; i < kBuckets; ++i) {
      copy[i] = buckets_[i].load(std::memory_order_relaxed);
    }
    return copy;
  }

  [[nodiscard]] std::uint64_t count() const noexcept { return total(counts()); }
  [[nodiscard]] std::uint64_t sum() const noexcept { return sum_.load(std::memory_order_relaxed); }

  // The value of rank ceil(q * count), 1 at least, in ascending order; NaN when empty.
  [[nodiscard]] double quantile(double q) const noexcept {
    const Counts held = counts();
    const std::uint64_t all = total(held);
    if (all == 0) return std::numeric_limits<double>::quiet_NaN();
    const double wanted = std::ceil(q * static_cast<double>(all));
    std::size_t bucket = 0;
    for (std::uint64_t below = held[0]; bucket + 1 < kBuckets; below += held[++bucket]) {
      if (held[bucket] != 0 && static_cast<double>(below) >= wanted) break;
    }
    return static_cast<double>(lowest_of(bucket)) + (static_cast<double>(width_of(bucket)) - 1) / 2;
  }

  // Of one copy of the counts: how many lie in buckets that end at or below `bound`. Never more
  // than were recorded at or below it; short by the bound's own bucket at most.
  [[nodiscard]] static std::uint64_t at_or_below(const Counts& held, std::int64_t bound) noexcept {
    if (bound < 0) return 0;
    const auto limit = static_cast<std::uint64_t>(bound);
    const std::size_t last = bucket_of(limit);
    std::uint64_t sum = 0;
    for (std::size_t i = 0; i < last; ++i) sum += held[i];
    return lowest_of(last) + (width_of(last) - 1) <= limit ? sum + held[last] : sum;
  }

 private:
  static std::uint64_t total(const Counts& held) noexcept {
    std::uint64_t sum = 0;
    for (const std::uint64_t count : held) sum += count;
    return sum;
  }

  std::array<std::atomic<std::uint64_t>, kBuckets> buckets_{};
  std::atomic<std::uint64_t> sum_{0};
};

}  // namespace predawn
