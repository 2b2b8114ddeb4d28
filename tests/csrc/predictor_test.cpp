// The parts of the pair predictor hold what they promise, and the whole stays within its memory.
#include "predictor.hpp"

#include <cstdlib>
#include <deque>
#include <map>
#include <new>
#include <set>

#include "expect.hpp"

namespace {
std::size_t allocations = 0;
}

#define ALONE __attribute__((noinline))  // a compiler that sees through them warns of mismatches
ALONE void* operator new(std::size_t size) {
  ++allocations;
  if (void* memory = std::malloc(size)) return memory;
  throw std::bad_alloc();
}
ALONE void operator delete(void* memory) noexcept { std::free(memory); }
ALONE void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }

namespace predawn::predictor {
namespace {

constexpr std::int64_t kMinute = 60'000;
constexpr std::int64_t kHour = 60 * kMinute;

struct Random {
  std::uint64_t state;
  std::uint64_t next() { return mixed(state += 0x9e3779b97f4a7c15u); }
  std::uint64_t below(std::uint64_t most) { return next() % most; }
};

void test_slots_keep_who_is_worth_most() {
  KeyedSlots slots(8, 1);
  std::vector<std::int64_t> worth(slots.size(), 0);
  const auto worth_of = [&](std::uint32_t slot) { return worth[slot]; };
  bool is_new = false;
  for (std::uint64_t i = 0; i < 8; ++i) {
    worth[slots.take({i, Kind::kInteger}, worth_of, is_new)] = static_cast<std::int64_t>(i);
    EXPECT(is_new);
  }
  EXPECT(slots.used() == 8 && slots.find({0, Kind::kInteger}) != kNoSlot);
  slots.take({3, Kind::kText}, worth_of, is_new);
  EXPECT(is_new && slots.used() == 8);
  EXPECT(slots.find({0, Kind::kInteger}) == kNoSlot);
  EXPECT(slots.find({3, Kind::kInteger}) != slots.find({3, Kind::kText}));
}

void test_counts_halve_and_time_never_goes_back() {
  Decayed count;
  count.add(8, 1000, 100);
  EXPECT(count.at(1000, 100) == 8 && count.at(1100, 100) == 4 && count.at(900, 100) == 8);
  count.add(1, 900, 100);
  EXPECT(count.at(1000, 100) == 9);
}

void test_factors_find_the_rate() {
  Factors factors(2);
  Random random{1};
  for (int i = 0; i < 20'000; ++i) {
    const float said = std::exp(factors.log(1));
    const float came = random.below(10) < 3 ? 10.0f : 0.0f;  // 3 on average
    factors.learn(1, (said - came) / (1 + said));
  }
  EXPECT(std::abs(std::exp(factors.log(1)) - 3) < 0.4f && factors.log(0) == 0);
}

void test_calibration_corrects_chances_twice_too_high() {
  Calibration calibration;
  Reliability reliability;
  Random random{2};
  for (int i = 0; i < 40'000; ++i) {
    const float chance = static_cast<float>(random.below(1000)) / 1000;
    const bool came = static_cast<float>(random.below(1'000'000)) / 1e6f < chance / 2;
    if (i > 20'000) reliability.add(calibration.of(chance), came, 1, 5);
    calibration.learn(chance, came);
  }
  EXPECT(std::abs(calibration.of(0.6f) - 0.3f) < 0.03f);
  double gap = 0;
  for (const Reliability::Sums& each : reliability.recent().by_chance) {
    gap += std::abs(each.said - each.came);
  }
  EXPECT(gap / static_cast<double>(reliability.recent().examples) < 0.02);
}

void test_examples_are_found_by_pair_until_due() {
  Examples examples(4);
  const auto pair = [](std::uint64_t number, std::int64_t due) {
    PairExample example{};
    example.pair = number;
    example.due_ms = due;
    return example;
  };
  for (const std::int64_t due : {10, 20, 20, 30}) EXPECT(examples.push(pair(7, due)));
  EXPECT(!examples.push(pair(8, 40)) && examples.refused() == 1);
  examples.asked(7, 15);
  examples.asked(8, 15);
  EXPECT(!examples.has_due(9) && examples.has_due(10));
  EXPECT(!examples.pop().came);  // came after it was due
  EXPECT(examples.pop().came && examples.pop().came && examples.pop().came);
  EXPECT(examples.size() == 0 && !examples.has_due(1000));
}

void test_a_sampler_fills_half_the_room() {
  Sampler sampler(1000, kHour, 3);
  double taken = 0;
  double weight = 0;
  const int each_ms = 20;  // 180,000 in an hour
  for (std::int64_t now = 0; now < 10 * kHour; now += each_ms) {
    if (!sampler.takes(now) || now < 5 * kHour) continue;
    taken += 1;
    weight += static_cast<double>(sampler.weight());
  }
  EXPECT(std::abs(taken / 5 - 500) < 60);
  EXPECT(std::abs(weight / (5.0 * static_cast<double>(kHour) / each_ms) - 1) < 0.1);
}

// The last lists as they are: whole, newest first.
using Lists = std::deque<std::vector<std::uint64_t>>;

std::map<std::uint64_t, unsigned> bits_of(const Lists& lists) {
  std::map<std::uint64_t, unsigned> bits;
  for (std::size_t k = 0; k < lists.size(); ++k) {
    for (const std::uint64_t item : lists[k]) bits[item] |= 1u << k;
  }
  return bits;
}

void test_what_was_shown_equals_the_lists_themselves() {
  constexpr std::size_t kLists = 3;
  Users users(16, kLists, 5);
  Random random{6};
  std::map<std::uint64_t, Lists> twins;
  for (std::int64_t now = 1; now < 2000; ++now) {
    const std::uint64_t number = random.below(4);
    const std::uint32_t slot = users.take({number, Kind::kInteger}, now);
    std::set<std::uint64_t> items;
    for (std::uint64_t n = random.below(10); n > 0; --n) items.insert(random.below(30));
    Lists& twin = twins[number];
    twin.emplace_front(items.begin(), items.end());
    if (twin.size() > kLists) twin.pop_back();
    users.begin_list(slot, items.size(), now);
    users.index(slot);
    for (const std::uint64_t item : items) {
      const int at = users.position(slot, item);
      if (at >= 0) users.entries(slot)[static_cast<std::size_t>(at)].lists |= 1u;
      if (at < 0)
        users.add(slot,
                  {.item = item, .lists = 1, .place = 0, .rank = 0, .times = 1, .known = false});
    }
    std::map<std::uint64_t, unsigned> seen;
    for (const Shown& each : users.entries(slot)) seen[each.item] = each.lists;
    EXPECT(seen == bits_of(twin));
  }
}

void test_a_long_list_keeps_its_best() {
  Users users(8, 1, 5);
  const std::uint32_t slot = users.take({1, Kind::kInteger}, 1);
  users.begin_list(slot, 500, 1);
  users.index(slot);
  for (std::uint16_t i = 0; i < 500; ++i) {
    users.add(slot, {.item = i, .lists = 1, .place = i, .rank = 0, .times = 1, .known = false});
  }
  EXPECT(users.entries(slot).size() == kEntriesPerList);
  for (const Shown& each : users.entries(slot)) EXPECT(each.item < kEntriesPerList);
}

void test_rates_of_items_are_their_shares() {
  Items items(1024, 16, 7);
  const Factors none(16);
  Random random{8};
  std::int64_t now = 0;
  for (int i = 0; i < 40'000; ++i) {
    now += 1000;
    const std::uint64_t chosen = random.below(100);
    items.sighted(chosen < 20 ? 1 : chosen < 30 ? 2 : 100 + random.below(500), now);
  }
  const auto popular = items.popular(now, none, none);
  EXPECT(popular.size() == 16 && popular[0].item == 1 && popular[1].item == 2);
  EXPECT(std::abs(popular[0].rate - 0.2f) < 0.03f && std::abs(popular[1].rate - 0.1f) < 0.02f);
}

void test_activity_learns_how_many_come() {
  Activity activity(6 * kHour);
  User user;
  Random random{9};
  for (int i = 0; i < 5000; ++i) {
    const ActivityFeatures features = activity.features(user, 20 * kHour);
    activity.learn(features, static_cast<float>(random.below(25)));  // 12 on average
  }
  EXPECT(std::abs(activity.expected(activity.features(user, 20 * kHour)) - 12) < 1);
}

void test_a_flood_takes_no_memory() {
  Predictor predictor({.users = 64,
                       .items = 256,
                       .lists = 10,
                       .popular = 32,
                       .ttl_ms = kHour,
                       .seed = 1,
                       .examples = 512});
  Random random{10};
  std::vector<std::uint64_t> items(40);
  const std::vector<float> scores(40, 0.5f);
  const std::vector<std::uint8_t> known(40, 0);
  std::size_t before = 0;
  for (int i = 0; i < 3000; ++i) {
    for (std::uint64_t& item : items) item = random.below(i % 2 == 0 ? 300 : 1u << 30);
    const Id id{random.below(5000), i % 3 == 0 ? Kind::kText : Kind::kInteger};
    const std::int64_t now = i * 20'000 - (i % 7 == 0 ? kHour : 0);
    predictor.asked(id, items, scores, known, now);
    for (const Candidate& each : predictor.propose(id, now, 0, 1000)) {
      EXPECT(each.chance >= 0 && each.chance <= 1);
    }
    if (i == 100) before = allocations;
  }
  EXPECT(allocations == before);
  EXPECT(predictor.users().known() <= 64 && predictor.items().known() <= 256);
  EXPECT(predictor.examples().size() <= 512);
}

}  // namespace
}  // namespace predawn::predictor

int main() {
  using namespace predawn::predictor;
  test_slots_keep_who_is_worth_most();
  test_counts_halve_and_time_never_goes_back();
  test_factors_find_the_rate();
  test_calibration_corrects_chances_twice_too_high();
  test_examples_are_found_by_pair_until_due();
  test_a_sampler_fills_half_the_room();
  test_what_was_shown_equals_the_lists_themselves();
  test_a_long_list_keeps_its_best();
  test_rates_of_items_are_their_shares();
  test_activity_learns_how_many_come();
  test_a_flood_takes_no_memory();
  return predawn::testing::failures == 0 ? 0 : 1;
}
