// Memory of tensors and buffers that are not numpy's, found without a copy or their library.
//
// What: `borrow(object, access, argument)`: a `Borrowed`, what a torch CPU tensor (also a pinned
//   one), any other DLPack producer, or an object with the buffer protocol says of its memory.
// When not: numpy arrays (arrays.hpp reads them directly).
// Functions: with the GIL held, within a function bound by pybind11. A ValueError names the
//   argument for memory that is not the CPU's, that may not be written or that a write would not
//   reach, and for tensors that require a gradient; a TypeError for what is no array.
// Design: by the cheapest way the type offers: DLPack's table of C functions (as torch has it),
//   the buffer protocol, then `__dlpack__`. What the memory needs besides the object (a memoryview,
//   a capsule) lives until the bound function that asked returns.
// Memory: that memoryview or capsule. Cost: a torch tensor 0.1 us, 0.15 us to be written; a buffer
//   0.2 us; `__dlpack__` 1 to 3 us.
#pragma once

#include <pybind11/pybind11.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "dlpack.hpp"

namespace predawn {

namespace py = pybind11;

enum class Access { kRead, kWrite };

[[noreturn]] inline void refuse(const char* argument, const std::string& reason) {
  throw py::value_error(std::string(argument) + ": " + reason);
}

struct Borrowed {
  std::byte* data = nullptr;
  char kind = '?';  // f, i, u; or ? with the name of the type in `other`
  std::size_t bits = 0;
  const char* other = "";
  std::size_t dimensions = 0;
  const std::int64_t* shape = nullptr;
  bool is_c_order = false;

  [[nodiscard]] std::string type_text() const {
    if (kind == '?') return other;
    const char* name = kind == 'f' ? "float" : kind == 'i' ? "int" : "uint";
    return name + std::to_string(bits);
  }
};

namespace detail {

static_assert(sizeof(Py_ssize_t) == sizeof(std::int64_t));

// `unit`: what the strides count in.
inline bool is_c_order(std::size_t dimensions, const std::int64_t* shape,
                       const std::int64_t* strides, std::int64_t unit) {
  if (strides == nullptr) return true;
  for (std::size_t i = 0; i < dimensions; ++i) {
    if (shape[i] == 0) return true;
  }
  std::int64_t expected = unit;
  for (std::size_t i = dimensions; i-- > 0;) {
    if (shape[i] != 1 && strides[i] != expected) return false;
    expected *= shape[i];
  }
  return true;
}

// Only its first line: torch appends a C++ stack.
[[noreturn]] inline void refuse_as(const py::error_already_set& raised, const char* argument) {
  const auto text = py::str(raised.value()).cast<std::string>();
  refuse(argument, text.substr(0, text.find('\n')));
}

// The error that Python has set, as a ValueError of the argument.
[[noreturn]] inline void refuse_as_raised(const char* argument) {
  refuse_as(py::error_already_set(), argument);
}

inline void refuse_device(dl::Device device, const char* argument) {
  if (device == dl::kCpu || device == dl::kCudaHost || device == dl::kRocmHost) return;
  const char* name = device == dl::kCuda ? "CUDA" : device == dl::kRocm ? "ROCm" : "another";
  refuse(argument, "must be in CPU memory, got a tensor on a device of type " +
                       std::to_string(device) + " (" + name + ")");
}

inline void set_type(Borrowed& borrowed, const dl::Tensor& tensor) {
  borrowed.bits = tensor.bits;
  if (tensor.lanes != 1) {
    borrowed.other = "a vector type";
  } else if (tensor.code == dl::kFloat || tensor.code == dl::kInt || tensor.code == dl::kUInt) {
    borrowed.kind = tensor.code == dl::kFloat ? 'f' : tensor.code == dl::kInt ? 'i' : 'u';
  } else {
    borrowed.other = tensor.code == dl::kBfloat    ? "bfloat16"
                     : tensor.code == dl::kComplex ? "complex"
                     : tensor.code == dl::kBool    ? "bool"
                                                   : "another type";
  }
}

inline Borrowed borrowed_of(const dl::Tensor& tensor, const char* argument) {
  refuse_device(tensor.device, argument);
  Borrowed borrowed;
  set_type(borrowed, tensor);
  borrowed.data = static_cast<std::byte*>(tensor.data) + tensor.byte_offset;
  borrowed.dimensions = static_cast<std::size_t>(tensor.dimensions);
  borrowed.shape = tensor.shape;
  borrowed.is_c_order = is_c_order(borrowed.dimensions, tensor.shape, tensor.strides, 1);
  return borrowed;
}

inline void refuse_flags(std::uint64_t flags, Access access, const char* argument) {
  if (access == Access::kRead) return;
  if ((flags & dl::kReadOnly) != 0) refuse(argument, "must be writeable");
  if ((flags & dl::kIsCopied) != 0) refuse(argument, "must share its memory, gave a copy");
}

inline void refuse_gradient(py::handle object, const char* argument) {
  static PyObject* const name = PyUnicode_InternFromString("requires_grad");
  const auto requires_grad =
      py::reinterpret_steal<py::object>(PyObject_GetAttr(object.ptr(), name));
  if (!requires_grad) {
    PyErr_Clear();
  } else if (requires_grad.ptr() == Py_True) {
    refuse(argument, "requires a gradient, which the store cannot give; pass tensor.detach()");
  }
}

// What is written must allow it, which only a managed tensor tells; its memory is the object's own,
// so it is given back at once.
inline void refuse_unwriteable(py::handle object, const dl::ExchangeApi& api,
                               const char* argument) {
  dl::ManagedVersioned* managed = nullptr;
  if (api.manage(object.ptr(), &managed) != 0) refuse_as_raised(argument);
  const std::uint64_t flags = managed->flags;
  if (managed->deleter != nullptr) managed->deleter(managed);
  refuse_flags(flags, Access::kWrite, argument);
}

inline Borrowed borrow_by_table(py::handle object, const dl::ExchangeApi& api, Access access,
                                const char* argument) {
  refuse_gradient(object, argument);
  dl::Tensor tensor{};
  if (api.view(object.ptr(), &tensor) != 0) refuse_as_raised(argument);
  const Borrowed borrowed = borrowed_of(tensor, argument);
  if (access == Access::kWrite) refuse_unwriteable(object, api, argument);
  return borrowed;
}

// With pybind11's own temporaries of the call.
inline void keep_until_return(py::handle object) {
  py::detail::loader_life_support::add_patient(object);
}

// Buffer formats of one number: an order mark that says native, then a letter of struct's.
inline void set_type(Borrowed& borrowed, const Py_buffer& buffer) {
  std::string_view format = buffer.format == nullptr ? "B" : buffer.format;
  if (!format.empty() && std::string_view("@=<").find(format[0]) != std::string_view::npos) {
    format.remove_prefix(1);
  }
  borrowed.bits = static_cast<std::size_t>(buffer.itemsize) * 8;
  borrowed.other = buffer.format;
  if (format.size() != 1) return;
  if (std::string_view("efd").find(format[0]) != std::string_view::npos) borrowed.kind = 'f';
  if (std::string_view("bhilqn").find(format[0]) != std::string_view::npos) borrowed.kind = 'i';
  if (std::string_view("BHILQN").find(format[0]) != std::string_view::npos) borrowed.kind = 'u';
}

inline Borrowed borrow_buffer(py::handle object, Access access, const char* argument) {
  Borrowed borrowed;
  const auto view = py::reinterpret_steal<py::object>(PyMemoryView_FromObject(object.ptr()));
  if (!view) refuse_as_raised(argument);
  keep_until_return(view);
  const Py_buffer& buffer = *PyMemoryView_GET_BUFFER(view.ptr());
  if (access == Access::kWrite && buffer.readonly != 0) refuse(argument, "must be writeable");
  set_type(borrowed, buffer);
  borrowed.data = static_cast<std::byte*>(buffer.buf);
  borrowed.dimensions = static_cast<std::size_t>(buffer.ndim);
  borrowed.shape = buffer.shape;
  borrowed.is_c_order = PyBuffer_IsContiguous(&buffer, 'C') != 0;
  return borrowed;
}

inline py::object capsule_of(py::handle object, const char* argument) {
  try {
    const auto device = object.attr("__dlpack_device__")().cast<std::pair<int, int>>();
    refuse_device(static_cast<dl::Device>(device.first), argument);
    try {
      return object.attr("__dlpack__")(py::arg("max_version") = py::make_tuple(dl::kMajor, 0));
    } catch (const py::error_already_set& raised) {
      if (!raised.matches(PyExc_TypeError)) throw;
      return object.attr("__dlpack__")();  // from before versions were agreed upon
    }
  } catch (const py::error_already_set& raised) {
    refuse_as(raised, argument);
  }
}

// A capsule that nobody takes over frees its tensor when it goes.
inline Borrowed borrow_capsule(py::handle object, Access access, const char* argument) {
  const py::object capsule = capsule_of(object, argument);
  keep_until_return(capsule);
  const dl::Tensor* tensor = nullptr;
  if (PyCapsule_IsValid(capsule.ptr(), "dltensor_versioned") != 0) {
    const auto* managed = static_cast<const dl::ManagedVersioned*>(
        PyCapsule_GetPointer(capsule.ptr(), "dltensor_versioned"));
    if (managed->version.major != dl::kMajor) refuse(argument, "gave a DLPack of another version");
    refuse_flags(managed->flags, access, argument);
    tensor = &managed->tensor;
  } else if (PyCapsule_IsValid(capsule.ptr(), "dltensor") != 0) {
    const void* managed = PyCapsule_GetPointer(capsule.ptr(), "dltensor");
    tensor = &static_cast<const dl::Managed*>(managed)->tensor;
  } else {
    refuse(argument, "gave something else than a DLPack capsule");
  }
  return borrowed_of(*tensor, argument);
}

}  // namespace detail

inline Borrowed borrow(py::handle object, Access access, const char* argument) {
  const dl::ExchangeApi* api = dl::exchange_api_of(Py_TYPE(object.ptr()));
  if (api != nullptr && api->view != nullptr) {
    return detail::borrow_by_table(object, *api, access, argument);
  }
  if (PyObject_CheckBuffer(object.ptr()) != 0) {
    return detail::borrow_buffer(object, access, argument);
  }
  if (py::hasattr(object, "__dlpack__")) return detail::borrow_capsule(object, access, argument);
  throw py::type_error(std::string(argument) +
                       ": expected a numpy array, a CPU tensor or a buffer, got " +
                       Py_TYPE(object.ptr())->tp_name);
}

}  // namespace predawn
