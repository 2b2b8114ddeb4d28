// A full set makes room by the rules, in their order; tests/csrc/test_policy.py has all cases.
#include "policy.hpp"

#include <array>
#include <cstdint>
#include <initializer_list>

#include "expect.hpp"

namespace predawn {
namespace {

constexpr std::uint32_t kRead = Tag::kVisited | Tag::kDemanded;
constexpr std::uint32_t kSurvivor = Tag::kSurvived | Tag::kDemanded;

PolicyView full_set(std::uint32_t hints = Tag::kDemanded) {
  PolicyView view;
  for (unsigned way = 0; way < kWays; ++way) view.tags[way] = Tag(way, 0, 0, 0, hints);
  return view;
}

void set_hints(PolicyView& view, std::initializer_list<unsigned> ways, std::uint32_t hints) {
  for (const unsigned way : ways) view.tags[way] = Tag(way, 0, 0, 0, hints);
}

std::uint32_t mask(std::initializer_list<unsigned> ways) {
  std::uint32_t bits = 0;
  for (const unsigned way : ways) bits |= 1u << way;
  return bits;
}

// Nothing expired; later ways written later.
Choice chosen(const PolicyView& view) {
  return choose(view, [](unsigned) { return false; }, [](unsigned way) { return way; });
}

void test_empty_way_is_taken_first() {
  PolicyView view = full_set();
  view.hand = 5;
  view.tags[3] = Tag();
  const Choice choice = chosen(view);
  EXPECT(choice.way == 3 && choice.cause == Cause::kNone && choice.hand == 5);
  EXPECT(choice.unvisit == 0 && choice.survive == 0 && choice.renew == 0);
  EXPECT(chosen(PolicyView{}).way == 0);
}

void test_expired_entry_goes_before_all_others() {
  PolicyView view = full_set(kRead);
  view.any_reader = true;
  view.now_stamp = 2;
  view.tags[6] = Tag(6, 0, 0, 14, kRead);  // 4 units old, over the wrap
  view.tags[7] = Tag(7, 0, 0, 15, kRead);  // 3 units
  set_hints(view, {0, 1}, 0);              // 2 units, speculative
  unsigned asked = 0;
  const auto is_expired = [&](unsigned way) {
    ++asked;
    return way == 6;
  };
  const Choice choice = choose(view, is_expired, [](unsigned way) { return way; });
  EXPECT(choice.way == 6 && choice.cause == Cause::kExpired && asked == 1);
  view.any_reader = false;
  EXPECT(chosen(view).cause == Cause::kSpeculative);
}

void test_hints_of_age_are_verified_at_most_twice() {
  PolicyView view = full_set();
  view.any_reader = true;
  view.now_stamp = 8;
  unsigned asked = 0;
  const auto is_expired = [&](unsigned) {
    ++asked;
    return false;
  };
  EXPECT(choose(view, is_expired, [](unsigned way) { return way; }).cause == Cause::kHand);
  EXPECT(asked == 2);
}

void test_speculation_keeps_to_its_quota() {
  PolicyView view = full_set();
  set_hints(view, {2, 9}, 0);
  view.speculative = true;
  view.quota = 2;
  EXPECT(chosen(view).way == 2 && chosen(view).cause == Cause::kQuota);
  view.quota = 3;
  EXPECT(chosen(view).way == 0 && chosen(view).cause == Cause::kHandBySpeculative);
  view.speculative = false;
  view.quota = 2;
  EXPECT(chosen(view).way == 0 && chosen(view).cause == Cause::kHand);
  view.quota = 1;
  EXPECT(chosen(view).way == 2 && chosen(view).cause == Cause::kSpeculative);
}

void test_oldest_speculative_is_found_over_the_wrap_of_orders() {
  PolicyView view = full_set();
  set_hints(view, {2, 9, 11}, 0);
  const std::array<std::uint32_t, 3> orders = {1, 0xfffffff0u, 0xfffffff5u};
  const auto order_of = [&](unsigned way) { return orders[way == 2 ? 0 : way == 9 ? 1 : 2]; };
  EXPECT(choose(view, [](unsigned) { return false; }, order_of).way == 9);
}

void test_set_of_speculation_alone_gives_up_its_oldest() {
  PolicyView view = full_set(0);
  view.quota = kWays;
  EXPECT(chosen(view).way == 0 && chosen(view).cause == Cause::kSpeculative);
}

void test_clock_takes_the_first_that_is_unread_again() {
  PolicyView view = full_set();
  view.hand = 12;
  set_hints(view, {12, 13}, kRead);
  set_hints(view, {0}, kRead | Tag::kSurvived);
  set_hints(view, {2, 5}, kSurvivor);
  const Choice choice = chosen(view);
  EXPECT(choice.way == 2 && choice.hand == 3 && choice.cause == Cause::kHand);
  EXPECT(choice.unvisit == mask({12, 13, 0}));
  EXPECT(choice.survive == mask({13, 1}) && choice.renew == mask({0}));
}

void test_clock_goes_round_until_somebody_is_unread_again() {
  PolicyView view = full_set();
  view.hand = 12;
  set_hints(view, {12}, kRead);
  const Choice choice = chosen(view);
  EXPECT(choice.way == 13 && choice.hand == 0 && choice.unvisit == mask({12}));
  EXPECT(choice.survive == policy::kAllWays - mask({13}) && choice.renew == 0);
}

void test_clock_where_all_were_read_takes_an_aged_way() {
  PolicyView view = full_set(kRead | Tag::kSurvived);
  const Choice choice = chosen(view);
  EXPECT(choice.way == 1 && choice.hand == 2);
  EXPECT(choice.unvisit == policy::kAllWays - mask({1}));
  EXPECT(choice.survive == 0 && choice.renew == mask({2, 3, 5, 6, 8, 9, 11, 12}));
}

void test_sieve_looks_at_newcomers_before_survivors() {
  PolicyView view = full_set(kSurvivor);
  view.rule = Rule::kSieve;
  set_hints(view, {4}, kRead);
  set_hints(view, {6}, Tag::kDemanded);
  const Choice choice = chosen(view);
  EXPECT(choice.way == 6 && choice.hand == 7);
  EXPECT(choice.unvisit == mask({4}) && choice.survive == mask({4}) && choice.renew == 0);
}

void test_sieve_begins_the_next_pass_when_all_survived() {
  PolicyView view = full_set(kSurvivor);
  view.rule = Rule::kSieve;
  set_hints(view, {4}, kRead);              // the last of this pass
  set_hints(view, {5}, kSurvivor | kRead);  // survives the next one, too
  const Choice choice = chosen(view);
  EXPECT(choice.way == 6 && choice.hand == 7);
  EXPECT(choice.unvisit == mask({4, 5}) && choice.survive == 0);
  EXPECT(choice.renew == policy::kAllWays - mask({4, 5, 6}));
}

void test_hand_leaves_speculative_entries_alone() {
  PolicyView view = full_set();
  set_hints(view, {0}, 0);
  view.hand = 0;
  EXPECT(chosen(view).way == 1);
  view.hand = 15;  // no way
  EXPECT(chosen(view).way == 1);
}

void test_entries_are_found_old_from_two_longest_ages_on() {
  constexpr std::int64_t kAges[] = {2, 3, 1'000, 59'999, 86'400'000, INT64_MAX};
  for (const std::int64_t longest : kAges) {
    const unsigned shift = stamp_shift(longest);
    const std::int64_t unit = std::int64_t{1} << shift;
    EXPECT(longest / 2 >= unit && longest / 4 < unit);
  }
  EXPECT(stamp_shift(0) == 0 && stamp_shift(-5) == 0 && stamp_shift(1) == 0);
  constexpr std::int64_t kLongest = 60'000;
  constexpr std::int64_t kWritten = 1'764'000'000'123;
  const unsigned shift = stamp_shift(kLongest);
  const auto units = [&](std::int64_t age) {
    return (stamp_of(kWritten + age, shift) - stamp_of(kWritten, shift)) & 0xfu;
  };
  EXPECT(units(0) == 0 && units(kLongest * 3 / 4) < kExpiredUnits);
  for (std::int64_t age = 2 * kLongest; age <= 15 << shift; age += 997) {
    EXPECT(units(age) >= kExpiredUnits);
  }
  EXPECT(units(16 << shift) == 0);
}

}  // namespace
}  // namespace predawn

int main() {
  predawn::test_empty_way_is_taken_first();
  predawn::test_expired_entry_goes_before_all_others();
  predawn::test_hints_of_age_are_verified_at_most_twice();
  predawn::test_speculation_keeps_to_its_quota();
  predawn::test_oldest_speculative_is_found_over_the_wrap_of_orders();
  predawn::test_set_of_speculation_alone_gives_up_its_oldest();
  predawn::test_clock_takes_the_first_that_is_unread_again();
  predawn::test_clock_goes_round_until_somebody_is_unread_again();
  predawn::test_clock_where_all_were_read_takes_an_aged_way();
  predawn::test_sieve_looks_at_newcomers_before_survivors();
  predawn::test_sieve_begins_the_next_pass_when_all_survived();
  predawn::test_hand_leaves_speculative_entries_alone();
  predawn::test_entries_are_found_old_from_two_longest_ages_on();
  return predawn::testing::failures == 0 ? 0 : 1;
}
