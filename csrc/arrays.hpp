// numpy arrays as the store's C++ sees them: checked once, then plain pointers.
//
// What: `vector_of`, `matrix_of`, `keys_of`: dtype, dimensions, C order, alignment and, for
// outputs,
//   writability; a ValueError names the argument, what was expected and what came.
// When not: conversion. Nothing is ever copied: a wrong dtype is an error.
// Functions: called with the GIL held; the pointers are good while the caller holds the arrays.
// Design: a view is a pointer and its sizes.
// Memory: none. Cost: about 20 ns an array.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "key.hpp"

namespace predawn {

namespace py = pybind11;

enum class Access { kRead, kWrite };

template <class T>
struct Matrix {
  T* data;
  std::size_t rows;
  std::size_t columns;
};

[[noreturn]] inline void refuse(const char* argument, const std::string& reason) {
  throw py::value_error(std::string(argument) + ": " + reason);
}

inline std::string shape_text(const py::array& array) {
  std::string text = "(";
  for (py::ssize_t i = 0; i < array.ndim(); ++i) {
    text += (i == 0 ? "" : ", ") + std::to_string(array.shape(i));
  }
  return text + ")";
}

template <class T>
T* checked(const py::array& array, py::ssize_t dimensions, Access access, const char* argument) {
  using Value = std::remove_const_t<T>;
  if (!py::isinstance<py::array_t<Value>>(array)) {
    refuse(argument, "expected dtype " + std::string(py::str(py::dtype::of<Value>())) + ", got " +
                         std::string(py::str(array.dtype())));
  }
  if (array.ndim() != dimensions) {
    refuse(argument, "expected " + std::to_string(dimensions) + " dimension(s), got shape " +
                         shape_text(array));
  }
  constexpr int kLayout =
      py::detail::npy_api::NPY_ARRAY_C_CONTIGUOUS_ | py::detail::npy_api::NPY_ARRAY_ALIGNED_;
  if ((array.flags() & kLayout) != kLayout) refuse(argument, "must be C-contiguous and aligned");
  if (access == Access::kWrite && !array.writeable()) refuse(argument, "must be writeable");
  return static_cast<T*>(const_cast<void*>(array.data()));
}

template <class T>
std::span<T> vector_of(const py::array& array, Access access, const char* argument) {
  T* data = checked<T>(array, 1, access, argument);
  return {data, static_cast<std::size_t>(array.shape(0))};
}

template <class T>
std::span<T> vector_of(const py::array& array, Access access, const char* argument,
                       std::size_t length) {
  const std::span<T> values = vector_of<T>(array, access, argument);
  if (values.size() != length) {
    refuse(argument, "expected length " + std::to_string(length) + " (one per key), got " +
                         std::to_string(values.size()));
  }
  return values;
}

template <class T>
Matrix<T> matrix_of(const py::array& array, Access access, const char* argument) {
  T* data = checked<T>(array, 2, access, argument);
  return {data, static_cast<std::size_t>(array.shape(0)), static_cast<std::size_t>(array.shape(1))};
}

// Keys are uint64 [n, 2]: (lo, hi) a row, in memory what `Key` is.
inline std::span<Key> keys_of(const py::array& array, Access access) {
  const Matrix<std::uint64_t> words = matrix_of<std::uint64_t>(array, access, "keys");
  if (words.columns != 2) refuse("keys", "expected shape [n, 2], got " + shape_text(array));
  return {reinterpret_cast<Key*>(words.data), words.rows};
}

}  // namespace predawn
