// Ages of many keys, without being a use of any.
//
// What: `peek_many`: age and snapshot of each key's entry.
// When not: rows, or reads that requests make (cache.hpp): those keep what they read.
// Functions: safe from any thread of any process; buffers belong to the caller.
// Design: batch.hpp's pipeline over the headers of slots. No hint is set, nothing is counted, no
//   age is accepted: eviction and its steering go on as if nobody had looked.
// Memory: none. Cost: one line of tags and one of the header a key; no store.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "batch.hpp"
#include "table.hpp"

namespace predawn {

// `ages`: -1 where absent or older than `max_age_ms`; `snapshots`: untouched there. Returns the
// number found.
inline std::size_t peek_many(const Table& table, std::span<const Key> keys, std::int64_t now_ms,
                             std::int64_t max_age_ms, std::int64_t* ages,
                             std::uint32_t* snapshots) noexcept {
  const ReadRules rules = table.read_rules(now_ms, max_age_ms, max_age_ms, 1);
  std::size_t found = 0;
  pipeline(
      table, keys, {0, keys.size(), kAheadMost},
      [&](Place place) { return table.prefetch_read(place, 0); },
      [&](std::size_t i, Place place, std::uint32_t hint) {
        std::uint32_t snapshot = 0;
        ages[i] = table.peek(place, hint, keys[i], rules, snapshot);
        if (ages[i] < 0) return;
        if (snapshots != nullptr) snapshots[i] = snapshot;
        ++found;
      });
  return found;
}

}  // namespace predawn
