// The Python face of histograms and hashes, and the module that holds everything native. No logic:
// arguments are checked here, with a ValueError that names the argument.

#include "bindings.hpp"

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <string>

#include "arrays.hpp"
#include "histogram.hpp"
#include "pair_keys.hpp"
#include "siphash.hpp"

namespace predawn {
namespace {

SipKey sip_key_of(const py::bytes& key) {
  const auto bytes = static_cast<std::string_view>(key);
  if (bytes.size() != sizeof(SipKey)) {
    refuse("key", "expected 16 bytes, got " + std::to_string(bytes.size()));
  }
  return sip_key(bytes.data());
}

void pair_keys_of_string(const py::bytes& secret, const py::str& user, const py::object& items,
                         const py::object& keys) {
  const auto given = vector_of<const std::uint64_t>(items, Access::kRead, "items");
  const auto out = keys_of(keys, Access::kWrite);
  if (out.size() != given.size()) {
    refuse("keys", "expected " + std::to_string(given.size()) + " rows (one per item), got " +
                       std::to_string(out.size()));
  }
  py::ssize_t size = 0;
  const char* utf8 = PyUnicode_AsUTF8AndSize(user.ptr(), &size);
  if (utf8 == nullptr) throw py::error_already_set();
  pair_keys(sip_key_of(secret), utf8, static_cast<std::size_t>(size), given, out.data());
}

void record(Histogram& histogram, std::int64_t value) {
  not_negative(value, "value");
  histogram.record(static_cast<std::uint64_t>(value));
}

void record_many(Histogram& histogram, const py::array& values) {
  const auto given = vector_of<const std::int64_t>(values, Access::kRead, "values");
  for (const std::int64_t value : given) not_negative(value, "values");
  const py::gil_scoped_release released;
  for (const std::int64_t value : given) histogram.record(static_cast<std::uint64_t>(value));
}

double quantile(const Histogram& histogram, double q) {
  if (!(q >= 0 && q <= 1)) refuse("q", "expected 0 to 1, got " + std::to_string(q));
  return histogram.quantile(q);
}

py::array_t<std::int64_t> counts_at(const Histogram& histogram, const py::array& bounds) {
  const auto given = vector_of<const std::int64_t>(bounds, Access::kRead, "bounds");
  py::array_t<std::int64_t> counts(static_cast<py::ssize_t>(given.size()));
  const Histogram::Counts held = histogram.counts();
  std::int64_t* out = counts.mutable_data();
  for (const std::int64_t bound : given) {
    *out++ = static_cast<std::int64_t>(Histogram::at_or_below(held, bound));
  }
  return counts;
}

void bind_hashes(py::module_& module) {
  module.def(
      "siphash128",
      [](const py::bytes& key, const py::bytes& data) {
        const auto bytes = static_cast<std::string_view>(data);
        const Hash128 hash = siphash128(sip_key_of(key), bytes.data(), bytes.size());
        return py::make_tuple(hash.lo, hash.hi);
      },
      py::arg("key"), py::arg("data"));
  module.def(
      "siphash64",
      [](const py::bytes& key, const py::bytes& data) {
        const auto bytes = static_cast<std::string_view>(data);
        return siphash64(sip_key_of(key), bytes.data(), bytes.size());
      },
      py::arg("key"), py::arg("data"));
  module.def(
      "stable_hash",
      [](const py::bytes& data) {
        const auto bytes = static_cast<std::string_view>(data);
        return stable_hash(bytes.data(), bytes.size());
      },
      py::arg("data"));
  module.def("pair_keys_of_string", &pair_keys_of_string, py::arg("key"), py::arg("user"),
             py::arg("items"), py::arg("keys"));
}

void bind_histogram(py::module_& module) {
  py::class_<Histogram>(module, "Histogram", py::is_final())
      .def(py::init<>())
      .def("record", &record, py::arg("value"))
      .def("record_many", &record_many, py::arg("values"))
      .def("merge", &Histogram::merge, py::arg("other"))
      .def("quantile", &quantile, py::arg("q"))
      .def("counts_at", &counts_at, py::arg("bounds"))
      .def_property_readonly("count", &Histogram::count)
      .def_property_readonly("sum", &Histogram::sum)
      .def("clear", &Histogram::clear);
}

}  // namespace
}  // namespace predawn

PYBIND11_MODULE(_core, module) {
  module.doc() = "The native store and its relatives. Batched calls only; caller-owned buffers.";
  module.def("nothing", [] {});
  predawn::bind_hashes(module);
  predawn::bind_histogram(module);
  predawn::bind_cache(module);
  predawn::bind_pairs(module);
}
