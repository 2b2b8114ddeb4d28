// The Python face of the store's torture chamber (bench/torture.py). No logic.

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>
#include <sys/prctl.h>

#include <bit>
#include <csignal>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "oracle_file.hpp"
#include "torture_audit.hpp"

namespace py = pybind11;

namespace predawn::torture {
namespace {

constexpr const char* kWrongs[] = {"torn",        "wrong_key", "older_than_seen",
                                   "unpublished", "blocked",   "broken"};

Seed seed_of(std::uint64_t seed) {
  Random random(seed);
  Seed bytes{};
  for (std::uint8_t& byte : bytes) byte = static_cast<std::uint8_t>(random.next());
  return bytes;
}

void bounded(const char* name, std::uint32_t value, std::size_t most) {
  if (value <= most) return;
  throw py::value_error(std::string(name) + ": at most " + std::to_string(most) + ", got " +
                        std::to_string(value));
}

// As many as there is room for.
std::uint32_t endings_of(std::uint32_t shared) {
  return static_cast<std::uint32_t>(
      std::bit_floor(std::min<std::size_t>(kEndings / std::max(shared, 1u), 1 << 14)));
}

void create(const std::string& store, const std::string& oracle, std::uint64_t capacity,
            std::uint32_t keys, std::uint32_t shared, std::uint32_t workers,
            std::uint32_t reads_per_put, std::uint32_t read_keys, std::uint32_t removes_in,
            std::uint32_t floors_in, std::uint32_t pause_us, bool expires, std::uint32_t crowd,
            bool twins, std::uint64_t seed) {
  bounded("keys", keys, kKeys);
  bounded("shared", shared, std::min<std::size_t>(kShared, keys));
  bounded("workers", workers, kWorkers);
  bounded("read_keys", read_keys, kBatchMost);
  const Plan plan{.keys = keys,
                  .shared = shared,
                  .endings = endings_of(shared),
                  .workers = workers,
                  .reads_per_put = reads_per_put,
                  .read_keys = read_keys,
                  .removes_in = removes_in,
                  .floors_in = floors_in,
                  .pause_us = pause_us,
                  .expires = expires ? 1u : 0u};
  const py::gil_scoped_release released;
  const OracleFile file = OracleFile::create(oracle, plan);
  const TableShape shape{.capacity = capacity, .dim = kDim, .parts = 1, .dtype = Dtype::kFp32};
  const auto cache = Cache::create(store, shape, seed_of(seed), 0, {.huge_pages = false});
  choose_keys(file.oracle(), cache->table(), crowd, twins, seed);
  cache->close();
}

void work(const std::string& store, const std::string& oracle, std::uint32_t first,
          std::uint32_t threads, std::uint64_t seed) {
  const py::gil_scoped_release released;
  const OracleFile file = OracleFile::open(oracle);
  const auto cache = Cache::attach(store, {.huge_pages = false});
  std::vector<std::thread> others;
  const auto run = [&](std::uint32_t number) {
    Torturer(file.oracle(), *cache, number, seed + number).run();
  };
  for (std::uint32_t i = 1; i < threads; ++i) others.emplace_back(run, first + i);
  run(first);
  for (std::thread& other : others) other.join();
  cache->close();
}

class Supervisor {
 public:
  Supervisor(const std::string& store, const std::string& oracle, std::uint64_t seed)
      : file_(OracleFile::open(oracle)), store_(store), seed_(seed) {}

  void attach() { audit_ = std::make_unique<Audit>(oracle(), store_, ++seed_); }
  void close() {
    if (audit_) audit_->close();
    audit_.reset();
  }
  Audit& audit() {
    if (!audit_) throw std::runtime_error("the supervisor is not attached to the store");
    return *audit_;
  }
  Oracle& oracle() { return file_.oracle(); }

  void plant(const std::string& wrong) {
    if (wrong == "torn") return audit().plant_torn();
    if (wrong == "wrong_key") return audit().plant_wrong_key();
    if (wrong == "older_than_seen") return audit().plant_stamp(true);
    if (wrong == "unpublished") return audit().plant_stamp(false);
    if (wrong == "stuck") return audit().plant_stuck();
    throw py::value_error("plant: no such damage: " + wrong);
  }

 private:
  OracleFile file_;
  std::string store_;
  std::uint64_t seed_;
  std::unique_ptr<Audit> audit_;
};

py::dict totals(Supervisor& supervisor) {
  py::dict all;
  const auto sum = [&](const char* name, auto member) {
    std::uint64_t total = 0;
    for (const WorkerRecord& worker : supervisor.oracle().workers) total += (worker.*member).load();
    all[name] = total;
  };
  sum("reads", &WorkerRecord::reads);
  sum("misses", &WorkerRecord::misses);
  sum("puts", &WorkerRecord::puts);
  sum("removals", &WorkerRecord::removals);
  sum("scanned", &WorkerRecord::scanned);
  sum("undecided", &WorkerRecord::undecided);
  sum("puts_busy", &WorkerRecord::put_busy);
  sum("puts_no_slot", &WorkerRecord::put_no_slot);
  sum("puts_no_journal", &WorkerRecord::put_no_journal);
  sum("ways_lost", &WorkerRecord::ways_lost);
  all["floors"] = supervisor.oracle().floor.load();
  all["orphans_lost"] = supervisor.oracle().orphans_lost.load();
  Stamp newest = 0;
  for (const KeyHistory& key : supervisor.oracle().keys)
    newest = std::max(newest, key.clock.load());
  all["changes_of_one_key"] = newest;
  for (std::size_t i = 0; i < std::size(kWrongs); ++i) {
    all[kWrongs[i]] = supervisor.oracle().wrongs[i].load();
  }
  return all;
}

std::vector<std::uint64_t> beats(Supervisor& supervisor) {
  std::vector<std::uint64_t> all;
  for (std::uint32_t i = 0; i < supervisor.oracle().plan.workers; ++i) {
    all.push_back(supervisor.oracle().workers[i].beats.load());
  }
  return all;
}

std::vector<bool> attached(Supervisor& supervisor) {
  std::vector<bool> all;
  for (std::uint32_t i = 0; i < supervisor.oracle().plan.workers; ++i) {
    all.push_back(supervisor.oracle().workers[i].attachment.load() != 0);
  }
  return all;
}

std::vector<std::uint64_t> take_longest_ns(Supervisor& supervisor) {
  std::vector<std::uint64_t> all;
  for (std::uint32_t i = 0; i < supervisor.oracle().plan.workers; ++i) {
    all.push_back(supervisor.oracle().workers[i].longest_batch_ns.exchange(0));
  }
  return all;
}

py::list violations(Supervisor& supervisor) {
  py::list all;
  const std::size_t count =
      std::min<std::size_t>(supervisor.oracle().violations_taken.load(), kViolations);
  for (std::size_t i = 0; i < count; ++i) {
    const Violation& held = supervisor.oracle().violations[i];
    const Written written = Written::of(held.value, 0);
    py::dict one;
    one["wrong"] = kWrongs[static_cast<std::size_t>(held.wrong)];
    one["by"] = held.by;
    one["key"] = held.key;
    one["set"] = held.set;
    one["fingerprint"] = held.fingerprint;
    one["value"] = held.value;
    one["value_key"] = written.key;
    one["value_snapshot"] = written.epoch;
    one["value_stamp"] = written.stamp;
    one["floor"] = held.floor;
    one["other"] = held.other;
    all.append(one);
  }
  return all;
}

py::tuple put_beside(Supervisor& supervisor, const std::vector<std::uint32_t>& stopped) {
  for (const std::uint32_t number : stopped) bounded("stopped", number, kWorkers - 1);
  const Beside beside = supervisor.audit().put_beside(stopped);
  return py::make_tuple(beside.claims, beside.puts, beside.failed);
}

py::tuple recovered(Supervisor& supervisor) {
  const Recovered& found = supervisor.audit().cache().recovered();
  return py::make_tuple(found.kept, found.dropped());
}

void bind(py::module_& module) {
  const auto release = py::call_guard<py::gil_scoped_release>();
  module.attr("WORKERS") = kWorkers;
  module.def("die_with_parent", [] { ::prctl(PR_SET_PDEATHSIG, SIGKILL); });
  module.def("create", &create, py::arg("store"), py::arg("oracle"), py::kw_only(),
             py::arg("capacity"), py::arg("keys"), py::arg("shared"), py::arg("workers"),
             py::arg("reads_per_put"), py::arg("read_keys"), py::arg("removes_in"),
             py::arg("floors_in"), py::arg("pause_us"), py::arg("expires"), py::arg("crowd"),
             py::arg("twins"), py::arg("seed"));
  module.def("work", &work, py::arg("store"), py::arg("oracle"), py::arg("first"),
             py::arg("threads"), py::arg("seed"));
  py::class_<Supervisor>(module, "Supervisor", py::is_final())
      .def(py::init<const std::string&, const std::string&, std::uint64_t>(), py::arg("store"),
           py::arg("oracle"), py::arg("seed"))
      .def("attach", &Supervisor::attach, release)
      .def("close", &Supervisor::close, release)
      .def(
          "halt",
          [](Supervisor& self, bool is_halted) { self.oracle().stop.store(is_halted ? 1 : 0); },
          py::arg("is_halted"))
      .def(
          "found", [](Supervisor& self) { return self.audit().found(); }, release)
      .def(
          "stuck_sets", [](Supervisor& self) { return self.audit().stuck_sets(); }, release)
      .def(
          "claimed_sets", [](Supervisor& self) { return self.audit().claimed_sets(); }, release)
      .def(
          "check", [](Supervisor& self) { return self.audit().cache().check(); }, release)
      .def("put_beside", &put_beside, py::arg("stopped"))
      .def("recovered", &recovered)
      .def("reaped",
           [](Supervisor& self) { return self.audit().cache().table().state().reaped.load(); })
      .def("totals", &totals)
      .def("beats", &beats)
      .def("attached", &attached)
      .def("take_longest_ns", &take_longest_ns)
      .def("violations", &violations)
      .def(
          "bury",
          [](Supervisor& self, std::uint32_t number) {
            bounded("number", number, kWorkers - 1);
            WorkerRecord& worker = self.oracle().workers[number];
            worker.attachment.store(0);
            bury(self.oracle(), worker);
          },
          py::arg("number"))
      .def("plant", &Supervisor::plant, py::arg("wrong"));
}

}  // namespace
}  // namespace predawn::torture

PYBIND11_MODULE(_torture, module, py::mod_gil_not_used()) {
  module.doc() = "Torture of the store: workers, their oracle, and what is looked at afterwards.";
  predawn::torture::bind(module);
}
