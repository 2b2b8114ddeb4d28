// The Python face of reading pairs, and of looking at entries without using them. No logic:
// arguments are checked here, with a ValueError that names the argument.

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <string>

#include "arrays.hpp"
#include "bindings.hpp"
#include "pair_read.hpp"
#include "store_error.hpp"

namespace predawn {
namespace {

PairUser user_of(const py::object& user, const Cache& pairs) {
  const bool is_string = PyUnicode_Check(user.ptr()) != 0;
  if (is_string != (pairs.header().id_kind == IdKind::kString)) {
    refuse("user", "is not of the id kind of the tables");
  }
  if (!is_string) return {false, user.cast<std::uint64_t>(), {}};
  py::ssize_t size = 0;
  const char* utf8 = PyUnicode_AsUTF8AndSize(user.ptr(), &size);
  if (utf8 == nullptr) throw py::error_already_set();
  return {true, 0, {utf8, static_cast<std::size_t>(size)}};
}

Cache* open_table(Cache* table) {
  if (table == nullptr || table->is_open()) return table;
  throw StoreError("this store is closed: attach to it, or create it, anew");
}

PairTables tables_of(Cache& pairs, Cache& invalidated, Cache* fills, std::int64_t level) {
  const PairTables tables{open_table(&pairs), open_table(&invalidated), open_table(fills),
                          fitting<std::uint8_t>(level, "level")};
  if (pairs.header().parts != 1) refuse("pairs", "expected rows of one part");
  if (fills != nullptr && fills->header().dim < pairs.header().dim) {
    refuse("fills", "expected rows of " + std::to_string(pairs.header().dim) +
                        " values at least, got " + std::to_string(fills->header().dim));
  }
  return tables;
}

PairRules rules_of(std::int64_t now_ms, std::int64_t max_age_ms, std::int64_t fill_age_ms,
                   const py::object& versions) {
  not_negative(max_age_ms, "max_age_ms");
  not_negative(fill_age_ms, "fill_age_ms");
  return {now_ms, max_age_ms, fill_age_ms,
          vector_of<const std::uint32_t>(versions, Access::kRead, "versions")};
}

std::uint8_t read(Cache& pairs, Cache& invalidated, Cache* fills, std::int64_t level,
                  const py::object& user, const py::object& items, std::int64_t now_ms,
                  std::int64_t max_age_ms, std::int64_t fill_age_ms, const py::object& versions,
                  const py::object& default_row, const py::object& rows, const py::object& ages,
                  const py::object& sources) {
  const PairTables tables = tables_of(pairs, invalidated, fills, level);
  const PairUser whose = user_of(user, pairs);
  const PairRules rules = rules_of(now_ms, max_age_ms, fill_age_ms, versions);
  const auto wanted = vector_of<const std::uint64_t>(items, Access::kRead, "items");
  const std::size_t n = wanted.size();
  const std::size_t dim = pairs.header().dim;
  const auto otherwise = vector_of<const float>(default_row, Access::kRead, "default");
  if (otherwise.size() != dim) {
    refuse("default",
           "expected " + std::to_string(dim) + " values, got " + std::to_string(otherwise.size()));
  }
  const Matrix<float> out = matrix_of<float>(rows, Access::kWrite, "rows");
  if (out.rows != n || out.columns != dim) {
    refuse("rows", "expected shape [" + std::to_string(n) + ", " + std::to_string(dim) + "]");
  }
  const PairsOut where{out.data, vector_of<std::int64_t>(ages, Access::kWrite, "ages", n).data(),
                       vector_of<std::uint8_t>(sources, Access::kWrite, "sources", n).data()};
  const MaybeReleased released(n);
  return read_pairs(tables, whose, wanted, rules, otherwise.data(), where);
}

std::uint8_t peek(Cache& pairs, Cache& invalidated, Cache* fills, std::int64_t level,
                  const py::object& user, const py::object& items, std::int64_t now_ms,
                  std::int64_t max_age_ms, std::int64_t fill_age_ms, const py::object& versions,
                  const py::object& ages) {
  const PairTables tables = tables_of(pairs, invalidated, fills, level);
  const PairUser whose = user_of(user, pairs);
  const PairRules rules = rules_of(now_ms, max_age_ms, fill_age_ms, versions);
  const auto wanted = vector_of<const std::uint64_t>(items, Access::kRead, "items");
  const auto out = vector_of<std::int64_t>(ages, Access::kWrite, "ages", wanted.size());
  const MaybeReleased released(wanted.size());
  return peek_pairs(tables, whose, wanted, rules, out.data());
}

std::size_t peek_keys(Cache& cache, const py::object& keys, std::int64_t now_ms,
                      std::int64_t max_age_ms, const py::object& ages,
                      const py::object& snapshots) {
  open_table(&cache);
  const auto wanted = keys_of(keys, Access::kRead);
  const auto out = vector_of<std::int64_t>(ages, Access::kWrite, "ages", wanted.size());
  std::uint32_t* of_snapshots = nullptr;
  if (!snapshots.is_none()) {
    of_snapshots =
        vector_of<std::uint32_t>(snapshots, Access::kWrite, "snapshots", wanted.size()).data();
  }
  not_negative(max_age_ms, "max_age_ms");
  const MaybeReleased released(wanted.size());
  return peek_many(cache.table(), wanted, now_ms, max_age_ms, out.data(), of_snapshots);
}

}  // namespace

void bind_pairs(py::module_& module) {
  py::reinterpret_borrow<py::class_<Cache>>(module.attr("EmbeddingCache"))
      .def("peek_many", &peek_keys, py::arg("keys"), py::arg("now_ms"), py::arg("max_age_ms"),
           py::arg("ages"), py::arg("snapshots") = py::none());
  module.def("read_pairs", &read, py::arg("pairs"), py::arg("invalidated"),
             py::arg("fills").none(true), py::arg("level"), py::arg("user"), py::arg("items"),
             py::arg("now_ms"), py::arg("max_age_ms"), py::arg("fill_age_ms"), py::arg("versions"),
             py::arg("default"), py::arg("rows"), py::arg("ages"), py::arg("sources"));
  module.def("peek_pairs", &peek, py::arg("pairs"), py::arg("invalidated"),
             py::arg("fills").none(true), py::arg("level"), py::arg("user"), py::arg("items"),
             py::arg("now_ms"), py::arg("max_age_ms"), py::arg("fill_age_ms"), py::arg("versions"),
             py::arg("ages"));
}

}  // namespace predawn
