// Pooled embedding bags: sums or means of rows of a table, by jagged lists of positions.
//
// What: `Bags`, the lists; `bag_pool`.
// When not: gradients (torch), several tables at once on a GPU (kernels/bag_pool.py).
// Functions: out[b] = sum over bag b of weight * row, or that over the number of its rows. A
//   position outside the table adds nothing, does not count for the mean, and is counted in what is
//   returned; an empty bag gives zeros. Offsets ascend from 0; the caller has checked them.
// Design: positions become takes (bag_pool_portable.hpp), with the scale of a row of bytes in the
//   take's factor, so that the sums widen bytes without it; then bag after bag is summed.
// Memory: a take a position, of the thread, kept. Cost: docs/benchmarks.md, `models`.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "bag_pool_portable.hpp"
#include "bag_pool_x86.hpp"
#include "dense.hpp"
#include "stored_rows.hpp"

namespace predawn {

struct Bags {
  std::span<const std::int64_t> ids;
  std::span<const std::int64_t> offsets;  // bags + 1
  const float* weights;                   // one an id, or null: 1
  bool is_mean;
};

// Of an unsupported set of instructions: the portable one.
[[nodiscard]] inline AddUps add_ups(Isa isa) noexcept {
#if defined(__x86_64__)
  if (is_supported(isa) && isa == Isa::kAvx512) return avx512_add_ups();
  if (is_supported(isa) && isa == Isa::kAvx2 && has_fma()) return avx2_add_ups();
#endif
  static_cast<void>(isa);
  return portable_add_ups();
}

namespace detail {

inline void add_up(const StoredRows& table, const Takes& takes, const AddUps& by,
                   float* out) noexcept {
  switch (table.dtype) {
    case Dtype::kFp32:
      by.floats(reinterpret_cast<const float*>(table.data), table.width, takes, out);
      return;
    case Dtype::kInt8:
      by.bytes(reinterpret_cast<const std::int8_t*>(table.data), table.width, takes, out);
      return;
    case Dtype::kFp16:
    case Dtype::kBf16:
      by.halves(reinterpret_cast<const std::uint16_t*>(table.data), table.width, takes, out);
      return;
  }
}

// The takes of one bag; returns how many.
inline std::size_t takes_of(const StoredRows& table, const Bags& bags, std::size_t bag,
                            Take* takes) noexcept {
  std::size_t count = 0;
  const auto end = static_cast<std::size_t>(bags.offsets[bag + 1]);
  for (auto i = static_cast<std::size_t>(bags.offsets[bag]); i < end; ++i) {
    const auto row = static_cast<std::size_t>(bags.ids[i]);
    const float weight = bags.weights == nullptr ? 1.0f : bags.weights[i];
    const bool is_there = row < table.count;
    const bool is_scaled = is_there && table.scales != nullptr;
    takes[count] = {row, is_scaled ? weight * table.scales[row] : weight};
    count += is_there ? 1 : 0;
  }
  return count;
}

}  // namespace detail

// out: [bags, table.width]. Returns the positions outside the table. Throws only where the thread's
// takes cannot grow.
inline std::size_t bag_pool(const StoredRows& table, const Bags& bags, Isa isa, float* out) {
  static thread_local std::vector<Take> takes;
  static thread_local std::vector<std::size_t> ends;
  const std::size_t count = bags.offsets.size() - 1;
  if (takes.size() < bags.ids.size() + 1) takes.resize(bags.ids.size() + 1);
  if (ends.size() < count) ends.resize(count);
  std::size_t all = 0;
  for (std::size_t bag = 0; bag < count; ++bag) {
    all += detail::takes_of(table, bags, bag, takes.data() + all);
    ends[bag] = all;
  }
  const AddUps by = add_ups(isa);
  for (std::size_t bag = 0, begin = 0; bag < count; ++bag, out += table.width) {
    const std::size_t own = ends[bag] - begin;
    detail::add_up(table, {takes.data() + begin, own, all - begin}, by, out);
    begin = ends[bag];
    if (!bags.is_mean || own < 2) continue;
    const float share = 1.0f / static_cast<float>(own);
    for (std::size_t j = 0; j < table.width; ++j) out[j] *= share;
  }
  return bags.ids.size() - all;
}

}  // namespace predawn
