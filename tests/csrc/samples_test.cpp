// What the sample takes in, and what it leaves out.
#include "samples.hpp"

#include <memory>

#include "expect.hpp"
#include "steering.hpp"

namespace predawn {
namespace {

constexpr Place kPlace{Samples::kChosen, 77};

void test_one_set_in_64_is_sampled_and_leads_nobody() {
  int wanted = 0;
  const Leaders leaders(64 * 10);
  for (std::uint64_t set = 0; set < 64 * 10; ++set) {
    if (!Samples::wants({set, 1})) continue;
    ++wanted;
    const Group group = leaders.group_of(set);
    EXPECT(group != Group::kClock && group != Group::kSieve && group != Group::kNextQuota);
  }
  EXPECT(wanted == 10);
}

void test_ages_are_of_hits_only() {
  const auto samples = std::make_unique<Samples>();
  samples->read({1, 0}, kPlace, 1'000, 40);
  samples->read({1, 0}, kPlace, 1'010, -1);
  samples->read({1, 0}, kPlace, 1'020, 0);
  EXPECT(samples->age_at_hit().count() == 2 && samples->age_at_hit().sum() == 40);
}

void test_gaps_lie_between_reads_of_one_key() {
  const auto samples = std::make_unique<Samples>();
  samples->read({1, 0}, kPlace, 1'000, 0);
  EXPECT(samples->reuse_gap().count() == 0);
  samples->read({1, 0}, kPlace, 1'700, 0);
  EXPECT(samples->reuse_gap().count() == 1 && samples->reuse_gap().sum() == 700);
  samples->read({1, 0}, kPlace, 1'200, 0);  // a clock that went back
  EXPECT(samples->reuse_gap().count() == 2 && samples->reuse_gap().sum() == 700);
}

void test_gaps_never_overflow() {
  const auto samples = std::make_unique<Samples>();
  samples->read({1, 0}, kPlace, INT64_MIN, 0);
  samples->read({1, 0}, kPlace, INT64_MAX, 0);
  EXPECT(samples->reuse_gap().count() == 1 && samples->reuse_gap().sum() == INT64_MAX);
}

void test_keys_that_meet_forget_one_another() {
  const auto samples = std::make_unique<Samples>();
  samples->read({1, 0}, kPlace, 1'000, 0);
  samples->read({2, 0}, kPlace, 1'100, 0);
  samples->read({1, 0}, kPlace, 1'200, 0);
  EXPECT(samples->reuse_gap().count() == 0);
  samples->read({1, 5}, kPlace, 1'300, 0);  // the other half counts, too
  EXPECT(samples->reuse_gap().count() == 0);
}

void test_lifetimes_are_never_negative() {
  const auto samples = std::make_unique<Samples>();
  samples->evicted(300);
  samples->evicted(-5);
  EXPECT(samples->lifetime().count() == 2 && samples->lifetime().sum() == 300);
}

}  // namespace
}  // namespace predawn

int main() {
  predawn::test_one_set_in_64_is_sampled_and_leads_nobody();
  predawn::test_ages_are_of_hits_only();
  predawn::test_gaps_lie_between_reads_of_one_key();
  predawn::test_gaps_never_overflow();
  predawn::test_keys_that_meet_forget_one_another();
  predawn::test_lifetimes_are_never_negative();
  return predawn::testing::failures == 0 ? 0 : 1;
}
