// The Python face of what is known of items over all users. No logic: arguments are checked here,
// with a ValueError that names the argument, and item_aggregates.hpp does the work.

#include <pybind11/pybind11.h>

#include <cmath>
#include <limits>
#include <string>

#include "item_aggregates.hpp"
#include "layers.hpp"

namespace predawn {
namespace {

using Items = const std::uint64_t;

std::size_t count_of(std::int64_t value, std::int64_t most, const char* argument) {
  if (value < 1 || value > most) {
    refuse(argument, "expected 1 to " + std::to_string(most) + ", got " + std::to_string(value));
  }
  return static_cast<std::size_t>(value);
}

ItemAggregates made(std::int64_t items, std::int64_t features, std::int64_t dim,
                    double half_life_ms, double noise) {
  if (!(half_life_ms > 0)) refuse("half_life_ms", "expected above 0");
  if (!(noise >= 1e-3 && noise <= 1e6)) refuse("noise", "expected 0.001 to 1e6");
  return ItemAggregates({count_of(items, std::int64_t{1} << 32, "items"),
                         count_of(features, 256, "features"), count_of(dim, 65'536, "dim"),
                         half_life_ms, static_cast<float>(noise)});
}

void add(ItemAggregates& table, const py::object& items, const py::object& features,
         const py::object& rows, std::int64_t now_ms) {
  const auto keys = vector_of<Items>(items, Access::kRead, "items");
  const Matrix given = matrix_of<const float>(features, Access::kRead, "features");
  const Matrix values = matrix_of<const float>(rows, Access::kRead, "rows");
  expect_size("features", "rows", keys.size(), given.rows);
  expect_size("features", "columns", table.sizes().features, given.columns);
  expect_size("rows", "rows", keys.size(), values.rows);
  expect_size("rows", "columns", table.sizes().dim, values.columns);
  table.add(keys, given.data, values.data, now_ms);
}

std::size_t read(ItemAggregates& table, const py::object& items, const py::object& wanted,
                 const py::object& features, std::int64_t now_ms, std::int64_t max_age_ms,
                 float least_weight, const py::object& rows, const py::object& weights,
                 const py::object& found) {
  const auto keys = vector_of<Items>(items, Access::kRead, "items");
  const std::size_t n = keys.size();
  const auto asked = vector_of<const std::uint8_t>(wanted, Access::kRead, "wanted", n);
  const auto query = vector_of<const float>(features, Access::kRead, "features");
  expect_size("features", "values", table.sizes().features, query.size());
  const Matrix out = matrix_of<float>(rows, Access::kWrite, "rows");
  expect_size("rows", "rows", n, out.rows);
  expect_size("rows", "columns", table.sizes().dim, out.columns);
  const auto heavy = vector_of<float>(weights, Access::kWrite, "weights", n);
  const auto there = vector_of<std::uint8_t>(found, Access::kWrite, "found", n);
  return table.read(keys, asked.data(), {query.data(), now_ms, max_age_ms, least_weight}, out.data,
                    heavy.data(), there.data());
}

}  // namespace
}  // namespace predawn

PYBIND11_MODULE(_aggregates, module) {
  using predawn::ItemAggregates;
  namespace py = pybind11;
  module.doc() = "Regressions of items' embeddings on their users. Batched calls.";
  py::class_<ItemAggregates>(module, "ItemAggregates", py::is_final())
      .def(py::init(&predawn::made), py::arg("items"), py::arg("features"), py::arg("dim"),
           py::arg("half_life_ms"), py::arg("noise") = 1.0)
      .def_property_readonly("capacity", &ItemAggregates::capacity)
      .def_property_readonly("used", &ItemAggregates::used)
      .def_property_readonly("evictions", &ItemAggregates::evictions)
      .def_property_readonly("bytes", &ItemAggregates::bytes)
      .def("add", &predawn::add, py::arg("items"), py::arg("features"), py::arg("rows"),
           py::arg("now_ms"))
      .def("read", &predawn::read, py::arg("items"), py::arg("wanted"), py::arg("features"),
           py::arg("now_ms"), py::arg("max_age_ms"), py::arg("least_weight"), py::arg("rows"),
           py::arg("weights"), py::arg("found"))
      .def("forget", &ItemAggregates::forget);
}
