// What the eviction policy learns while a table is used, shared by all its users.
//
// What: `Steering`: which rule most sets follow, and how many ways speculative entries may hold;
//   `Leaders`: the few sets that try the alternatives; `MissTally`: what a batch of reads learns.
// When not: what a set does with rule and quota (policy.hpp).
// Functions: `Leaders::group_of` says what a set tries. A reader counts every absent key in a
//   `MissTally` under its set's group and hands the tally to `Steering::record` once per batch.
//   `Steering::decision_for` says what a set of a group follows.
// Design: set dueling. Of every 64 sets one always follows CLOCK and one SIEVE; four keep the quota
//   and four one way more. Sets are chosen by a hash of the key, so equally many sets of each group
//   see the same traffic, and whose readers miss less often has the better rule. A contest is a
//   word of two counts. It is decided once one side leads by `kLead` misses and a margin, a share
//   of all; then, and at `kWindow` misses, it starts again, so what was learnt before is forgotten.
//   The margin keeps what is in force until something else is clearly better. A table of less than
//   64 sets has no leaders and keeps CLOCK and a quota of 1.
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

// What a set is there to try.
enum class Group : std::uint8_t { kFollower, kClock, kSieve, kQuota, kNextQuota };
inline constexpr std::size_t kGroups = 5;

class Leaders {
 public:
  static constexpr std::uint64_t kCycle = 64;

  explicit constexpr Leaders(std::uint64_t sets) noexcept : end_(sets / kCycle * kCycle) {}

  // Only whole cycles of sets have leaders: the groups of a contest are equally large.
  [[nodiscard]] constexpr Group group_of(std::uint64_t set) const noexcept {
    return set < end_ ? kGroupOf[set % kCycle] : Group::kFollower;
  }

 private:
  static constexpr std::array<Group, kCycle> kGroupOf = [] {
    std::array<Group, kCycle> groups{};
    groups[0] = Group::kClock;
    groups[32] = Group::kSieve;
    for (const std::size_t at : {8, 24, 40, 56}) groups[at] = Group::kQuota;
    for (const std::size_t at : {16, 28, 48, 60}) groups[at] = Group::kNextQuota;
    return groups;
  }();

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

// Misses of two groups of equally many sets.
class Contest {
 public:
  static constexpr std::int64_t kLead = 128;
  static constexpr std::int64_t kWindow = 1 << 17;

  // Positive: the second group misses clearly less; negative: the first; 0: open. `margin`: what a
  // lead must be above `kLead`, in 1/1024 of all misses.
  int record(std::uint32_t first, std::uint32_t second, std::int64_t margin) noexcept {
    if (first == 0 && second == 0) return 0;
    const std::uint64_t added = first | std::uint64_t{second} << 32;
    const std::uint64_t now = misses_.fetch_add(added, std::memory_order_relaxed) + added;
    const int better = verdict(now, margin);
    if (better == 0 && total(now) < kWindow) return 0;
    std::uint64_t expected = now;
    const bool decides = misses_.compare_exchange_strong(expected, 0, std::memory_order_relaxed);
    return decides ? better : 0;
  }

 private:
  [[nodiscard]] static std::int64_t total(std::uint64_t word) noexcept {
    return static_cast<std::int64_t>((word & 0xffffffffu) + (word >> 32));
  }
  [[nodiscard]] static int verdict(std::uint64_t word, std::int64_t margin) noexcept {
    const auto lead =
        static_cast<std::int64_t>(word & 0xffffffffu) - static_cast<std::int64_t>(word >> 32);
    const std::int64_t needed = kLead + total(word) * margin / 1024;
    if (lead > needed) return 1;
    return lead < -needed ? -1 : 0;
  }

  std::atomic<std::uint64_t> misses_;  // of the first group 32 | of the second 32
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
    const int rule_better =
        rules.record(tally.of(Group::kClock), tally.of(Group::kSieve), kRuleMargin);
    if (rule_better != 0) clock_leads.store(rule_better < 0, std::memory_order_relaxed);
    const int quota_better =
        quotas.record(tally.of(Group::kQuota), tally.of(Group::kNextQuota), kQuotaMargin);
    if (quota_better != 0) move_quota(quota_better);
  }

  Contest rules;
  Contest quotas;
  std::atomic<std::uint32_t> clock_leads;
  std::atomic<std::uint32_t> quota_above_one;

 private:
  static constexpr std::int64_t kRuleMargin = 5;
  static constexpr std::int64_t kQuotaMargin = 10;

  void move_quota(int by) noexcept {
    const unsigned before = quota_now() - 1;
    if (by > 0 ? before + 2 > kQuotaMax : before == 0) return;
    quota_above_one.store(by > 0 ? before + 1 : before - 1, std::memory_order_relaxed);
  }
};
static_assert(sizeof(Steering) == 24);

}  // namespace predawn
