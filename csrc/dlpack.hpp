// The part of DLPack's binary interface (version 1) by which tensors are looked at, not taken.
//
// What: `dl::Tensor` and its capsules, `dl::ExchangeApi` (a table of functions that a tensor type
//   may offer), `exchange_api_of` (that of a Python type, if it has one).
// When not: giving tensors away, or moving them between devices.
// Functions: with the GIL held.
// Design: layouts as the DLPack specification fixes them (dmlc/dlpack, dlpack.h); only what is read
//   here has a full type. The exchange table spares a producer's Python method, for torch 1.6 us.
// Memory: none. Cost: `exchange_api_of` looks up an attribute of a type, about 10 ns.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>

namespace predawn::dl {

inline constexpr std::uint32_t kMajor = 1;

struct Version {
  std::uint32_t major;
  std::uint32_t minor;
};

enum Device : std::int32_t { kCpu = 1, kCuda = 2, kCudaHost = 3, kRocm = 10, kRocmHost = 11 };
enum Code : std::uint8_t { kInt = 0, kUInt = 1, kFloat = 2, kBfloat = 4, kComplex = 5, kBool = 6 };

struct Tensor {
  void* data;
  Device device;
  std::int32_t device_id;
  std::int32_t dimensions;
  Code code;
  std::uint8_t bits;
  std::uint16_t lanes;
  std::int64_t* shape;
  std::int64_t* strides;  // in elements; none: C order
  std::uint64_t byte_offset;
};
static_assert(sizeof(Tensor) == 48);

struct Managed {  // in capsules named "dltensor"
  Tensor tensor;
  void* context;
  void (*deleter)(Managed* self);
};

inline constexpr std::uint64_t kReadOnly = 1;
inline constexpr std::uint64_t kIsCopied = 2;

struct ManagedVersioned {  // in capsules named "dltensor_versioned"
  Version version;
  void* context;
  void (*deleter)(ManagedVersioned* self);
  std::uint64_t flags;
  Tensor tensor;
};
static_assert(sizeof(ManagedVersioned) == 80);

struct ExchangeApi {
  Version version;
  const ExchangeApi* previous;
  void* allocate;
  // Both: 0, or -1 with a Python exception set. Neither waits for a device.
  int (*manage)(void* object, ManagedVersioned** out);
  void* wrap;
  int (*view)(void* object, Tensor* out);  // may be none; what it gives is the object's own
  void* stream;
};
static_assert(sizeof(ExchangeApi) == 56);

// nullptr: the type offers none that this code understands.
[[nodiscard]] inline const ExchangeApi* exchange_api_of(PyTypeObject* type) {
  static PyObject* const name = PyUnicode_InternFromString("__dlpack_c_exchange_api__");
  PyObject* const capsule = name == nullptr ? nullptr : _PyType_Lookup(type, name);
  if (capsule == nullptr || PyCapsule_IsValid(capsule, "dlpack_exchange_api") == 0) return nullptr;
  const auto* api =
      static_cast<const ExchangeApi*>(PyCapsule_GetPointer(capsule, "dlpack_exchange_api"));
  while (api != nullptr && api->version.major != kMajor) api = api->previous;
  return api;
}

}  // namespace predawn::dl
