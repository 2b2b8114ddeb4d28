// Arrays as the store's C++ sees them: checked once, then plain pointers. Never copied.
//
// What: `vector_of`, `matrix_of`, `keys_of`: of numpy arrays, torch CPU tensors (also pinned) and
//   whatever else lends its memory (array_producers.hpp): dtype, dimensions, C order, alignment
//   and, for outputs, that they may be written. A ValueError names the argument, what was expected
//   and what came; a TypeError says that it is no array.
// When not: conversion. A wrong dtype is an error.
// Functions: called within a function bound by pybind11, with the GIL held. The pointers are good
//   until that function returns, also without the GIL, while its caller holds the objects.
// Design: a view is a pointer and its sizes. Numpy arrays go first and by the shortest way. What
//   other memory needs to stay (a memoryview, a capsule) pybind11 keeps with the call's
//   temporaries.
// Memory: none. Cost: about 8 ns a numpy array, 0.1 to 0.2 us a tensor.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <span>
#include <string>
#include <type_traits>
#include <utility>

#include "array_producers.hpp"
#include "key.hpp"

namespace predawn {

template <class T>
struct Matrix {
  T* data;
  std::size_t rows;
  std::size_t columns;
};

namespace detail {

template <class T>
constexpr char kKind = std::is_floating_point_v<T> ? 'f'
                       : std::is_signed_v<T>       ? 'i'
                                                   : 'u';

// The sizes of what was checked, and its memory.
struct Checked {
  void* data;
  std::size_t sizes[2];
};

template <class Size>
std::string shape_text(std::size_t dimensions, const Size* shape) {
  std::string text = "(";
  for (std::size_t i = 0; i < dimensions; ++i) {
    text += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
  }
  return text + ")";
}

[[noreturn]] inline void refuse_type(const char* argument, const py::dtype& expected,
                                     const std::string& got) {
  refuse(argument, "expected dtype " + py::str(expected).cast<std::string>() + ", got " + got);
}

[[noreturn]] inline void refuse_shape(const char* argument, std::size_t expected,
                                      const std::string& shape) {
  refuse(argument, "expected " + std::to_string(expected) + " dimension(s), got shape " + shape);
}

[[noreturn]] inline void refuse_layout(const char* argument) {
  refuse(argument, "must be C-contiguous and aligned");
}

// By numpy's type numbers, which are from bool on: the sizes of its numbers.
inline constexpr std::size_t kNumberBytes[] = {1, 1, 1, 2, 2, 4, 4, sizeof(long), sizeof(long),
                                               8, 8, 4, 8};

template <class T>
bool is_of(PyObject* descr) noexcept {
  const auto* type = py::detail::array_descriptor_proxy(descr);
  const bool is_native = type->byteorder == '=' || type->byteorder == '|';
  const auto number = static_cast<std::size_t>(type->type_num);
  return is_native && type->kind == kKind<T> && number < std::size(kNumberBytes) &&
         kNumberBytes[number] == sizeof(T);
}

// A numpy array.
template <class T, std::size_t kDimensions>
Checked checked_numpy(py::handle array, Access access, const char* argument) {
  const auto* proxy = py::detail::array_proxy(array.ptr());
  if (!is_of<T>(proxy->descr)) {
    refuse_type(argument, py::dtype::of<T>(), py::str(proxy->descr).cast<std::string>());
  }
  const auto dimensions = static_cast<std::size_t>(proxy->nd);
  if (dimensions != kDimensions) {
    refuse_shape(argument, kDimensions, shape_text(dimensions, proxy->dimensions));
  }
  using Api = py::detail::npy_api;
  constexpr int kLayout = Api::NPY_ARRAY_C_CONTIGUOUS_ | Api::NPY_ARRAY_ALIGNED_;
  if ((proxy->flags & kLayout) != kLayout) refuse_layout(argument);
  if (access == Access::kWrite && (proxy->flags & Api::NPY_ARRAY_WRITEABLE_) == 0) {
    refuse(argument, "must be writeable");
  }
  return {proxy->data,
          {static_cast<std::size_t>(proxy->dimensions[0]),
           static_cast<std::size_t>(proxy->dimensions[kDimensions - 1])}};
}

template <class T, std::size_t kDimensions>
Checked checked_borrowed(py::handle object, Access access, const char* argument) {
  const Borrowed borrowed = borrow(object, access, argument);
  if (borrowed.kind != kKind<T> || borrowed.bits != sizeof(T) * 8) {
    refuse_type(argument, py::dtype::of<T>(), borrowed.type_text());
  }
  if (borrowed.dimensions != kDimensions) {
    refuse_shape(argument, kDimensions, shape_text(borrowed.dimensions, borrowed.shape));
  }
  const bool is_aligned = reinterpret_cast<std::uintptr_t>(borrowed.data) % alignof(T) == 0;
  if (!borrowed.is_c_order || !is_aligned) refuse_layout(argument);
  const auto rows = static_cast<std::size_t>(borrowed.shape[0]);
  const auto columns = static_cast<std::size_t>(borrowed.shape[kDimensions - 1]);
  if (borrowed.data == nullptr && rows * columns != 0) refuse(argument, "has no memory");
  return {borrowed.data, {rows, columns}};
}

template <class T, std::size_t kDimensions>
Checked checked(py::handle object, Access access, const char* argument) {
  using Value = std::remove_const_t<T>;
  static_assert(kDimensions == 1 || kDimensions == 2);
  if (py::isinstance<py::array>(object)) [[likely]] {
    return checked_numpy<Value, kDimensions>(object, access, argument);
  }
  return checked_borrowed<Value, kDimensions>(object, access, argument);
}

}  // namespace detail

template <class T>
std::span<T> vector_of(py::handle object, Access access, const char* argument) {
  const detail::Checked checked = detail::checked<T, 1>(object, access, argument);
  return {static_cast<T*>(checked.data), checked.sizes[0]};
}

template <class T>
std::span<T> vector_of(py::handle object, Access access, const char* argument, std::size_t length) {
  const std::span<T> values = vector_of<T>(object, access, argument);
  if (values.size() != length) {
    refuse(argument, "expected length " + std::to_string(length) + " (one per key), got " +
                         std::to_string(values.size()));
  }
  return values;
}

template <class T>
Matrix<T> matrix_of(py::handle object, Access access, const char* argument) {
  const detail::Checked checked = detail::checked<T, 2>(object, access, argument);
  return {static_cast<T*>(checked.data), checked.sizes[0], checked.sizes[1]};
}

// Keys are uint64 [n, 2]: (lo, hi) a row, in memory what `Key` is.
inline std::span<Key> keys_of(py::handle object, Access access) {
  const Matrix<std::uint64_t> words = matrix_of<std::uint64_t>(object, access, "keys");
  if (words.columns != 2) {
    const std::size_t shape[] = {words.rows, words.columns};
    refuse("keys", "expected shape [n, 2], got " + detail::shape_text(2, shape));
  }
  return {reinterpret_cast<Key*>(words.data), words.rows};
}

}  // namespace predawn
