// The Python face of the ledger. No logic: arguments are checked here, with a ValueError that names
// the argument, and the header does the work. The GIL is kept: calls take microseconds.

#include "ledger.hpp"

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <string>

#include "bindings.hpp"

namespace predawn {
namespace {

constexpr std::int64_t kTtlMax = std::int64_t{1} << 53;

using Items = std::span<const std::uint64_t>;

Items items_of(const py::object& items) {
  return vector_of<const std::uint64_t>(items, Access::kRead, "items");
}

LedgerUser user_of(std::uint64_t key, std::int64_t kind) {
  if (kind != 0 && kind != 1) {
    refuse("kind", "expected INTEGER (0) or STRING (1), got " + std::to_string(kind));
  }
  return {key, static_cast<std::uint8_t>(kind)};
}

void expect_length(const char* argument, std::size_t expected, std::size_t got) {
  if (got != expected) {
    refuse(argument, "expected length " + std::to_string(expected) + " (one per item), got " +
                         std::to_string(got));
  }
}

std::span<const std::uint8_t> codes_of(const py::object& codes, const char* argument,
                                       std::size_t length, std::size_t below) {
  const auto given = vector_of<const std::uint8_t>(codes, Access::kRead, argument);
  expect_length(argument, length, given.size());
  for (const std::uint8_t code : given) {
    if (code >= below) {
      refuse(argument, "expected below " + std::to_string(below) + ", got " + std::to_string(code));
    }
  }
  return given;
}

void issue(Ledger& ledger, std::uint64_t user, std::int64_t kind, const py::object& items,
           const py::object& origins, std::int64_t now_ms) {
  const Items given = items_of(items);
  const auto of = codes_of(origins, "origins", given.size(), Ledger::kOrigins);
  ledger.issue(user_of(user, kind), given, of, now_ms);
}

std::size_t ask(Ledger& ledger, std::uint64_t user, std::int64_t kind, const py::object& items,
                const py::object& sources, std::int64_t read_ms, std::int64_t now_ms,
                const py::object& lead_ms, const py::object& age_ms) {
  const Items given = items_of(items);
  const auto from = codes_of(sources, "sources", given.size(), Ledger::kSources);
  const auto leads = vector_of<std::int64_t>(lead_ms, Access::kWrite, "lead_ms");
  const auto ages = vector_of<std::int64_t>(age_ms, Access::kWrite, "age_ms");
  if (leads.size() < given.size()) refuse("lead_ms", "expected room for every item");
  if (ages.size() < given.size()) refuse("age_ms", "expected room for every item");
  return ledger.ask(user_of(user, kind), given, from, read_ms, now_ms, leads, ages);
}

std::size_t due(Ledger& ledger, std::int64_t now_ms, const py::object& users,
                const py::object& kinds, const py::object& items) {
  const auto of = vector_of<std::uint64_t>(users, Access::kWrite, "users");
  const auto kind = vector_of<std::uint8_t>(kinds, Access::kWrite, "kinds");
  const auto item = vector_of<std::uint64_t>(items, Access::kWrite, "items");
  expect_length("kinds", of.size(), kind.size());
  expect_length("items", of.size(), item.size());
  return ledger.due(now_ms, of, kind, item);
}

void settle(Ledger& ledger, const py::object& there) {
  const auto given = vector_of<const std::uint8_t>(there, Access::kRead, "there");
  if (given.size() != ledger.to_settle()) {
    refuse("there", "expected length " + std::to_string(ledger.to_settle()) +
                        " (what due has just said), got " + std::to_string(given.size()));
  }
  ledger.settle(given);
}

template <std::size_t kSize>
py::array_t<std::uint64_t> counts(const std::array<std::uint64_t, kSize>& of) {
  return py::array_t<std::uint64_t>(kSize, of.data());
}

py::array_t<std::uint64_t> outcomes(const Ledger& ledger) {
  const Ledger::Outcomes& of = ledger.outcomes();
  py::array_t<std::uint64_t> out({Ledger::kOrigins, Ledger::kOutcomes});
  for (std::size_t i = 0; i < of.size(); ++i) {
    std::copy(of[i].begin(), of[i].end(), out.mutable_data(static_cast<py::ssize_t>(i), 0));
  }
  return out;
}

void bind(py::module_& module) {
  const auto user = py::arg("user");
  const auto kind = py::arg("kind");
  const auto items = py::arg("items");
  const auto now_ms = py::arg("now_ms");
  py::class_<Ledger>(module, "Ledger", py::is_final())
      .def(py::init([](std::int64_t capacity, std::int64_t ttl_ms, std::uint64_t seed) {
             return Ledger(bounded(capacity, OpenIndex::kEntriesMax, "capacity"),
                           static_cast<std::int64_t>(bounded(ttl_ms, kTtlMax, "ttl_ms")), seed);
           }),
           py::arg("capacity"), py::arg("ttl_ms"), py::arg("seed"))
      .def("issue", &issue, user, kind, items, py::arg("origins"), now_ms)
      .def(
          "land",
          [](Ledger& ledger, std::uint64_t of, std::int64_t id_kind, const py::object& given,
             std::int64_t now) { return ledger.land(user_of(of, id_kind), items_of(given), now); },
          user, kind, items, now_ms)
      .def(
          "fail",
          [](Ledger& ledger, std::uint64_t of, std::int64_t id_kind, const py::object& given,
             std::int64_t now) { return ledger.fail(user_of(of, id_kind), items_of(given), now); },
          user, kind, items, now_ms)
      .def("ask", &ask, user, kind, items, py::arg("sources"), py::arg("read_ms"), now_ms,
           py::arg("lead_ms"), py::arg("age_ms"))
      .def(
          "invalidate",
          [](Ledger& ledger, std::uint64_t of, std::int64_t id_kind) {
            return ledger.invalidate(user_of(of, id_kind));
          },
          user, kind)
      .def("due", &due, now_ms, py::arg("users"), py::arg("kinds"), items)
      .def("settle", &settle, py::arg("there"))
      .def(
          "is_open",
          [](const Ledger& ledger, std::uint64_t of, std::int64_t id_kind) {
            return ledger.is_open(user_of(of, id_kind));
          },
          user, kind)
      .def_property_readonly("open", &Ledger::open)
      .def_property_readonly("open_users", &Ledger::open_users)
      .def_property_readonly("late", &Ledger::late)
      .def("issued", [](const Ledger& ledger) { return counts(ledger.issued()); })
      .def("landed", [](const Ledger& ledger) { return counts(ledger.landed()); })
      .def("unread", [](const Ledger& ledger) { return counts(ledger.unread()); })
      .def("asked", [](const Ledger& ledger) { return counts(ledger.asked()); })
      .def("outcomes", &outcomes)
      .def("check", &Ledger::check);
}

}  // namespace
}  // namespace predawn

PYBIND11_MODULE(_ledger, module) {
  module.doc() = "What became of pairs that were computed ahead. Batched calls of one user each.";
  predawn::bind(module);
}
