// Zeroed memory is a valid start; leaders are few and fairly chosen; what misses less is followed.
#include "steering.hpp"

#include <array>
#include <cstdint>
#include <thread>
#include <vector>

#include "expect.hpp"

namespace predawn {
namespace {

std::array<std::uint64_t, kGroups> sizes(std::uint64_t sets) {
  const Leaders leaders(sets);
  std::array<std::uint64_t, kGroups> counts{};
  for (std::uint64_t set = 0; set < sets; ++set) {
    ++counts[static_cast<std::size_t>(leaders.group_of(set))];
  }
  return counts;
}

// A batch in which groups missed so often.
void record(Steering& steering, Group group, int misses, Group other, int other_misses) {
  MissTally tally;
  for (int i = 0; i < misses; ++i) tally.count(group);
  for (int i = 0; i < other_misses; ++i) tally.count(other);
  steering.record(tally);
}

void test_zeroed_memory_is_a_valid_start() {
  const Steering steering{};
  EXPECT(steering.rule_now() == Rule::kSieve && steering.quota_now() == 1);
}

void test_groups_are_in_known_proportion() {
  for (const std::uint64_t sets : {64u, 65u, 127u, 128u, 71'000u}) {
    const std::array<std::uint64_t, kGroups> counts = sizes(sets);
    const std::uint64_t cycles = sets / Leaders::kCycle;
    EXPECT(counts[1] == Leaders::kClockSets * cycles && counts[2] == Leaders::kSieveSets * cycles);
    EXPECT(counts[3] == Leaders::kRestSets * cycles);
    EXPECT(counts[4] == Leaders::kNextQuotaSets * cycles);
    EXPECT(counts[0] == sets % Leaders::kCycle);
  }
}

void test_small_table_has_no_leaders() { EXPECT(sizes(63)[0] == 63 && sizes(1)[0] == 1); }

void test_leaders_follow_their_own_rule_and_quota() {
  const Steering steering{};
  EXPECT(steering.decision_for(Group::kClock).rule == Rule::kClock);
  EXPECT(steering.decision_for(Group::kSieve).rule == Rule::kSieve);
  EXPECT(steering.decision_for(Group::kRest).quota == 1);
  EXPECT(steering.decision_for(Group::kNextQuota).quota == 2);
  EXPECT(steering.decision_for(Group::kClock).quota == 1);
}

// A hundred batches in which sets of the rules and the rest missed so often.
void record_rules(Steering& steering, int clock, int sieve, int rest) {
  for (int batch = 0; batch < 100; ++batch) {
    MissTally tally;
    for (int i = 0; i < clock; ++i) tally.count(Group::kClock);
    for (int i = 0; i < sieve; ++i) tally.count(Group::kSieve);
    for (int i = 0; i < rest; ++i) tally.count(Group::kRest);
    steering.record(tally);
  }
}

void test_rule_with_fewer_misses_is_followed() {
  Steering steering{};
  record_rules(steering, 20, 10, 520);
  EXPECT(steering.rule_now() == Rule::kClock);
  EXPECT(steering.decision_for(Group::kOutside).rule == Rule::kClock);
  EXPECT(steering.decision_for(Group::kRest).rule == Rule::kClock);
  EXPECT(steering.decision_for(Group::kSieve).rule == Rule::kSieve);
  record_rules(steering, 30, 7, 520);
  EXPECT(steering.rule_now() == Rule::kSieve);
}

void test_sets_of_the_rule_in_force_are_no_rivals() {
  Steering steering{};
  record_rules(steering, 30, 0, 520);
  EXPECT(steering.rule_now() == Rule::kSieve);
}

void test_small_lead_changes_nothing() {
  Steering steering{};
  for (int i = 0; i < 200; ++i) record_rules(steering, 299, 100, 5'200);
  EXPECT(steering.rule_now() == Rule::kSieve);
}

void test_quota_climbs_while_one_way_more_pays() {
  Steering steering{};
  for (unsigned quota = 2; quota <= 20; ++quota) {
    record(steering, Group::kRest, 52'000, Group::kNextQuota, 7'000);
    EXPECT(steering.quota_now() == (quota < 8 ? quota : 8));
  }
  EXPECT(steering.decision_for(Group::kNextQuota).quota == 8);
}

void test_quota_stays_where_sets_are_alike() {
  Steering steering{};
  for (int batch = 0; batch < 20'000; ++batch) {
    record(steering, Group::kRest, 520, Group::kNextQuota, 79);
    EXPECT(steering.quota_now() == 1);
  }
}

void test_quota_falls_to_one_and_stays() {
  Steering steering{};
  for (int i = 0; i < 4; ++i) record(steering, Group::kRest, 52'000, Group::kNextQuota, 7'000);
  EXPECT(steering.quota_now() == 5);
  for (int i = 0; i < 9; ++i) record(steering, Group::kRest, 52'000, Group::kNextQuota, 9'000);
  EXPECT(steering.quota_now() == 1);
}

void test_damaged_words_still_give_a_valid_decision() {
  Steering steering{};
  steering.clock_leads.store(0xdeadbeefu);
  steering.quota_above_one.store(0xffffffffu);
  EXPECT(steering.rule_now() == Rule::kClock);
  EXPECT(steering.quota_now() >= 1 && steering.quota_now() <= Steering::kQuotaMax);
}

void test_threads_may_record_at_once() {
  Steering steering{};
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&steering] {
      for (int batch = 0; batch < 500; ++batch) {
        record(steering, Group::kNextQuota, 12, Group::kRest, 156);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT(steering.quota_now() == Steering::kQuotaMax);
}

}  // namespace
}  // namespace predawn

int main() {
  predawn::test_zeroed_memory_is_a_valid_start();
  predawn::test_groups_are_in_known_proportion();
  predawn::test_small_table_has_no_leaders();
  predawn::test_leaders_follow_their_own_rule_and_quota();
  predawn::test_rule_with_fewer_misses_is_followed();
  predawn::test_sets_of_the_rule_in_force_are_no_rivals();
  predawn::test_small_lead_changes_nothing();
  predawn::test_quota_climbs_while_one_way_more_pays();
  predawn::test_quota_stays_where_sets_are_alike();
  predawn::test_quota_falls_to_one_and_stays();
  predawn::test_damaged_words_still_give_a_valid_decision();
  predawn::test_threads_may_record_at_once();
  return predawn::testing::failures == 0 ? 0 : 1;
}
