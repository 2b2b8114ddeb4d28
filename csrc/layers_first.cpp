// The Python face of a ranker's first layer (first_layer.hpp). No logic: arguments are checked.

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "first_layer.hpp"
#include "layers.hpp"

namespace predawn {
namespace {

// A first layer and the arrays that it looks into.
class GatherL1 {
 public:
  GatherL1(FirstLayer layer, std::vector<py::object> held, Isa isa)
      : layer_(std::move(layer)), held_(std::move(held)), isa_(isa) {}

  [[nodiscard]] std::size_t columns() const noexcept { return layer_.weights.columns(); }

  void run(const py::object& out, const py::object& offsets, const py::object& user_part,
           const py::object& taste, const py::object& projected_at, const py::object& vector_at,
           const py::object& pairs, const py::object& pair_sources, const py::object& dense) const {
    const Matrix results = matrix_of<float>(out, Access::kWrite, "out");
    expect_size("out", "columns", columns(), results.columns);
    const std::size_t rows = results.rows;
    Candidates batch{};
    batch.out = results.data;
    batch.offsets = offsets_of(offsets, rows);
    const std::size_t requests = batch.offsets.size() - 1;
    batch.user_part = floats(user_part, "user_part", requests, columns());
    const bool has_match = layer_.match != nullptr;
    batch.taste = floats(taste, "taste", requests, has_match ? layer_.vectors.width : 0);
    batch.projected = positions(projected_at, "projected_at", layer_.projected, rows);
    batch.vectors = positions(vector_at, "vector_at", layer_.vectors, rows);
    batch.pairs = floats(pairs, "pairs", rows, layer_.pairs_width());
    batch.pair_sources = sources(pair_sources, rows);
    batch.dense = floats(dense, "dense", rows, layer_.dense_width);
    const MaybeReleased released(rows * (layer_.depth() + 8) * columns() / 4);
    predawn::run(layer_, batch, isa_);
  }

 private:
  // [rows, columns], or None where there are no columns.
  static const float* floats(const py::object& object, const char* argument, std::size_t rows,
                             std::size_t columns) {
    if (columns == 0) return absent(object, argument);
    there(object, argument);
    const Matrix given = matrix_of<const float>(object, Access::kRead, argument);
    expect_size(argument, "rows", rows, given.rows);
    expect_size(argument, "columns", columns, given.columns);
    return given.data;
  }

  static void there(const py::object& object, const char* argument) {
    if (object.is_none()) refuse(argument, "this layer needs it");
  }

  static std::nullptr_t absent(const py::object& object, const char* argument) {
    if (!object.is_none()) refuse(argument, "this layer has no use for it");
    return nullptr;
  }

  static std::span<const std::int64_t> positions(const py::object& object, const char* argument,
                                                 const StoredRows& table, std::size_t rows) {
    if (table.width == 0) {
      absent(object, argument);
      return {};
    }
    there(object, argument);
    const auto given = vector_of<const std::int64_t>(object, Access::kRead, argument);
    expect_size(argument, "positions", rows, given.size());
    const std::size_t outside = first_outside(table, given);
    if (outside < given.size()) {
      refuse(argument, "position " + std::to_string(given[outside]) + " is not in a table of " +
                           std::to_string(table.count));
    }
    return given;
  }

  [[nodiscard]] const std::uint8_t* sources(const py::object& object, std::size_t rows) const {
    const std::size_t models = layer_.pair_widths.size();
    if (models == 0) return absent(object, "pair_sources");
    there(object, "pair_sources");
    const Matrix given = matrix_of<const std::uint8_t>(object, Access::kRead, "pair_sources");
    expect_size("pair_sources", "rows", rows, given.rows);
    expect_size("pair_sources", "columns", models, given.columns);
    for (std::size_t i = 0; i < rows * models; ++i) {
      if (given.data[i] >= layer_.sources) {
        refuse("pair_sources", "no source " + std::to_string(given.data[i]));
      }
    }
    return given.data;
  }

  FirstLayer layer_;
  std::vector<py::object> held_;
  Isa isa_;
};

std::size_t sources_of(const Matrix<const float>& part, std::size_t models, std::size_t columns,
                       std::int64_t missing) {
  expect_size("source_part", "columns", columns, part.columns);
  if (part.rows == 0 || part.rows % models != 0) {
    refuse("source_part", "expected as many rows for each of " + std::to_string(models) +
                              " pair models, got " + std::to_string(part.rows));
  }
  const std::size_t sources = part.rows / models;
  if (missing < 0 || static_cast<std::size_t>(missing) >= std::min<std::size_t>(sources, 256)) {
    refuse("missing_source",
           "expected 0 to " + std::to_string(sources - 1) + ", got " + std::to_string(missing));
  }
  return sources;
}

std::unique_ptr<GatherL1> make(const py::object& weights, const py::object& projected,
                               const py::object& projected_scales, const py::object& vectors,
                               const py::object& vectors_scales, bool multiply_vectors,
                               const py::object& match, std::vector<std::size_t> pair_dims,
                               const py::object& source_part, std::int64_t missing_source,
                               std::size_t dense, bool relu, const std::string& isa) {
  const Matrix given = matrix_of<const float>(weights, Access::kRead, "weights");
  FirstLayer layer{.weights = Panels(given.data, given.rows, given.columns),
                   .projected = stored_rows_of(projected, projected_scales, "projected"),
                   .vectors = stored_rows_of(vectors, vectors_scales, "vectors"),
                   .has_vectors_multiplied = multiply_vectors,
                   .pair_widths = std::move(pair_dims),
                   .dense_width = dense,
                   .is_rectified = relu};
  if (layer.projected.width != 0) {
    expect_size("projected", "columns", given.columns, layer.projected.width);
  }
  if (!match.is_none()) {
    const auto row = vector_of<const float>(match, Access::kRead, "match");
    expect_size("match", "values", given.columns, row.size());
    if (layer.vectors.width == 0) refuse("match", "needs vectors to match with");
    layer.match = row.data();
  }
  if (!layer.pair_widths.empty()) {
    const Matrix part = matrix_of<const float>(source_part, Access::kRead, "source_part");
    layer.sources = sources_of(part, layer.pair_widths.size(), given.columns, missing_source);
    layer.missing = static_cast<std::uint8_t>(missing_source);
    layer.source_part = part.data;
  }
  expect_size("weights", "rows, as many as the inputs are wide", layer.depth(), given.rows);
  return std::make_unique<GatherL1>(std::move(layer),
                                    std::vector<py::object>{projected, projected_scales, vectors,
                                                            vectors_scales, match, source_part},
                                    isa_of(isa));
}

}  // namespace

void bind_first_layer(py::module_& module) {
  const py::none none;
  py::class_<GatherL1>(module, "GatherL1", py::is_final())
      .def(py::init(&make), py::arg("weights"), py::kw_only(), py::arg("projected") = none,
           py::arg("projected_scales") = none, py::arg("vectors") = none,
           py::arg("vectors_scales") = none, py::arg("multiply_vectors") = false,
           py::arg("match") = none, py::arg("pair_dims") = std::vector<std::size_t>{},
           py::arg("source_part") = none, py::arg("missing_source") = 0, py::arg("dense") = 0,
           py::arg("relu") = false, py::arg("isa") = "")
      .def_property_readonly("columns", &GatherL1::columns)
      .def("run", &GatherL1::run, py::arg("out"), py::arg("offsets"), py::arg("user_part"),
           py::arg("taste") = none, py::arg("projected_at") = none, py::arg("vector_at") = none,
           py::arg("pairs") = none, py::arg("pair_sources") = none, py::arg("dense") = none);
}

}  // namespace predawn
