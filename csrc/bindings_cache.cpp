// The Python face of the store. No logic: arguments are checked here (with a ValueError that names
// the argument), the GIL is released, and the headers do the work.

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>
#include <sys/random.h>

#include <chrono>
#include <memory>
#include <optional>
#include <string>

#include "arrays.hpp"
#include "bindings.hpp"
#include "cache_stats.hpp"
#include "store_error.hpp"

namespace predawn {
namespace {

constexpr std::uint64_t kCapacityMax = std::uint64_t{1} << 36;
constexpr std::uint64_t kDimMax = 1 << 16;
constexpr std::uint64_t kPartsMax = 16;
constexpr std::uint64_t kThreadsMax = 64;

std::int64_t system_now_ms() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

Dtype dtype_of(const std::string& name) {
  if (const std::optional<Dtype> dtype = dtype_named(name)) return *dtype;
  refuse("dtype", R"(expected "fp32", "fp16", "bf16" or "int8", got ")" + name + "\"");
}

IdKind id_kind_of(std::int64_t kind) {
  if (kind == 0) return IdKind::kInteger;
  if (kind == 1) return IdKind::kString;
  refuse("id_kind", "expected INTEGER (0) or STRING (1), got " + std::to_string(kind));
}

constexpr const char* kPlacements[] = {"hashed", "user_major"};

Placement placement_of(const std::string& name) {
  if (name == kPlacements[0]) return Placement::kHashed;
  if (name == kPlacements[1]) return Placement::kUserMajor;
  refuse("placement", R"(expected "hashed" or "user_major", got ")" + name + "\"");
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

// A path as the system wants it: str or os.PathLike; empty for none.
std::string path_of(const py::object& given) {
  if (given.is_none()) return {};
  const auto text = py::module_::import("os").attr("fsencode")(given).cast<std::string>();
  if (text.empty()) refuse("path", "expected a file name, got an empty one");
  return text;
}

CacheOptions options_of(bool huge_pages, std::int64_t threads) {
  CacheOptions options;
  options.huge_pages = huge_pages;
  options.threads = static_cast<unsigned>(bounded(threads, kThreadsMax, "threads"));
  return options;
}

std::unique_ptr<Cache> create(const py::object& path, std::int64_t capacity, std::int64_t dim,
                              std::int64_t parts, const std::string& dtype, std::int64_t id_kind,
                              const std::optional<py::bytes>& seed, const std::string& placement,
                              bool huge_pages, std::int64_t threads) {
  const TableShape shape{bounded(capacity, kCapacityMax, "capacity"),
                         static_cast<std::uint32_t>(bounded(dim, kDimMax, "dim")),
                         static_cast<std::uint32_t>(bounded(parts, kPartsMax, "parts")),
                         dtype_of(dtype),
                         id_kind_of(id_kind),
                         placement_of(placement)};
  if (shape.parts > most_parts(shape.dtype)) {
    refuse("parts", "expected at most " + std::to_string(most_parts(shape.dtype)) + " with dtype " +
                        dtype + ", got " + std::to_string(parts));
  }
  const CacheOptions options = options_of(huge_pages, threads);
  const std::string file = path_of(path);
  const Seed chosen = seed_of(seed);
  const py::gil_scoped_release released;
  return Cache::create(file, shape, chosen, system_now_ms(), options);
}

std::unique_ptr<Cache> attach(const py::object& path, std::int64_t threads) {
  const std::string file = path_of(path);
  if (file.empty()) refuse("path", "expected a file name, got None");
  const CacheOptions options = options_of(true, threads);
  const py::gil_scoped_release released;
  return Cache::attach(file, options);
}

void is_open(const Cache& cache) {
  if (!cache.is_open()) throw StoreError("this store is closed: attach to it, or create it, anew");
}

py::tuple key_of_string(const Cache& cache, const py::str& text) {
  is_open(cache);
  if (cache.header().id_kind != IdKind::kString) {
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

void same_rows(std::size_t rows, std::size_t keys, const char* argument) {
  if (rows != keys) {
    refuse(argument,
           "expected " + std::to_string(keys) + " rows (one per key), got " + std::to_string(rows));
  }
}

template <class T>
std::span<T> maybe(const py::object& array, std::size_t length, const char* argument) {
  if (array.is_none()) return {};
  return vector_of<T>(array, Access::kWrite, argument, length);
}

std::size_t get_many(Cache& cache, const py::object& keys, std::int64_t now_ms,
                     std::int64_t max_age_ms, const py::object& out, const py::object& ages,
                     const py::object& snapshots, std::optional<std::int64_t> fresh_ms,
                     const py::object& states) {
  is_open(cache);
  const auto wanted = keys_of(keys, Access::kRead);
  const std::size_t n = wanted.size();
  const Matrix<float> rows = matrix_of<float>(out, Access::kWrite, "out");
  same_rows(rows.rows, n, "out");
  const std::uint32_t parts = parts_wanted(cache.table().row(), rows);
  const auto ages_out = vector_of<std::int64_t>(ages, Access::kWrite, "ages", n);
  const auto snapshots_out = maybe<std::uint32_t>(snapshots, n, "snapshots");
  const auto states_out = maybe<std::uint8_t>(states, n, "states");
  not_negative(max_age_ms, "max_age_ms");
  not_negative(fresh_ms.value_or(0), "fresh_ms");
  const GetRequest request{wanted,
                           now_ms,
                           max_age_ms,
                           fresh_ms.value_or(max_age_ms),
                           parts,
                           rows.data,
                           ages_out.data(),
                           snapshots_out.data(),
                           states_out.data()};
  const MaybeReleased released(n);
  return cache.get_many(request);
}

std::size_t put_many(Cache& cache, const py::object& keys, const py::object& rows,
                     std::int64_t now_ms, std::int64_t snapshot, std::int64_t origin) {
  is_open(cache);
  const auto written = keys_of(keys, Access::kRead);
  const Matrix<const float> values = matrix_of<const float>(rows, Access::kRead, "rows");
  const std::size_t columns = cache.table().row().values();
  if (values.rows != written.size() || values.columns != columns) {
    refuse("rows", "expected shape [" + std::to_string(written.size()) + ", " +
                       std::to_string(columns) + "] (parts * dim columns), got (" +
                       std::to_string(values.rows) + ", " + std::to_string(values.columns) + ")");
  }
  const PutMeta meta{now_ms, fitting<std::uint32_t>(snapshot, "snapshot"),
                     fitting<std::uint8_t>(origin, "origin")};
  const MaybeReleased released(written.size());
  return cache.put_many(written, values.data, meta);
}

std::size_t touch_many(Cache& cache, const py::object& keys) {
  is_open(cache);
  const auto touched = keys_of(keys, Access::kRead);
  const MaybeReleased released(touched.size());
  return cache.touch_many(touched);
}

std::size_t invalidate_many(Cache& cache, const py::object& keys) {
  is_open(cache);
  const auto removed = keys_of(keys, Access::kRead);
  const MaybeReleased released(removed.size());
  return cache.invalidate_many(removed);
}

void invalidate_before(Cache& cache, std::int64_t snapshot) {
  is_open(cache);
  cache.invalidate_before(fitting<std::uint32_t>(snapshot, "snapshot"));
}

ScanStep scan_released(Cache& cache, std::uint64_t cursor, const ScanOut& out) {
  const py::gil_scoped_release released;
  return cache.scan(cursor, out);
}

Matrix<float> scan_rows(const Cache& cache, const py::object& rows, std::size_t n) {
  if (rows.is_none()) return {nullptr, 0, 0};
  Matrix<float> room = matrix_of<float>(rows, Access::kWrite, "rows");
  same_rows(room.rows, n, "rows");
  if (room.columns != cache.table().row().values()) {
    refuse("rows", "expected " + std::to_string(cache.table().row().values()) +
                       " (parts * dim) columns, got " + std::to_string(room.columns));
  }
  return room;
}

py::tuple scan(Cache& cache, std::int64_t cursor, const py::object& keys,
               const py::object& written_at_ms, const py::object& snapshots,
               const py::object& origins, const py::object& rows) {
  is_open(cache);
  const auto room = keys_of(keys, Access::kWrite);
  const std::size_t n = room.size();
  if (n == 0) refuse("keys", "must have room for an entry at least");
  const auto written = vector_of<std::int64_t>(written_at_ms, Access::kWrite, "written_at_ms", n);
  const auto of_snapshots = vector_of<std::uint32_t>(snapshots, Access::kWrite, "snapshots", n);
  const auto of_origins = vector_of<std::uint8_t>(origins, Access::kWrite, "origins", n);
  const Matrix<float> of_rows = scan_rows(cache, rows, n);
  if (cursor < 0 || static_cast<std::uint64_t>(cursor) >= cache.table().capacity()) {
    refuse("cursor", "expected 0 or the cursor of an earlier call, got " + std::to_string(cursor));
  }
  const ScanOut out{room.data(),       written.data(), of_snapshots.data(),
                    of_origins.data(), of_rows.data,   n};
  const ScanStep step = scan_released(cache, static_cast<std::uint64_t>(cursor), out);
  return py::make_tuple(step.entries, step.next);
}

py::dict stats(const Cache& cache) {
  is_open(cache);
  py::dict all;
  for (const auto& [name, value] : stats_of(cache)) all[name] = value;
  return all;
}

py::dict samples(const Cache& cache) {
  is_open(cache);
  const auto copy = [](const Histogram& held) {
    auto copied = std::make_unique<Histogram>();
    copied->merge(held);
    return copied;
  };
  py::dict all;
  all["age_at_hit_ms"] = copy(cache.samples().age_at_hit());
  all["reuse_gap_ms"] = copy(cache.samples().reuse_gap());
  all["lifetime_ms"] = copy(cache.samples().lifetime());
  return all;
}

std::vector<std::string> check(Cache& cache) {
  is_open(cache);
  const py::gil_scoped_release released;
  return cache.check();
}

std::size_t reap(Cache& cache) {
  is_open(cache);
  const py::gil_scoped_release released;
  return cache.reap();
}

py::object path(const Cache& cache) {
  if (cache.segment().is_anonymous()) return py::none();
  return py::module_::import("os").attr("fsdecode")(py::bytes(cache.segment().path()));
}

void bind_errors(py::module_& module) {
  static py::object store_error =
      py::exception<StoreError>(module, "StoreError", PyExc_RuntimeError);
  py::register_exception_translator([](std::exception_ptr thrown) {
    try {
      if (thrown) std::rethrow_exception(thrown);
    } catch (const StoreError& error) {
      PyErr_SetString(store_error.ptr(), error.what());
    } catch (const FileError& error) {
      const py::tuple arguments = py::make_tuple(error.error(), error.what(), error.path());
      PyErr_SetObject(PyExc_OSError, arguments.ptr());
    } catch (const OutOfMemory& error) {
      PyErr_SetString(PyExc_MemoryError, error.what());
    }
  });
}

void bind_properties(py::class_<Cache>& bound) {
  const auto of_row = [&](const char* name, auto getter) {
    bound.def_property_readonly(
        name, [getter](const Cache& cache) { return getter(cache.table().row()); });
  };
  of_row("dim", [](const RowFormat& row) { return row.dim(); });
  of_row("parts", [](const RowFormat& row) { return row.parts(); });
  of_row("dtype", [](const RowFormat& row) { return std::string(name_of(row.dtype())); });
  bound
      .def_property_readonly(
          "id_kind", [](const Cache& cache) { return static_cast<int>(cache.header().id_kind); })
      .def_property_readonly("placement",
                             [](const Cache& cache) {
                               return kPlacements[static_cast<int>(cache.header().placement)];
                             })
      .def_property_readonly("seed",
                             [](const Cache& cache) {
                               const Seed& seed = cache.header().seed;
                               return py::bytes(reinterpret_cast<const char*>(seed.data()),
                                                seed.size());
                             })
      .def_property_readonly("capacity",
                             [](const Cache& cache) { return cache.table().capacity(); })
      .def_property_readonly("bytes", [](const Cache& cache) { return cache.segment().bytes(); })
      .def_property_readonly("path", &path);
}

void bind_calls(py::class_<Cache>& bound) {
  bound.def("key_of_string", &key_of_string, py::arg("text"))
      .def("get_many", &get_many, py::arg("keys"), py::arg("now_ms"), py::arg("max_age_ms"),
           py::arg("out"), py::arg("ages"), py::arg("snapshots") = py::none(),
           py::arg("fresh_ms") = py::none(), py::arg("states") = py::none())
      .def("put_many", &put_many, py::arg("keys"), py::arg("rows"), py::arg("now_ms"),
           py::arg("snapshot"), py::arg("origin"))
      .def("touch_many", &touch_many, py::arg("keys"))
      .def("invalidate_many", &invalidate_many, py::arg("keys"))
      .def("invalidate_before", &invalidate_before, py::arg("snapshot"))
      .def("scan", &scan, py::arg("cursor"), py::arg("keys"), py::arg("written_at_ms"),
           py::arg("snapshots"), py::arg("origins"), py::arg("rows") = py::none())
      .def("stats", &stats)
      .def("samples", &samples)
      .def("check", &check)
      .def("reap", &reap)
      .def("close", &Cache::close, py::call_guard<py::gil_scoped_release>())
      .def("__enter__", [](py::object self) { return self; })
      .def("__exit__", [](Cache& cache, const py::args&) { cache.close(); });
}

}  // namespace

void bind_cache(py::module_& module) {
  module.attr("INTEGER") = static_cast<int>(IdKind::kInteger);
  module.attr("STRING") = static_cast<int>(IdKind::kString);
  module.attr("ORIGIN_COMPUTED") = static_cast<int>(kOriginComputed);
  module.attr("ORIGIN_SPECULATIVE") = static_cast<int>(kOriginSpeculative);
  module.attr("ABSENT") = static_cast<int>(State::kAbsent);
  module.attr("EXPIRED") = static_cast<int>(State::kExpired);
  module.attr("STALE") = static_cast<int>(State::kStale);
  module.attr("FRESH") = static_cast<int>(State::kFresh);
  bind_errors(module);
  py::class_<Cache> bound(module, "EmbeddingCache", py::is_final());
  bound
      .def_static("create", &create, py::arg("path") = py::none(), py::kw_only(),
                  py::arg("capacity"), py::arg("dim"), py::arg("parts") = 1,
                  py::arg("dtype") = "fp16", py::arg("id_kind") = 0, py::arg("seed") = py::none(),
                  py::arg("placement") = kPlacements[0], py::arg("huge_pages") = true,
                  py::arg("threads") = 1)
      .def_static("attach", &attach, py::arg("path"), py::kw_only(), py::arg("threads") = 1);
  bind_properties(bound);
  bind_calls(bound);
}

}  // namespace predawn
