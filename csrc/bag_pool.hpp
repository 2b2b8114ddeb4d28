// Pooled embedding bags: sums or means of rows of a table, by jagged lists of positions.
//
// What: `Bags`, the lists; `bag_pool`.
// When not: gradients (torch), several tables at once on a GPU (kernels/bag_pool.py).
// Functions: out[b] = sum over bag b of weight * row, or that over the number of its rows. A
//   position outside the table adds nothing, does not count for the mean, and is counted in what is
//   returned; an empty bag gives zeros. Offsets ascend from 0; the caller has checked them.
// Design: a bag's positions become takes (bag_pool_portable.hpp), with the scale of a row of bytes
//   in the take's factor, so that the sums widen bytes without it.
// Memory: takes of the longest bag, of the thread, kept. Cost: docs/benchmarks.md, `models`.
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

inline void add_up(const StoredRows& table, std::span<const Take> takes, const AddUps& by,
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

}  // namespace detail

// out: [bags, table.width]. Returns the positions outside the table. Throws only where the thread's
// takes cannot grow.
inline std::size_t bag_pool(const StoredRows& table, const Bags& bags, Isa isa, float* out) {
  static thread_local std::vector<Take> takes;
  const AddUps by = add_ups(isa);
  std::size_t outside = 0;
  for (std::size_t bag = 0; bag + 1 < bags.offsets.size(); ++bag, out += table.width) {
    takes.clear();
    for (std::int64_t i = bags.offsets[bag]; i < bags.offsets[bag + 1]; ++i) {
      const std::int64_t id = bags.ids[static_cast<std::size_t>(i)];
      if (!table.has(id)) {
        ++outside;
        continue;
      }
      const auto row = static_cast<std::size_t>(id);
      const float weight = bags.weights == nullptr ? 1.0f : bags.weights[i];
      takes.push_back({row, table.dtype == Dtype::kInt8 ? weight * table.scales[row] : weight});
    }
    detail::add_up(table, takes, by, out);
    if (!bags.is_mean || takes.size() < 2) continue;
    const float share = 1.0f / static_cast<float>(takes.size());
    for (std::size_t j = 0; j < table.width; ++j) out[j] *= share;
  }
  return outside;
}

}  // namespace predawn
