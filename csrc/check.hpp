// The invariants of a table, walked: what every test asks for after it has finished.
//
// What: `walk`: the number of entries, and one sentence per broken invariant, about `kSentences` of
//   them at most.
// When not: the request path; the walk touches every entry.
// Functions: `walk(table)`. Whether the counters agree is the owner's question (cache.hpp).
// Design: set by set, each under its lock, so the table may be in use meanwhile.
// Memory: the sentences. Cost: one random read an entry.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "table.hpp"

namespace predawn {

inline constexpr std::size_t kSentences = 64;

namespace detail {

inline std::string about(std::uint64_t set, unsigned way, const char* what) {
  return "set " + std::to_string(set) + " way " + std::to_string(way) + ": " + what;
}

// The entries of one set; broken invariants are appended to `broken`.
inline std::uint64_t check_set(Table& table, std::uint64_t set, std::vector<std::string>& broken) {
  struct Seen {
    Key key;
    unsigned way;
  };
  std::array<Seen, kWays> seen{};
  std::uint64_t entries = 0;
  const SetLine* line = table.line(set);
  table.visit_set(set, 0, [&](unsigned way, const SlotHeader* slot) {
    const Place place = table.place(slot->key);
    if (place.set != set) broken.push_back(about(set, way, "holds a key of another set"));
    if (place.fingerprint != line->fingerprint(way)) {
      broken.push_back(about(set, way, "has a fingerprint that is not its key's"));
    }
    for (std::uint64_t i = 0; i < entries; ++i) {
      if (seen[i].key == slot->key) broken.push_back(about(set, way, "holds a key twice"));
    }
    if (entries == 0 && !line->order().is_permutation()) {
      broken.push_back(about(set, way, "is in a set whose order of use is not a permutation"));
    }
    seen[entries++] = {slot->key, way};
    return broken.size() < kSentences;
  });
  return entries;
}

inline void check_header(const Table& table, std::vector<std::string>& broken) {
  const TableHeader& header = *table.header();
  if (header.magic != TableHeader::kMagic || header.format != TableHeader::kFormat) {
    broken.emplace_back("header: magic or format version is overwritten");
  }
  if (header.sets != table.sets() || header.ways != kWays || header.dim != table.row().dim() ||
      header.parts != table.row().parts() || header.dtype != table.row().dtype()) {
    broken.emplace_back("header: shape is overwritten");
  }
}

}  // namespace detail

struct Findings {
  std::vector<std::string> broken;
  std::uint64_t entries = 0;
};

[[nodiscard]] inline Findings walk(Table& table) {
  Findings findings;
  detail::check_header(table, findings.broken);
  for (std::uint64_t set = 0; set < table.sets(); ++set) {
    findings.entries += detail::check_set(table, set, findings.broken);
    if (findings.broken.size() >= kSentences) break;
  }
  return findings;
}

}  // namespace predawn
