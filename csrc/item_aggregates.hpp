// What is known of every item's embeddings with all users: a bounded table of linear regressions.
//
// What: `ItemAggregates`: per item W [features, dim], the regression of its embeddings e on
// features
//   p of the users they belong to, and P [features, features], its uncertainty; `add` an embedding,
//   `read` W p of many items for one p. With the one feature 1 it is a mean.
// When not: a user's own pairs (the store has them); a row per pair.
// Functions: `weight` is the number of embeddings, each counted by its age: half at one half life.
//   They fade by that, W does not (item_regression.hpp). A row with a value that is not finite is
//   left out. A clock that goes back stands still.
// Design: sets of 8 ways, the one longest untouched goes first. Reads are one pass over all rows of
//   all W that are wanted (bag_pool_x86.hpp), each asked for ahead. Nothing is allocated after
//   creation but the takes of the largest read. One thread at a time.
// Memory: 4 * features * (dim + features) + 32 bytes an item. Cost: an add is about
//   4 * features * (dim + features) FLOP, a read 2 * features * dim; docs/benchmarks.md, `pairs`.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "bag_pool.hpp"
#include "item_regression.hpp"

namespace predawn {

struct AggregateSizes {
  std::size_t items;
  std::size_t features;
  std::size_t dim;
  double half_life_ms;
  float noise;
};

// What a read wants of the items.
struct AggregateQuery {
  const float* features;
  std::int64_t now_ms;
  std::int64_t max_age_ms;
  float least_weight;
};

class ItemAggregates {
 public:
  static constexpr std::size_t kWays = 8;

  // All sizes are at least 1; items is rounded up to whole sets.
  explicit ItemAggregates(const AggregateSizes& sizes)
      : sizes_(sizes),
        sets_((sizes.items + kWays - 1) / kWays),
        entries_(sets_ * kWays),
        weights_(entries_.size() * sizes.features * sizes.dim),
        uncertainty_(entries_.size() * sizes.features * sizes.features),
        scratch_(regression::scratch_floats(sizes.features, sizes.dim)),
        by_(add_ups(best_isa())),
        learn_(regression::learns()) {}

  [[nodiscard]] const AggregateSizes& sizes() const noexcept { return sizes_; }
  [[nodiscard]] std::size_t capacity() const noexcept { return entries_.size(); }
  [[nodiscard]] std::size_t used() const noexcept { return used_; }
  [[nodiscard]] std::uint64_t evictions() const noexcept { return evictions_; }
  [[nodiscard]] std::size_t bytes() const noexcept {
    return (weights_.size() + uncertainty_.size()) * sizeof(float) +
           entries_.size() * sizeof(Entry);
  }

  // features [n, features], rows [n, dim].
  void add(std::span<const std::uint64_t> items, const float* features, const float* rows,
           std::int64_t now_ms) noexcept {
    now_ms_ = std::max(now_ms_, now_ms);
    for (std::size_t i = 0; i < items.size(); ++i) {
      if (i + 1 < items.size()) ask_for(items[i + 1]);
      const float* p = features + i * sizes_.features;
      const float* row = rows + i * sizes_.dim;
      if (all_finite(p, sizes_.features) && all_finite(row, sizes_.dim)) {
        learn(place_of(items[i]), p, row);
      }
    }
  }

  // Writes W p of the wanted items that are there, heavy and young enough: their rows [n, dim],
  // `found` 1, and the weights of all that are there (else 0). Returns how many were found.
  std::size_t read(std::span<const std::uint64_t> items, const std::uint8_t* wanted,
                   const AggregateQuery& query, float* rows, float* weights, std::uint8_t* found) {
    now_ms_ = std::max(now_ms_, query.now_ms);
    takes_.clear();
    for (std::size_t i = 0; i < items.size(); ++i) {
      weights[i] = 0;
      found[i] = wanted[i] != 0 && take(items[i], query, weights[i]) ? 1 : 0;
    }
    const std::size_t each = sizes_.features;
    std::size_t begin = 0;
    for (std::size_t i = 0; i < items.size(); ++i) {
      if (found[i] == 0) continue;
      const Takes takes{takes_.data() + begin, each, takes_.size() - begin};
      by_.floats(weights_.data(), sizes_.dim, takes, rows + i * sizes_.dim);
      begin += each;
    }
    return begin / each;
  }

  void forget() noexcept {
    std::fill(entries_.begin(), entries_.end(), Entry{});
    used_ = 0;
  }

 private:
  struct Entry {
    std::uint64_t item = 0;
    std::int64_t written_at_ms = 0;
    std::uint64_t touched = 0;  // 0: nobody's
    float weight = 0;
  };

  static bool all_finite(const float* values, std::size_t count) noexcept {
    float zero = 0;
    for (std::size_t i = 0; i < count; ++i) zero += values[i] * 0.0f;
    return zero == 0.0f;
  }

  [[nodiscard]] std::size_t first_of(std::uint64_t item) const noexcept {
    std::uint64_t mixed = item;
    mixed = (mixed ^ (mixed >> 30)) * 0xbf58476d1ce4e5b9u;
    mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111ebu;
    mixed ^= mixed >> 31;
    return static_cast<std::size_t>(mixed % sets_) * kWays;
  }

  // capacity() where it is not there.
  [[nodiscard]] std::size_t find(std::uint64_t item) const noexcept {
    const std::size_t first = first_of(item);
    for (std::size_t at = first; at < first + kWays; ++at) {
      if (entries_[at].touched != 0 && entries_[at].item == item) return at;
    }
    return capacity();
  }

  void ask_for(std::uint64_t item) const noexcept {
    constexpr std::size_t kLine = 16;  // floats
    const std::size_t at = find(item);
    if (at == capacity()) return;
    const float* first = weights_.data() + at * sizes_.features * sizes_.dim;
    for (std::size_t i = 0; i < sizes_.features * sizes_.dim; i += kLine) {
      __builtin_prefetch(first + i, 1);
    }
    const float* square = uncertainty_.data() + at * sizes_.features * sizes_.features;
    for (std::size_t i = 0; i < sizes_.features * sizes_.features; i += kLine) {
      __builtin_prefetch(square + i, 1);
    }
  }

  std::size_t place_of(std::uint64_t item) noexcept {
    const std::size_t known = find(item);
    if (known != capacity()) return known;
    const auto set = entries_.begin() + static_cast<std::ptrdiff_t>(first_of(item));
    const auto oldest = std::min_element(
        set, set + kWays, [](const Entry& a, const Entry& b) { return a.touched < b.touched; });
    if (oldest->touched == 0) {
      ++used_;
    } else {
      ++evictions_;
    }
    *oldest = {item, now_ms_, ++touches_, 0};
    const auto at = static_cast<std::size_t>(oldest - entries_.begin());
    regression::begin(regression_at(at));
    return at;
  }

  [[nodiscard]] Regression regression_at(std::size_t at) noexcept {
    const std::size_t f = sizes_.features;
    return {weights_.data() + at * f * sizes_.dim, uncertainty_.data() + at * f * f, f, sizes_.dim,
            sizes_.noise};
  }

  [[nodiscard]] double decay(const Entry& entry) const noexcept {
    return std::exp2(-static_cast<double>(now_ms_ - entry.written_at_ms) / sizes_.half_life_ms);
  }

  void learn(std::size_t at, const float* p, const float* row) noexcept {
    Entry& entry = entries_[at];
    const Regression of = regression_at(at);
    if (now_ms_ > entry.written_at_ms) {
      const auto kept = static_cast<float>(decay(entry));
      regression::fade(of, kept, scratch_.data());
      entry.weight *= kept;
    }
    entry.weight += 1;
    entry.written_at_ms = now_ms_;
    entry.touched = ++touches_;
    learn_(of, p, row, scratch_.data());
  }

  bool take(std::uint64_t item, const AggregateQuery& query, float& weight) {
    const std::size_t at = find(item);
    if (at == capacity()) return false;
    Entry& entry = entries_[at];
    entry.touched = ++touches_;
    weight = entry.weight * static_cast<float>(decay(entry));
    if (weight < query.least_weight || now_ms_ - entry.written_at_ms > query.max_age_ms) {
      return false;
    }
    for (std::size_t i = 0; i < sizes_.features; ++i) {
      takes_.push_back({at * sizes_.features + i, query.features[i]});
    }
    return true;
  }

  AggregateSizes sizes_;
  std::size_t sets_;
  std::vector<Entry> entries_;
  std::vector<float> weights_;
  std::vector<float> uncertainty_;
  std::vector<float> scratch_;
  std::vector<Take> takes_;
  AddUps by_;
  regression::Learn learn_;
  std::int64_t now_ms_ = 0;
  std::uint64_t touches_ = 0;
  std::uint64_t evictions_ = 0;
  std::size_t used_ = 0;
};

}  // namespace predawn
