// The Python face of the pair predictor (predictor.hpp). No logic: arguments are checked here, with
// a ValueError that names the argument.

#include "predictor.hpp"

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <algorithm>
#include <memory>
#include <string>

#include "arrays.hpp"

namespace predawn::predictor {
namespace {

namespace py = pybind11;

void between(const char* name, std::int64_t value, std::int64_t least, std::int64_t most) {
  if (value >= least && value <= most) return;
  refuse(name, "expected " + std::to_string(least) + " to " + std::to_string(most) + ", got " +
                   std::to_string(value));
}

void same_length(const char* name, std::size_t expected, std::size_t got) {
  if (expected == got) return;
  refuse(name, "expected length " + std::to_string(expected) + ", got " + std::to_string(got));
}

std::unique_ptr<Predictor> make(std::int64_t users, std::int64_t items, std::int64_t lists,
                                std::int64_t popular, std::int64_t ttl_ms, std::uint64_t seed,
                                std::int64_t examples) {
  between("users", users, 1, 1 << 28);
  between("items", items, 1, 1 << 28);
  between("lists", lists, 1, kListsMost);
  between("popular", popular, 1, 1 << 16);
  between("ttl_ms", ttl_ms, 1, std::int64_t{1} << 40);
  between("examples", examples, 64, 1 << 24);
  const auto size = [](std::int64_t value) { return static_cast<std::size_t>(value); };
  return std::make_unique<Predictor>(Sizes{.users = size(users),
                                           .items = size(items),
                                           .lists = size(lists),
                                           .popular = size(popular),
                                           .ttl_ms = ttl_ms,
                                           .seed = seed,
                                           .examples = size(examples)});
}

Id id_of(std::uint64_t user, bool is_text) {
  return {user, is_text ? Kind::kText : Kind::kInteger};
}

void asked(Predictor& self, std::uint64_t user, bool is_text, const py::object& items,
           const py::object& scores, const py::object& known, std::int64_t now_ms) {
  const auto ids = vector_of<const std::uint64_t>(items, Access::kRead, "items");
  const auto values = vector_of<const float>(scores, Access::kRead, "scores");
  const auto flags = vector_of<const std::uint8_t>(known, Access::kRead, "known");
  same_length("scores", ids.size(), values.size());
  same_length("known", ids.size(), flags.size());
  self.asked(id_of(user, is_text), ids, values, flags, now_ms);
}

std::size_t propose(Predictor& self, std::uint64_t user, bool is_text, std::int64_t now_ms,
                    float least, const py::object& items, const py::object& chances,
                    const py::object& origins) {
  const auto ids = vector_of<std::uint64_t>(items, Access::kWrite, "items");
  const auto values = vector_of<float>(chances, Access::kWrite, "chances");
  const auto kinds = vector_of<std::uint8_t>(origins, Access::kWrite, "origins");
  same_length("chances", ids.size(), values.size());
  same_length("origins", ids.size(), kinds.size());
  std::size_t at = 0;
  for (const Candidate& each : self.propose(id_of(user, is_text), now_ms, least, ids.size())) {
    ids[at] = each.item;
    values[at] = each.chance;
    kinds[at++] = static_cast<std::uint8_t>(each.origin);
  }
  return at;
}

std::size_t propose_beside(Predictor& self, std::uint64_t user, bool is_text, std::int64_t now_ms,
                           float least, float known, const py::object& missed,
                           const py::object& items, const py::object& chances,
                           const py::object& origins) {
  const auto waiting = vector_of<const std::uint64_t>(missed, Access::kRead, "missed");
  const auto ids = vector_of<std::uint64_t>(items, Access::kWrite, "items");
  const auto values = vector_of<float>(chances, Access::kWrite, "chances");
  const auto kinds = vector_of<std::uint8_t>(origins, Access::kWrite, "origins");
  same_length("chances", ids.size(), values.size());
  same_length("origins", ids.size(), kinds.size());
  if (waiting.size() > ids.size()) refuse("missed", "longer than items");
  const std::size_t first = waiting.size();
  std::copy(waiting.begin(), waiting.end(), ids.begin());
  std::fill_n(kinds.begin(), first, static_cast<std::uint8_t>(Origin::kMissed));
  std::size_t at = first;
  for (const Candidate& each : self.propose(id_of(user, is_text), now_ms, least, ids.size() - first,
                                            known, waiting, values.first(first))) {
    ids[at] = each.item;
    values[at] = each.chance;
    kinds[at++] = static_cast<std::uint8_t>(each.origin);
  }
  return at;
}

template <std::size_t kRows>
py::array_t<double> table_of(const std::array<Reliability::Sums, kRows>& sums) {
  py::array_t<double> table({kRows, std::size_t{4}});
  auto view = table.template mutable_unchecked<2>();
  for (std::size_t i = 0; i < kRows; ++i) {
    const auto row = static_cast<py::ssize_t>(i);
    view(row, 0) = sums[i].weight;
    view(row, 1) = sums[i].said;
    view(row, 2) = sums[i].came;
    view(row, 3) = sums[i].squared_error;
  }
  return table;
}

py::dict sizes(const Predictor& self) {
  py::dict found;
  found["users"] = self.users().known();
  found["items"] = self.items().known();
  found["examples"] = self.examples().size();
  found["examples_refused"] = self.examples().refused();
  found["outcomes"] = self.reliability().examples;
  return found;
}

py::tuple activity(const Predictor& self) {
  return py::make_tuple(self.draws(), self.activity().said(), self.activity().came_sum());
}

}  // namespace

PYBIND11_MODULE(_predictor, module) {
  py::list thresholds;
  for (const float each : Reliability::kThresholds) thresholds.append(each);
  module.attr("THRESHOLDS") = py::tuple(thresholds);
  module.attr("MOST_LISTS") = kListsMost;
  py::class_<Predictor>(module, "Predictor", py::is_final())
      .def(py::init(&make), py::kw_only(), py::arg("users"), py::arg("items"), py::arg("lists"),
           py::arg("popular"), py::arg("ttl_ms"), py::arg("seed"), py::arg("examples") = 32'768)
      .def("asked", &asked, py::arg("user"), py::arg("is_text"), py::arg("items"),
           py::arg("scores"), py::arg("known"), py::arg("now_ms"))
      .def("propose", &propose, py::arg("user"), py::arg("is_text"), py::arg("now_ms"),
           py::arg("least"), py::arg("items"), py::arg("chances"), py::arg("origins"))
      .def("propose_beside", &propose_beside, py::arg("user"), py::arg("is_text"),
           py::arg("now_ms"), py::arg("least"), py::arg("known"), py::arg("missed"),
           py::arg("items"), py::arg("chances"), py::arg("origins"))
      .def("reliability",
           [](const Predictor& self) { return table_of(self.reliability().by_chance); })
      .def("above", [](const Predictor& self) { return table_of(self.reliability().above); })
      .def("activity", &activity)
      .def("sizes", &sizes);
}

}  // namespace predawn::predictor
