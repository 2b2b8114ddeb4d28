// A set's line against a vector of ways in order of use, and against a loop over fingerprints.
#include "set_line.hpp"

#include <algorithm>
#include <array>
#include <random>
#include <vector>

#include "expect.hpp"

namespace predawn {
namespace {

void test_order_is_exactly_that_of_use() {
  SetLine line;
  std::vector<unsigned> twin(kWays);
  for (unsigned way = 0; way < kWays; ++way) twin[way] = way;
  std::mt19937 random(1);
  for (int step = 0; step < 100'000; ++step) {
    const unsigned way = random() % kWays;
    line.mark_used(way);
    twin.erase(std::find(twin.begin(), twin.end(), way));
    twin.insert(twin.begin(), way);
    for (unsigned rank = 0; rank < kWays; ++rank) EXPECT(line.order().way_at(rank) == twin[rank]);
  }
}

void test_untouched_memory_is_an_empty_set() {
  alignas(64) std::byte zeros[sizeof(SetLine)] = {};
  SetLine* line = reinterpret_cast<SetLine*>(zeros);
  EXPECT(line->matches(0) == 0xffff);
  EXPECT(line->order().is_permutation());
  EXPECT(line->lock().try_lock());
}

void test_matches_are_exact_for_values_that_borrow_and_carry() {
  constexpr std::array<std::uint16_t, 8> kValues = {0,      1,      2,      0x7fff,
                                                    0x8000, 0x8001, 0xfffe, 0xffff};
  SetLine line;
  std::mt19937 random(2);
  for (int step = 0; step < 20'000; ++step) {
    line.set_fingerprint(random() % kWays, kValues[random() % kValues.size()]);
    for (const std::uint16_t value : kValues) {
      std::uint32_t expected = 0;
      for (unsigned way = 0; way < kWays; ++way) {
        if (line.fingerprint(way) == value) expected |= 1u << way;
      }
      EXPECT(line.matches(value) == expected);
    }
  }
}

void test_a_repeated_way_is_not_a_permutation() {
  EXPECT(WayOrder(WayOrder::kIdentity).is_permutation());
  EXPECT(!WayOrder(WayOrder::kIdentity ^ 1).is_permutation());
  EXPECT(!WayOrder(0).is_permutation());
}

}  // namespace
}  // namespace predawn

int main() {
  predawn::test_order_is_exactly_that_of_use();
  predawn::test_untouched_memory_is_an_empty_set();
  predawn::test_matches_are_exact_for_values_that_borrow_and_carry();
  predawn::test_a_repeated_way_is_not_a_permutation();
  return predawn::testing::failures == 0 ? 0 : 1;
}
