// The figures of a store by name: what Python and the metrics show.
//
// What: `stats_of`: sums over all threads of this process, but for what the mapping itself knows
//   (entries, claims_reaped, policy_sieve, speculative_quota: all users' together).
// When not: distributions (samples.hpp).
// Functions: safe beside all others; each figure is one moment's, not all of the same.
// Memory: the list. Cost: a few microseconds: 64 blocks of counters.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "cache.hpp"

namespace predawn {

[[nodiscard]] inline std::vector<std::pair<const char*, std::int64_t>> stats_of(
    const Cache& cache) {
  const auto count = [&](Event event) {
    return static_cast<std::int64_t>(cache.counters().read(event));
  };
  const std::int64_t hits = count(Event::kFresh) + count(Event::kStale);
  const std::int64_t live = count(Event::kEvictedQuota) + count(Event::kEvictedSpeculative) +
                            count(Event::kEvictedHand) + count(Event::kEvictedHandBySpeculative);
  const std::int64_t given_up =
      count(Event::kPutBusy) + count(Event::kPutNoSlot) + count(Event::kPutNoJournal);
  const SharedState& state = cache.table().state();
  return {
      {"capacity", static_cast<std::int64_t>(cache.table().capacity())},
      {"entries", cache.entries()},
      {"bytes", static_cast<std::int64_t>(cache.segment().bytes())},
      {"huge_bytes", static_cast<std::int64_t>(cache.huge_bytes())},
      {"hits", hits},
      {"hits_fresh", count(Event::kFresh)},
      {"hits_stale", count(Event::kStale)},
      {"hits_speculative", count(Event::kSpeculativeHit)},
      {"promotions", count(Event::kPromoted)},
      {"misses", count(Event::kAbsent) + count(Event::kRaced) + count(Event::kOutdated)},
      {"misses_raced", count(Event::kRaced)},
      {"misses_outdated", count(Event::kOutdated)},
      {"expired", count(Event::kExpired)},
      {"probes", count(Event::kProbe)},
      {"hints_set", count(Event::kHintSet)},
      {"inserts", count(Event::kInsert)},
      {"overwrites", count(Event::kOverwrite)},
      {"evictions_live", live},
      {"evictions_expired", count(Event::kEvictedExpired)},
      {"evictions_quota", count(Event::kEvictedQuota)},
      {"evictions_speculative", count(Event::kEvictedSpeculative)},
      {"evictions_hand", count(Event::kEvictedHand)},
      {"evictions_by_speculative", count(Event::kEvictedHandBySpeculative)},
      {"invalidations", count(Event::kInvalidation)},
      {"puts_given_up", given_up},
      {"puts_busy", count(Event::kPutBusy)},
      {"puts_no_slot", count(Event::kPutNoSlot)},
      {"puts_no_journal", count(Event::kPutNoJournal)},
      {"put_set_reads", count(Event::kSetReads)},
      {"ways_lost", count(Event::kRemovedForSlot)},
      {"removes_busy", count(Event::kRemoveBusy)},
      {"claims_reaped", static_cast<std::int64_t>(state.reaped.load(std::memory_order_relaxed))},
      {"policy_sieve", state.steering.rule_now() == Rule::kSieve ? 1 : 0},
      {"speculative_quota", state.steering.quota_now()},
      {"recovered_kept", static_cast<std::int64_t>(cache.recovered().kept)},
      {"recovered_dropped", static_cast<std::int64_t>(cache.recovered().dropped())},
  };
}

}  // namespace predawn
