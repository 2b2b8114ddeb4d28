// The rule that every hit must keep: what it allows, what it finds, and what it cannot tell.
#include "oracle.hpp"

#include <memory>

#include "expect.hpp"

namespace predawn::torture {
namespace {

std::unique_ptr<Oracle> oracle_of(const Plan& plan) {
  auto oracle = std::make_unique<Oracle>();
  oracle->plan = plan;
  return oracle;
}

constexpr std::uint32_t kMine = 1;  // a key with one owner; key 0 is shared
constexpr Plan kPlan{.keys = 2, .shared = 1, .endings = 8, .workers = 2};

Stamp change(Oracle& oracle, std::uint32_t key, bool is_done = true) {
  WorkerRecord& worker = oracle.workers[0];
  const Stamp stamp = begin_change(oracle, worker, key, 0);
  end_change(oracle, worker, key, 0, stamp, true, is_done);
  return stamp;
}

Verdict judge_now(const Oracle& oracle, std::uint32_t key, Stamp stamp) {
  return judge_hit(oracle, key, stamp, floor_of(oracle.keys[key]));
}

void test_newest_is_right_and_older_is_not() {
  for (const std::uint32_t key : {0u, kMine}) {
    const auto oracle = oracle_of(kPlan);
    const Stamp first = change(*oracle, key);
    EXPECT(judge_now(*oracle, key, first) == Verdict::kRight);
    const Stamp second = change(*oracle, key);
    EXPECT(judge_now(*oracle, key, second) == Verdict::kRight);
    EXPECT(judge_now(*oracle, key, first) == Verdict::kOlder);
    // A read that began before the second change ended may return the first.
    EXPECT(judge_hit(*oracle, key, first, first) == Verdict::kRight);
  }
}

void test_what_was_never_written_is_unpublished() {
  for (const std::uint32_t key : {0u, kMine}) {
    const auto oracle = oracle_of(kPlan);
    const Stamp failed = change(*oracle, key, false);
    EXPECT(judge_now(*oracle, key, failed) == Verdict::kUnpublished);
    EXPECT(judge_now(*oracle, key, 0) == Verdict::kUnpublished);
    EXPECT(judge_now(*oracle, key, 100) == Verdict::kUnpublished);
  }
}

void test_what_was_seen_is_a_floor() {
  for (const std::uint32_t key : {0u, kMine}) {
    const auto oracle = oracle_of(kPlan);
    const Stamp first = change(*oracle, key);
    const Stamp second = begin_change(*oracle, oracle->workers[0], key, 0);
    EXPECT(judge_now(*oracle, key, first) == Verdict::kRight);
    EXPECT(judge_now(*oracle, key, second) == Verdict::kRight);
    note_seen(oracle->keys[key], second);
    EXPECT(judge_now(*oracle, key, first) == Verdict::kOlder);
  }
}

void test_changes_side_by_side_may_take_effect_in_any_order() {
  const auto oracle = oracle_of(kPlan);
  const Stamp slow = begin_change(*oracle, oracle->workers[1], 0, 0);
  const Stamp quick = change(*oracle, 0);
  EXPECT(judge_now(*oracle, 0, slow) == Verdict::kRight);
  end_change(*oracle, oracle->workers[1], 0, 0, slow, true, true);
  EXPECT(judge_now(*oracle, 0, slow) == Verdict::kRight);
  EXPECT(judge_now(*oracle, 0, quick) == Verdict::kRight);
  const Stamp last = change(*oracle, 0);
  for (const Stamp stamp : {slow, quick}) EXPECT(judge_now(*oracle, 0, stamp) == Verdict::kOlder);
  EXPECT(judge_now(*oracle, 0, last) == Verdict::kRight);
}

void test_a_ring_that_went_round_still_tells_old_from_unfinished() {
  const auto oracle = oracle_of(kPlan);
  const Stamp old = change(*oracle, 0);
  const Stamp unfinished = begin_change(*oracle, oracle->workers[1], 0, 0);
  (void)begin_change(*oracle, oracle->workers[1], 0, 1);  // its stamp: later starts are odd, too
  for (int i = 0; i < 20; ++i) (void)change(*oracle, 0);
  EXPECT(judge_now(*oracle, 0, old) == Verdict::kOlder);
  EXPECT(judge_now(*oracle, 0, unfinished) == Verdict::kUndecided);
  bury(*oracle, oracle->workers[1]);  // it was killed; what it announced may still come
  EXPECT(judge_now(*oracle, 0, unfinished) == Verdict::kUndecided);
}

void test_violations_are_kept_and_counted() {
  const auto oracle = oracle_of(kPlan);
  for (std::uint32_t i = 0; i < 100; ++i) oracle->report({Wrong::kTorn, 0, i, 0, 0, 0, 0, 0});
  EXPECT(oracle->wrongs[0].load() == 100);
  EXPECT(oracle->violations[kViolations - 1].key == kViolations - 1);
}

}  // namespace
}  // namespace predawn::torture

int main() {
  using namespace predawn::torture;
  test_newest_is_right_and_older_is_not();
  test_what_was_never_written_is_unpublished();
  test_what_was_seen_is_a_floor();
  test_changes_side_by_side_may_take_effect_in_any_order();
  test_a_ring_that_went_round_still_tells_old_from_unfinished();
  test_violations_are_kept_and_counted();
  return predawn::testing::failures == 0 ? 0 : 1;
}
