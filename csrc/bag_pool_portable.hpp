// The sums of a bag of rows, in plain C++: what the vector versions of it compute.
//
// What: `Take`, a row and what it counts; `Takes`, those of a bag; `add_up`, rows of floats, halves
//   or bytes.
// When not: which rows a bag has, and whether they exist (bag_pool.hpp).
// Functions: out[j] = sum over the takes, in their order, of factor * row[j]. Sums are floats.
// Design: one row behind the other. The vector versions keep 64 sums in registers and go over the
//   bag once for every 64 columns; each number is added up in the same order all the same.
// Memory: none. Cost: about 1 ns a 2 values; no atomics.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "convert_portable.hpp"

namespace predawn {

struct Take {
  std::size_t row;
  float factor;
};

// The takes of one bag, and those of the bags after it, whose rows may be asked for meanwhile.
struct Takes {
  const Take* begin;
  std::size_t count;
  std::size_t all;
};

// Rows of `width` values from `rows` on; `out` has `width` floats.
template <class Stored>
using AddUp = void (*)(const Stored* rows, std::size_t width, const Takes& takes,
                       float* out) noexcept;

struct AddUps {
  AddUp<float> floats;
  AddUp<std::uint16_t> halves;
  AddUp<std::int8_t> bytes;
};

namespace portable {

inline float widened(float value) noexcept { return value; }
inline float widened(std::uint16_t half) noexcept { return float_of_half(half); }
inline float widened(std::int8_t byte) noexcept { return static_cast<float>(byte); }

template <class Stored>
void add_up(const Stored* rows, std::size_t width, const Takes& takes, float* out) noexcept {
  std::fill_n(out, width, 0.0f);
  for (std::size_t i = 0; i < takes.count; ++i) {
    const Take& take = takes.begin[i];
    const Stored* row = rows + take.row * width;
    for (std::size_t j = 0; j < width; ++j) out[j] += take.factor * widened(row[j]);
  }
}

}  // namespace portable

[[nodiscard]] constexpr AddUps portable_add_ups() noexcept {
  return {portable::add_up<float>, portable::add_up<std::uint16_t>, portable::add_up<std::int8_t>};
}

}  // namespace predawn
