// Where an item is in a ranker's tables, and its features as the ranker reads them.
//
// What: `sorted_positions` (binary search), `hashed_row` (the row of a hashed table),
//   `encode_feature` (piecewise-linear encoding, arXiv 2203.05556).
// When not: the rows themselves (stored_rows.hpp).
// Functions: pure. `sorted_positions` gives the table's length for an item that is not in it.
//   `hashed_row` mixes by the finaliser of SplitMix64 and is 1 .. rows. A feature of exactly 0
//   counts as missing and encodes as zeros.
// Design: the search takes the same steps for every item of a table, without a branch to guess.
// Memory: none. Cost: some ns a step; a logarithm a feature; no atomics.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>

namespace predawn {

// hashes: strictly increasing. out: one position an item.
inline void sorted_positions(std::span<const std::uint64_t> hashes,
                             std::span<const std::uint64_t> items, std::int64_t* out) noexcept {
  const std::size_t count = hashes.size();
  for (std::size_t i = 0; i < items.size(); ++i) {
    std::size_t at = 0;  // below it, all are smaller
    for (std::size_t left = count; left > 0;) {
      const std::size_t half = (left + 1) / 2;
      at += hashes[at + half - 1] < items[i] ? half : 0;
      left -= half;
    }
    const bool found = at < count && hashes[at] == items[i];
    out[i] = static_cast<std::int64_t>(found ? at : count);
  }
}

[[nodiscard]] inline std::int64_t hashed_row(std::uint64_t item, std::uint64_t salt,
                                             std::uint64_t rows) noexcept {
  std::uint64_t mixed = item ^ salt;
  mixed = (mixed ^ (mixed >> 30)) * 0xbf58476d1ce4e5b9u;
  mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111ebu;
  mixed ^= mixed >> 31;
  return static_cast<std::int64_t>(1 + mixed % rows);
}

// One feature as `bins` numbers: its signed log within each bin, 0 below to 1 above, less the mean.
// low, width, mean, out: [bins].
inline void encode_feature(float value, const float* low, const float* width, const float* mean,
                           std::size_t bins, float* out) noexcept {
  if (value == 0) {
    std::fill_n(out, bins, 0.0f);
    return;
  }
  const float scaled = std::copysign(std::log1p(std::abs(value)), value);
  for (std::size_t bin = 0; bin < bins; ++bin) {
    const float within = (scaled - low[bin]) / width[bin];
    out[bin] = (within < 0 ? 0.0f : (within > 1 ? 1.0f : within)) - mean[bin];
  }
}

}  // namespace predawn
