// What the parts of the Python module `_layers` share: arguments that name tables, formats and
// instructions.
//
// What: `stored_rows_of`, `dtype_of`, `isa_of`, `MaybeReleased`; `bind_first_layer`
//   (layers_first.cpp), `bind_ranker` (layers_ranker.cpp).
// When not: plain arrays (arrays.hpp).
// Functions: called with the GIL held; a ValueError names the argument.
// Memory: none. Cost: compares.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstdint>
#include <optional>
#include <string>

#include "arrays.hpp"
#include "convert.hpp"
#include "stored_rows.hpp"

namespace predawn {

void bind_first_layer(py::module_& module);
void bind_ranker(py::module_& module);

// Gives the GIL away for work long enough to be worth getting it back, which may take as long as
// another thread's turn: 5 ms.
class MaybeReleased {
 public:
  // operations: additions, or what costs as much.
  explicit MaybeReleased(std::size_t operations) {
    if (operations > kKeepsGil) released_.emplace();
  }

 private:
  static constexpr std::size_t kKeepsGil = 4'000'000;  // about 20 us

  std::optional<py::gil_scoped_release> released_;
};

inline Dtype dtype_of(const std::string& name) {
  if (const std::optional<Dtype> dtype = dtype_named(name)) return *dtype;
  refuse("dtype", R"(expected "fp32", "fp16", "bf16" or "int8", got ")" + name + "\"");
}

// "" is the best of this machine.
inline Isa isa_of(const std::string& name) {
  static const Isa best = best_isa();
  if (name.empty()) return best;
  for (const Isa isa : {Isa::kPortable, Isa::kAvx2, Isa::kAvx512, Isa::kNeon}) {
    if (name == name_of(isa) && is_supported(isa)) return isa;
  }
  refuse("isa", "this machine does not know \"" + name + "\"");
}

namespace detail {

inline Dtype dtype_of_numbers(const py::array& array, const char* argument) {
  const char kind = array.dtype().kind();
  const auto bytes = array.itemsize();
  if (kind == 'f' && bytes == 4) return Dtype::kFp32;
  if (kind == 'f' && bytes == 2) return Dtype::kFp16;
  if (kind == 'i' && bytes == 1) return Dtype::kInt8;
  refuse(argument, "expected dtype float32, float16 or int8, got " +
                       py::str(array.dtype()).cast<std::string>());
}

}  // namespace detail

// A table [rows, width] of float32, float16 or int8; int8 with `scales`, float32 [rows]. Of None:
// an empty one.
inline StoredRows stored_rows_of(const py::object& object, const py::object& scales,
                                 const char* argument) {
  if (object.is_none()) return {};
  const auto array = py::cast<py::array>(object);
  StoredRows rows;
  rows.dtype = detail::dtype_of_numbers(array, argument);
  if (array.ndim() != 2) {
    refuse(argument, "expected 2 dimension(s), got " + std::to_string(array.ndim()));
  }
  if ((array.flags() & py::array::c_style) == 0) refuse(argument, "must be C-contiguous");
  rows.data = static_cast<const std::byte*>(array.data());
  rows.count = static_cast<std::size_t>(array.shape(0));
  rows.width = static_cast<std::size_t>(array.shape(1));
  if (rows.dtype != Dtype::kInt8) return rows;
  const std::string of_scales = std::string(argument) + "_scales";
  if (scales.is_none()) refuse(of_scales.c_str(), "int8 rows need one float32 each");
  const auto given = vector_of<const float>(scales, Access::kRead, of_scales.c_str());
  if (given.size() != rows.count) {
    refuse(of_scales.c_str(), "expected length " + std::to_string(rows.count) + ", got " +
                                  std::to_string(given.size()));
  }
  rows.scales = given.data();
  return rows;
}

inline void expect_size(const char* argument, const char* what, std::size_t expected,
                        std::size_t got) {
  if (got == expected) return;
  refuse(argument,
         "expected " + std::to_string(expected) + " " + what + ", got " + std::to_string(got));
}

// Offsets of jagged lists: from 0, ascending, to `end`.
inline std::span<const std::int64_t> offsets_of(const py::object& object, std::size_t end) {
  const auto offsets = vector_of<const std::int64_t>(object, Access::kRead, "offsets");
  bool ascends =
      !offsets.empty() && offsets.front() == 0 && offsets.back() == static_cast<std::int64_t>(end);
  for (std::size_t i = 1; ascends && i < offsets.size(); ++i) {
    ascends = offsets[i - 1] <= offsets[i];
  }
  if (!ascends) refuse("offsets", "expected to ascend from 0 to " + std::to_string(end));
  return offsets;
}

}  // namespace predawn
