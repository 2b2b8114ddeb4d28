// The Python face of a ranker's lookups and of its layers after the first. No logic.

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <memory>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "cross_network.hpp"
#include "item_lookup.hpp"
#include "layers.hpp"

namespace predawn {
namespace {

using OfCross = std::tuple<py::object, py::object, py::object>;  // v, u, bias
using OfLayer = std::tuple<py::object, py::object>;              // weights, bias

std::vector<float> bias_of(const py::object& bias, std::size_t columns) {
  const auto given = vector_of<const float>(bias, Access::kRead, "bias");
  expect_size("bias", "values", columns, given.size());
  return {given.begin(), given.end()};
}

Panels panels_of(const py::object& weights, const char* argument, std::size_t depth) {
  const Matrix given = matrix_of<const float>(weights, Access::kRead, argument);
  expect_size(argument, "rows", depth, given.rows);
  return {given.data, given.rows, given.columns};
}

std::unique_ptr<CrossNetwork> network_of(std::size_t width, const std::vector<OfCross>& of_crosses,
                                         const std::vector<OfLayer>& of_layers,
                                         const std::string& isa) {
  if (of_layers.empty()) refuse("layers", "expected one at least");
  std::vector<Cross> crosses;
  for (const auto& [v, u, bias] : of_crosses) {
    Panels down = panels_of(v, "v", width);
    Panels up = panels_of(u, "u", down.columns());
    expect_size("u", "columns", width, up.columns());
    crosses.push_back({std::move(down), std::move(up), bias_of(bias, width)});
  }
  std::vector<Dense> layers;
  std::size_t depth = width;
  for (const auto& [weights, bias] : of_layers) {
    Panels panels = panels_of(weights, "weights", depth);
    depth = panels.columns();
    layers.push_back({std::move(panels), bias_of(bias, depth)});
  }
  return std::make_unique<CrossNetwork>(std::move(crosses), std::move(layers), isa_of(isa));
}

void run(const CrossNetwork& network, const py::object& first, const py::object& out) {
  const Matrix rows = matrix_of<const float>(first, Access::kRead, "first");
  const Matrix results = matrix_of<float>(out, Access::kWrite, "out");
  expect_size("first", "columns", network.width(), rows.columns);
  expect_size("out", "rows", rows.rows, results.rows);
  expect_size("out", "columns", network.tasks(), results.columns);
  const MaybeReleased released(rows.rows * network.weights() / 4);
  network.run(rows.data, rows.rows, results.data);
}

void positions(const py::object& hashes, const py::object& items, const py::object& out) {
  const auto table = vector_of<const std::uint64_t>(hashes, Access::kRead, "hashes");
  const auto given = vector_of<const std::uint64_t>(items, Access::kRead, "items");
  const auto found = vector_of<std::int64_t>(out, Access::kWrite, "out", given.size());
  const MaybeReleased released(given.size() * 500);
  sorted_positions(table, given, found.data());
}

void hashed_rows(const py::object& items, std::uint64_t salt, std::uint64_t rows,
                 const py::object& out) {
  if (rows == 0) refuse("rows", "expected 1 or more");
  const auto given = vector_of<const std::uint64_t>(items, Access::kRead, "items");
  const auto found = vector_of<std::int64_t>(out, Access::kWrite, "out", given.size());
  const MaybeReleased released(given.size() * 50);
  for (std::size_t i = 0; i < given.size(); ++i) found[i] = hashed_row(given[i], salt, rows);
}

void encode(const py::object& features, const py::object& low, const py::object& width,
            const py::object& mean, const py::object& out) {
  const Matrix values = matrix_of<const float>(features, Access::kRead, "features");
  const Matrix begin = matrix_of<const float>(low, Access::kRead, "low");
  const Matrix widths = matrix_of<const float>(width, Access::kRead, "width");
  const Matrix means = matrix_of<const float>(mean, Access::kRead, "mean");
  const Matrix encoded = matrix_of<float>(out, Access::kWrite, "out");
  const std::size_t bins = begin.columns;
  expect_size("low", "rows", values.columns, begin.rows);
  for (const auto& [name, of] : {std::pair{"width", widths}, std::pair{"mean", means}}) {
    expect_size(name, "rows", begin.rows, of.rows);
    expect_size(name, "columns", bins, of.columns);
  }
  expect_size("out", "rows", values.rows, encoded.rows);
  expect_size("out", "columns", values.columns * bins, encoded.columns);
  const MaybeReleased released(values.rows * values.columns * 200);
  for (std::size_t i = 0; i < values.rows * values.columns; ++i) {
    const std::size_t at = i % values.columns * bins;
    encode_feature(values.data[i], begin.data + at, widths.data + at, means.data + at, bins,
                   encoded.data + i * bins);
  }
}

}  // namespace

void bind_ranker(py::module_& module) {
  py::class_<CrossNetwork>(module, "CrossNetwork", py::is_final())
      .def(py::init(&network_of), py::arg("width"), py::arg("crosses"), py::arg("layers"),
           py::arg("isa") = "")
      .def_property_readonly("width", &CrossNetwork::width)
      .def_property_readonly("tasks", &CrossNetwork::tasks)
      .def("run", &run, py::arg("first"), py::arg("out"));
  module.def("sorted_positions", &positions, py::arg("hashes"), py::arg("items"), py::arg("out"));
  module.def("hashed_rows", &hashed_rows, py::arg("items"), py::arg("salt"), py::arg("rows"),
             py::arg("out"));
  module.def("encode", &encode, py::arg("features"), py::arg("low"), py::arg("width"),
             py::arg("mean"), py::arg("out"));
}

}  // namespace predawn
