// What the parts of the Python module share: the checks of plain arguments.
//
// What: `not_negative`, `bounded`, `fitting`: a ValueError names the argument, what was expected
// and
//   what came; `MaybeReleased`; `bind_cache` (bindings_cache.cpp), `bind_pairs`
//   (bindings_pairs.cpp).
// When not: arrays (arrays.hpp).
// Functions: called with the GIL held.
// Memory: none. Cost: compares.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <string>

#include "arrays.hpp"

namespace predawn {

void bind_cache(py::module_& module);
void bind_pairs(py::module_& module);

inline constexpr std::size_t kKeepsGil = 32;  // keys: below, giving the GIL away costs more

// Gives the GIL away where it pays.
class MaybeReleased {
 public:
  explicit MaybeReleased(std::size_t keys) {
    if (keys > kKeepsGil) released_.emplace();
  }

 private:
  std::optional<py::gil_scoped_release> released_;
};

inline void not_negative(std::int64_t value, const char* argument) {
  if (value < 0) refuse(argument, "expected 0 or more, got " + std::to_string(value));
}

inline std::uint64_t bounded(std::int64_t value, std::uint64_t most, const char* argument) {
  if (value < 1 || static_cast<std::uint64_t>(value) > most) {
    refuse(argument, "expected 1 to " + std::to_string(most) + ", got " + std::to_string(value));
  }
  return static_cast<std::uint64_t>(value);
}

template <class Unsigned>
Unsigned fitting(std::int64_t value, const char* argument) {
  constexpr std::int64_t kMost = std::numeric_limits<Unsigned>::max();
  if (value < 0 || value > kMost) {
    refuse(argument, "expected 0 to " + std::to_string(kMost) + ", got " + std::to_string(value));
  }
  return static_cast<Unsigned>(value);
}

}  // namespace predawn
