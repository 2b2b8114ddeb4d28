// The Python face of the store, histograms and hashes. No logic: arguments are checked here (with a
// ValueError that names the argument), the GIL is released, and the headers do the work.

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>
#include <sys/random.h>

#include <memory>
#include <optional>
#include <string>

#include "arrays.hpp"
#include "cache.hpp"
#include "histogram.hpp"
#include "siphash.hpp"

namespace predawn {
namespace {

constexpr std::uint64_t kCapacityMax = std::uint64_t{1} << 36;
constexpr std::uint64_t kDimMax = 1 << 16;
constexpr std::uint64_t kPartsMax = 16;

std::uint64_t bounded(std::int64_t value, std::uint64_t most, const char* argument) {
  if (value < 1 || static_cast<std::uint64_t>(value) > most) {
    refuse(argument, "expected 1 to " + std::to_string(most) + ", got " + std::to_string(value));
  }
  return static_cast<std::uint64_t>(value);
}

void not_negative(std::int64_t value, const char* argument) {
  if (value < 0) refuse(argument, "expected 0 or more, got " + std::to_string(value));
}

template <class Unsigned>
Unsigned fitting(std::int64_t value, const char* argument) {
  constexpr std::int64_t kMost = std::numeric_limits<Unsigned>::max();
  if (value < 0 || value > kMost) {
    refuse(argument, "expected 0 to " + std::to_string(kMost) + ", got " + std::to_string(value));
  }
  return static_cast<Unsigned>(value);
}

Dtype dtype_of(const std::string& name) {
  if (name == "fp16") return Dtype::kFp16;
  if (name == "fp32") return Dtype::kFp32;
  refuse("dtype", "expected \"fp16\" or \"fp32\", got \"" + name + "\"");
}

IdKind id_kind_of(std::int64_t kind) {
  if (kind == 0) return IdKind::kInteger;
  if (kind == 1) return IdKind::kString;
  refuse("id_kind", "expected INTEGER (0) or STRING (1), got " + std::to_string(kind));
}

Seed seed_of(const std::optional<py::bytes>& given) {
  Seed seed{};
  if (!given) {
    if (::getrandom(seed.data(), seed.size(), 0) != static_cast<ssize_t>(seed.size())) {
      throw std::runtime_error("the system gave no random bytes for the seed of a table");
    }
    return seed;
  }
  const auto bytes = static_cast<std::string_view>(*given);
  if (bytes.size() != seed.size()) {
    refuse("seed", "expected 32 bytes, got " + std::to_string(bytes.size()));
  }
  std::memcpy(seed.data(), bytes.data(), seed.size());
  return seed;
}

SipKey sip_key_of(const py::bytes& key) {
  const auto bytes = static_cast<std::string_view>(key);
  if (bytes.size() != sizeof(SipKey)) {
    refuse("key", "expected 16 bytes, got " + std::to_string(bytes.size()));
  }
  return sip_key(bytes.data());
}

std::unique_ptr<Cache> create(std::int64_t capacity, std::int64_t dim, std::int64_t parts,
                              const std::string& dtype, std::int64_t id_kind,
                              const std::optional<py::bytes>& seed) {
  const TableShape shape{bounded(capacity, kCapacityMax, "capacity"),
                         static_cast<std::uint32_t>(bounded(dim, kDimMax, "dim")),
                         static_cast<std::uint32_t>(bounded(parts, kPartsMax, "parts")),
                         dtype_of(dtype), id_kind_of(id_kind)};
  return std::make_unique<Cache>(shape, seed_of(seed));
}

py::tuple key_of_string(const Cache& cache, const py::str& text) {
  if (cache.table().header()->id_kind != IdKind::kString) {
    refuse("text", "this table is keyed by integers; a string has no key in it");
  }
  py::ssize_t size = 0;
  const char* utf8 = PyUnicode_AsUTF8AndSize(text.ptr(), &size);
  if (utf8 == nullptr) throw py::error_already_set();
  const Key key = cache.key_of_string(utf8, static_cast<std::size_t>(size));
  return py::make_tuple(key.lo, key.hi);
}

// Whether `out` takes whole rows or only what is served.
std::uint32_t parts_wanted(const RowFormat& row, const Matrix<float>& out) {
  if (out.columns == row.dim()) return 1;
  if (out.columns == row.values()) return row.parts();
  refuse("out", "expected " + std::to_string(row.dim()) + " (dim) or " +
                    std::to_string(row.values()) + " (parts * dim) columns, got " +
                    std::to_string(out.columns));
}

void same_rows(const Matrix<float>& matrix, std::size_t keys, const char* argument) {
  if (matrix.rows != keys) {
    refuse(argument, "expected " + std::to_string(keys) + " rows (one per key), got " +
                         std::to_string(matrix.rows));
  }
}

std::size_t get_many(Cache& cache, const py::array& keys, std::int64_t now_ms,
                     std::int64_t max_age_ms, const py::array& out, const py::array& ages,
                     const std::optional<py::array>& snapshots) {
  const std::span<const Key> wanted = keys_of(keys, Access::kRead);
  const Matrix<float> rows = matrix_of<float>(out, Access::kWrite, "out");
  same_rows(rows, wanted.size(), "out");
  const std::uint32_t parts = parts_wanted(cache.table().row(), rows);
  std::int64_t* ages_out =
      vector_of<std::int64_t>(ages, Access::kWrite, "ages", wanted.size()).data();
  std::uint32_t* snapshots_out =
      snapshots
          ? vector_of<std::uint32_t>(*snapshots, Access::kWrite, "snapshots", wanted.size()).data()
          : nullptr;
  not_negative(max_age_ms, "max_age_ms");
  const py::gil_scoped_release released;
  return cache.get_many(wanted, now_ms, max_age_ms, parts, rows.data, ages_out, snapshots_out);
}

std::size_t put_many(Cache& cache, const py::array& keys, const py::array& rows,
                     std::int64_t now_ms, std::int64_t snapshot, std::int64_t origin) {
  const std::span<const Key> written = keys_of(keys, Access::kRead);
  const Matrix<const float> values = matrix_of<const float>(rows, Access::kRead, "rows");
  const std::size_t columns = cache.table().row().values();
  if (values.rows != written.size() || values.columns != columns) {
    refuse("rows", "expected shape [" + std::to_string(written.size()) + ", " +
                       std::to_string(columns) + "] (parts * dim columns), got " +
                       shape_text(rows));
  }
  const PutMeta meta{now_ms, fitting<std::uint32_t>(snapshot, "snapshot"),
                     fitting<std::uint8_t>(origin, "origin")};
  const py::gil_scoped_release released;
  return cache.put_many(written, values.data, meta);
}

std::size_t touch_many(Cache& cache, const py::array& keys) {
  const std::span<const Key> touched = keys_of(keys, Access::kRead);
  const py::gil_scoped_release released;
  return cache.touch_many(touched);
}

std::size_t invalidate_many(Cache& cache, const py::array& keys) {
  const std::span<const Key> removed = keys_of(keys, Access::kRead);
  const py::gil_scoped_release released;
  return cache.invalidate_many(removed);
}

ScanStep scan_released(Cache& cache, std::uint64_t cursor, const ScanOut& out) {
  const py::gil_scoped_release released;
  return cache.scan(cursor, out);
}

py::tuple scan(Cache& cache, std::int64_t cursor, const py::array& keys,
               const py::array& written_at_ms, const py::array& snapshots,
               const py::array& origins) {
  const std::span<Key> room = keys_of(keys, Access::kWrite);
  const std::size_t n = room.size();
  if (n == 0) refuse("keys", "must have room for an entry at least");
  const ScanOut out{
      room.data(),
      vector_of<std::int64_t>(written_at_ms, Access::kWrite, "written_at_ms", n).data(),
      vector_of<std::uint32_t>(snapshots, Access::kWrite, "snapshots", n).data(),
      vector_of<std::uint8_t>(origins, Access::kWrite, "origins", n).data(), n};
  if (cursor < 0 || static_cast<std::uint64_t>(cursor) >= cache.table().slots()) {
    refuse("cursor", "expected 0 or the cursor of an earlier call, got " + std::to_string(cursor));
  }
  const ScanStep step = scan_released(cache, static_cast<std::uint64_t>(cursor), out);
  return py::make_tuple(step.entries, step.next);
}

py::dict stats(const Cache& cache) {
  const Counters& counters = cache.counters();
  py::dict all;
  all["capacity"] = cache.table().slots();
  all["entries"] = counters.entries();
  all["bytes"] = cache.table().bytes();
  all["hits"] = counters.read(Event::kHit);
  all["misses"] = counters.read(Event::kMiss);
  all["expired"] = counters.read(Event::kExpired);
  all["inserts"] = counters.read(Event::kInsert);
  all["overwrites"] = counters.read(Event::kOverwrite);
  all["evictions_live"] = counters.read(Event::kEvictedLive);
  all["evictions_expired"] = counters.read(Event::kEvictedExpired);
  all["invalidations"] = counters.read(Event::kInvalidation);
  all["puts_given_up"] = counters.read(Event::kPutGivenUp);
  return all;
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
}

void bind_cache(py::module_& module) {
  const auto row = [](const Cache& cache) -> const RowFormat& { return cache.table().row(); };
  py::class_<Cache>(module, "EmbeddingCache", py::is_final())
      .def_static("create", &create, py::kw_only(), py::arg("capacity"), py::arg("dim"),
                  py::arg("parts") = 1, py::arg("dtype") = "fp16", py::arg("id_kind") = 0,
                  py::arg("seed") = py::none())
      .def_property_readonly("dim", [row](const Cache& cache) { return row(cache).dim(); })
      .def_property_readonly("parts", [row](const Cache& cache) { return row(cache).parts(); })
      .def_property_readonly("dtype",
                             [row](const Cache& cache) {
                               return row(cache).dtype() == Dtype::kFp16 ? "fp16" : "fp32";
                             })
      .def_property_readonly(
          "id_kind",
          [](const Cache& cache) { return static_cast<int>(cache.table().header()->id_kind); })
      .def_property_readonly("capacity", [](const Cache& cache) { return cache.table().slots(); })
      .def_property_readonly("bytes", [](const Cache& cache) { return cache.table().bytes(); })
      .def("key_of_string", &key_of_string, py::arg("text"))
      .def("get_many", &get_many, py::arg("keys"), py::arg("now_ms"), py::arg("max_age_ms"),
           py::arg("out"), py::arg("ages"), py::arg("snapshots") = py::none())
      .def("put_many", &put_many, py::arg("keys"), py::arg("rows"), py::arg("now_ms"),
           py::arg("snapshot"), py::arg("origin"))
      .def("touch_many", &touch_many, py::arg("keys"))
      .def("invalidate_many", &invalidate_many, py::arg("keys"))
      .def("scan", &scan, py::arg("cursor"), py::arg("keys"), py::arg("written_at_ms"),
           py::arg("snapshots"), py::arg("origins"))
      .def("stats", &stats)
      .def("check", &Cache::check, py::call_guard<py::gil_scoped_release>());
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
  module.attr("INTEGER") = static_cast<int>(predawn::IdKind::kInteger);
  module.attr("STRING") = static_cast<int>(predawn::IdKind::kString);
  predawn::bind_hashes(module);
  predawn::bind_cache(module);
  predawn::bind_histogram(module);
}
