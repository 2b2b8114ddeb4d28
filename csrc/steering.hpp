// What the eviction policy learns while a table is used, shared by all its users.
//
// What: `Steering`: which rule most sets follow, and how many ways speculative entries may hold;
//   `Leaders`: the sets that try the alternatives; `MissTally`: what a batch of reads learns.
// When not: what a set does with rule and quota (policy.hpp).
// Functions: `Leaders::group_of` says what a set tries. A reader counts every absent key in a
//   `MissTally` under its set's group and hands the tally to `Steering::record` once per batch.
//   `Steering::decision_for` says what a set of a group follows.
// Design: set dueling. Of every 64 sets three always follow CLOCK, one SIEVE (which loses
//   more where it is wrong), and 8 allow one speculative way more than the rest. Keys are spread
//   over sets by a hash, so sets see like traffic, and where readers miss less often per set is the
//   better choice. How unlike the traffic of sets is all the same (popular keys are few) bounds
//   what can be told apart; so what is in force is judged by all the rest, and not by as few sets
//   again. A contest is a word of two counts. It is decided once one side leads by `kLead` misses
//   and a margin; then, and when its window is full, it starts again: what was learnt before is
//   forgotten. The margins keep what is in force until something else is clearly better. A table of
//   less than 64 sets has no leaders: it keeps SIEVE and a quota of 1.
// Memory: 24 bytes; all-zero memory is a valid start. Cost: an addition per batch that missed, and
// a
//   compare-exchange per decision; all relaxed: nothing else depends on what is learnt.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "policy.hpp"

namespace predawn {

// What a set is there to try. kOutside: it is in no contest, and follows what others find better;
// kRest: it follows that too, and shows how good it is.
enum class Group : std::uint8_t { kOutside, kClock, kSieve, kRest, kNextQuota };
inline constexpr std::size_t kGroups = 5;

class Leaders {
 public:
  static constexpr std::uint64_t kCycle = 64;
  static constexpr std::int64_t kClockSets = 3;  // of a cycle
  static constexpr std::int64_t kSieveSets = 1;
  static constexpr std::int64_t kNextQuotaSets = 8;
  static constexpr std::int64_t kRestSets = 52;

  explicit constexpr Leaders(std::uint64_t sets) noexcept : end_(sets / kCycle * kCycle) {}

  // Only whole cycles of sets are counted: the groups' sizes are in known proportion.
  [[nodiscard]] constexpr Group group_of(std::uint64_t set) const noexcept {
    if (set >= end_) return Group::kOutside;
    if (set % 8 == 6) return Group::kNextQuota;
    if (set % 16 != 0) return Group::kRest;
    return set % kCycle == 48 ? Group::kSieve : Group::kClock;
  }

 private:
  std::uint64_t end_;
};

class MissTally {
 public:
  void count(Group group) noexcept { ++misses_[static_cast<std::size_t>(group)]; }
  [[nodiscard]] std::uint32_t of(Group group) const noexcept {
    return misses_[static_cast<std::size_t>(group)];
  }

 private:
  std::array<std::uint32_t, kGroups> misses_{};
};

struct SteeringDecision {
  Rule rule = Rule::kClock;
  unsigned quota = 1;
};

// Misses of the sets that try an alternative, and of the rest.
class Contest {
 public:
  // How many sets of a cycle try, and by which share of the misses (in 1/1024) they must be better
  // or worse than the rest for a verdict.
  struct Terms {
    std::int64_t sets;
    std::int64_t better_margin;
    std::int64_t worse_margin;
  };
  static constexpr std::int64_t kLead = 128;
  static constexpr std::int64_t kWindow = 1 << 15;  // misses of the sets that try

  // Positive: the alternative misses clearly less per set; negative: clearly more; 0: open.
  int record(std::uint32_t tried, std::uint32_t rest, const Terms& terms) noexcept {
    if (tried == 0 && rest == 0) return 0;
    const std::uint64_t added = tried | std::uint64_t{rest} << 32;
    const std::uint64_t now = misses_.fetch_add(added, std::memory_order_relaxed) + added;
    const int better = verdict(now, terms);
    if (better == 0 && tried_of(now) < kWindow) return 0;
    std::uint64_t expected = now;
    const bool decides = misses_.compare_exchange_strong(expected, 0, std::memory_order_relaxed);
    return decides ? better : 0;
  }

 private:
  [[nodiscard]] static std::int64_t tried_of(std::uint64_t word) noexcept {
    return static_cast<std::int64_t>(word & 0xffffffffu);
  }
  [[nodiscard]] static int verdict(std::uint64_t word, const Terms& terms) noexcept {
    const auto rest = static_cast<std::int64_t>(word >> 32);
    const std::int64_t tried = tried_of(word);
    const std::int64_t lead = rest * terms.sets / Leaders::kRestSets - tried;
    if (lead > kLead + tried * terms.better_margin / 1024) return 1;
    return -lead > kLead + tried * terms.worse_margin / 1024 ? -1 : 0;
  }

  std::atomic<std::uint64_t> misses_;  // of the sets that try 32 | of the rest 32
};

struct Steering {
  static constexpr unsigned kQuotaMax = 8;

  [[nodiscard]] SteeringDecision decision_for(Group group) const noexcept {
    SteeringDecision decision{rule_now(), quota_now()};
    if (group == Group::kClock) decision.rule = Rule::kClock;
    if (group == Group::kSieve) decision.rule = Rule::kSieve;
    if (group == Group::kNextQuota && decision.quota < kQuotaMax) ++decision.quota;
    return decision;
  }
  [[nodiscard]] Rule rule_now() const noexcept {
    return clock_leads.load(std::memory_order_relaxed) != 0 ? Rule::kClock : Rule::kSieve;
  }
  [[nodiscard]] unsigned quota_now() const noexcept {
    return 1 + quota_above_one.load(std::memory_order_relaxed) % kQuotaMax;
  }

  void record(const MissTally& tally) noexcept {
    const bool is_clock = rule_now() == Rule::kClock;
    const std::uint32_t rest = tally.of(Group::kRest);
    const std::uint32_t other = tally.of(is_clock ? Group::kSieve : Group::kClock);
    if (rules.record(other, rest, is_clock ? kTrySieve : kTryClock) > 0) {
      clock_leads.store(is_clock ? 0 : 1, std::memory_order_relaxed);
    }
    const int better = quotas.record(tally.of(Group::kNextQuota), rest, kQuotas);
    if (better != 0) move_quota(better);
  }

  Contest rules;
  Contest quotas;
  std::atomic<std::uint32_t> clock_leads;
  std::atomic<std::uint32_t> quota_above_one;

 private:
  static constexpr Contest::Terms kTryClock = {
      .sets = Leaders::kClockSets, .better_margin = 5, .worse_margin = 5};
  static constexpr Contest::Terms kTrySieve = {
      .sets = Leaders::kSieveSets, .better_margin = 5, .worse_margin = 5};
  static constexpr Contest::Terms kQuotas = {
      .sets = Leaders::kNextQuotaSets, .better_margin = 30, .worse_margin = 10};

  void move_quota(int by) noexcept {
    const unsigned before = quota_now() - 1;
    if (by > 0 ? before + 2 > kQuotaMax : before == 0) return;
    quota_above_one.store(by > 0 ? before + 1 : before - 1, std::memory_order_relaxed);
  }
};
static_assert(sizeof(Steering) == 24);

}  // namespace predawn
