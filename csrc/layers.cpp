// The Python face of what models do on the CPU for every request. No logic: arguments are checked
// here, with a ValueError that names the argument, and the headers do the work.

#include "layers.hpp"

#include <pybind11/pybind11.h>

#include <string>

#include "average.hpp"
#include "bag_pool.hpp"
#include "dense.hpp"

namespace predawn {
namespace {

Panels panels_of(const py::object& weights) {
  const Matrix given = matrix_of<const float>(weights, Access::kRead, "weights");
  return {given.data, given.rows, given.columns};
}

void matvec(const py::object& x, const Panels& panels, const py::object& bias,
            const py::object& out, bool relu, const std::string& isa) {
  const Matrix rows = matrix_of<const float>(x, Access::kRead, "x");
  const Matrix results = matrix_of<float>(out, Access::kWrite, "out");
  expect_size("x", "columns", panels.depth(), rows.columns);
  expect_size("out", "rows", rows.rows, results.rows);
  expect_size("out", "columns", panels.columns(), results.columns);
  const float* begin = nullptr;
  if (!bias.is_none()) {
    const auto given = vector_of<const float>(bias, Access::kRead, "bias");
    expect_size("bias", "values", panels.columns(), given.size());
    begin = given.data();
  }
  const Arithmetic by = arithmetic(isa_of(isa));
  const MaybeReleased released(2 * rows.rows * panels.depth() * panels.columns() / 8);
  begin_at(begin, rows.rows, results.columns, results.data);
  multiply(by, {rows.data, rows.columns}, panels, {results.data, results.columns}, rows.rows, relu);
}

// The sizes of a batch to be averaged.
struct Averaged {
  Matrix<const float> raw;
  Matrix<const float> before;
  Matrix<float> out;

  Averaged(const py::object& of_raw, const py::object& of_before, const py::object& of_out)
      : raw(matrix_of<const float>(of_raw, Access::kRead, "raw")),
        before(matrix_of<const float>(of_before, Access::kRead, "previous")),
        out(matrix_of<float>(of_out, Access::kWrite, "out")) {
    if (raw.columns == 0) refuse("raw", "expected a column at least");
    expect_size("previous", "rows", raw.rows, before.rows);
    expect_size("out", "rows", raw.rows, out.rows);
  }
};

void average_quantise(const py::object& raw, const py::object& previous, const py::object& out,
                      const std::string& dtype) {
  const Averaged of(raw, previous, out);
  const std::size_t dim = of.raw.columns;
  const std::size_t kept = of.before.columns / dim;
  expect_size("previous", "columns (a multiple of raw's)", kept * dim, of.before.columns);
  expect_size("out", "columns", (kept + 1) * dim, of.out.columns);
  Rounding rounding(dtype_of(dtype), dim);
  const MaybeReleased released(of.out.rows * of.out.columns * 2);
  for (std::size_t row = 0; row < of.raw.rows; ++row) {
    float* to = of.out.data + row * of.out.columns;
    mean_of_parts(of.raw.data + row * dim, of.before.data + row * of.before.columns, dim, kept, to);
    rounding.apply(to, kept + 1);
  }
}

void exponential_quantise(const py::object& raw, const py::object& before, double weight,
                          const py::object& out, const std::string& dtype) {
  const Averaged of(raw, before, out);
  const std::size_t dim = of.raw.columns;
  expect_size("previous", "columns", dim, of.before.columns);
  expect_size("out", "columns", dim, of.out.columns);
  if (!(weight > 0 && weight <= 1)) refuse("weight", "expected above 0, at most 1");
  Rounding rounding(dtype_of(dtype), dim);
  const MaybeReleased released(of.out.rows * of.out.columns * 2);
  for (std::size_t row = 0; row < of.raw.rows; ++row) {
    float* to = of.out.data + row * dim;
    exponential_mean(of.raw.data + row * dim, of.before.data + row * dim,
                     static_cast<float>(weight), dim, to);
    rounding.apply(to, 1);
  }
}

void quantise(const py::object& rows, const py::object& out, std::size_t dim,
              const std::string& dtype) {
  const Matrix from = matrix_of<const float>(rows, Access::kRead, "rows");
  const Matrix to = matrix_of<float>(out, Access::kWrite, "out");
  expect_size("out", "rows", from.rows, to.rows);
  expect_size("out", "columns", from.columns, to.columns);
  if (dim == 0 || from.columns % dim != 0) {
    refuse("dim", "expected a divisor of " + std::to_string(from.columns) + ", got " +
                      std::to_string(dim));
  }
  Rounding rounding(dtype_of(dtype), dim);
  const MaybeReleased released(to.rows * to.columns * 2);
  std::copy_n(from.data, from.rows * from.columns, to.data);
  rounding.apply(to.data, to.rows * to.columns / dim);
}

std::size_t pooled(const py::object& table, const py::object& ids, const py::object& offsets,
                   const py::object& out, const py::object& table_scales, const py::object& weights,
                   bool mean, const std::string& isa) {
  const StoredRows rows = stored_rows_of(table, table_scales, "table");
  const auto positions = vector_of<const std::int64_t>(ids, Access::kRead, "ids");
  const auto lists = offsets_of(offsets, positions.size());
  const Matrix results = matrix_of<float>(out, Access::kWrite, "out");
  expect_size("out", "rows", lists.size() - 1, results.rows);
  expect_size("out", "columns", rows.width, results.columns);
  const float* factors = nullptr;
  if (!weights.is_none()) {
    factors = vector_of<const float>(weights, Access::kRead, "weights", positions.size()).data();
  }
  const Isa chosen = isa_of(isa);
  const MaybeReleased released(positions.size() * rows.width);
  return bag_pool(rows, {positions, lists, factors, mean}, chosen, results.data);
}

void bind_dense(py::module_& module) {
  py::class_<Panels>(module, "Panels", py::is_final())
      .def(py::init(&panels_of), py::arg("weights"))
      .def_property_readonly("depth", &Panels::depth)
      .def_property_readonly("columns", &Panels::columns)
      .def_property_readonly("bytes", &Panels::bytes);
  module.def("matvec", &matvec, py::arg("x"), py::arg("panels"), py::arg("bias"), py::arg("out"),
             py::arg("relu") = false, py::arg("isa") = "");
}

void bind_rows(py::module_& module) {
  module.def("average_quantise", &average_quantise, py::arg("raw"), py::arg("previous"),
             py::arg("out"), py::arg("dtype") = "fp32");
  module.def("exponential_quantise", &exponential_quantise, py::arg("raw"), py::arg("previous"),
             py::arg("weight"), py::arg("out"), py::arg("dtype") = "fp32");
  module.def("quantise", &quantise, py::arg("rows"), py::arg("out"), py::arg("dim"),
             py::arg("dtype"));
  module.def("bag_pool", &pooled, py::arg("table"), py::arg("ids"), py::arg("offsets"),
             py::arg("out"), py::arg("table_scales") = py::none(), py::arg("weights") = py::none(),
             py::arg("mean") = false, py::arg("isa") = "");
}

}  // namespace
}  // namespace predawn

PYBIND11_MODULE(_layers, module) {
  module.doc() = "Layers on the CPU for the request path. Batched calls; caller-owned buffers.";
  module.attr("ISA") = predawn::name_of(predawn::best_isa());
  predawn::bind_dense(module);
  predawn::bind_rows(module);
  predawn::bind_first_layer(module);
  predawn::bind_ranker(module);
}
