// Places: inside the table, spread evenly, different under another seed, near by for one user.
#include "key.hpp"

#include <algorithm>
#include <set>
#include <vector>

#include "expect.hpp"

namespace predawn {
namespace {

constexpr SipKey kSeed{0x0123456789abcdefu, 0xfedcba9876543210u};
constexpr std::uint64_t kSets = 1000;
constexpr std::uint64_t kKeys = 1'000'000;

template <class KeyOf>
void expect_even_spread(KeyOf key_of) {
  const Placer placer(kSeed, kSets);
  std::vector<std::uint32_t> loads(kSets);
  std::vector<std::uint32_t> fingerprints(1 << 12);
  for (std::uint64_t i = 0; i < kKeys; ++i) {
    const Place place = placer.place(key_of(i));
    EXPECT(place.set < kSets && place.fingerprint < fingerprints.size());
    ++loads[place.set];
    ++fingerprints[place.fingerprint];
  }
  // Means 1000 and 244; six standard deviations and a little.
  EXPECT(*std::max_element(loads.begin(), loads.end()) < 1200);
  EXPECT(*std::min_element(loads.begin(), loads.end()) > 800);
  EXPECT(*std::max_element(fingerprints.begin(), fingerprints.end()) < 345);
  EXPECT(*std::min_element(fingerprints.begin(), fingerprints.end()) > 145);
}

void test_patterned_ids_spread_evenly() {
  expect_even_spread([](std::uint64_t i) { return Key{i, 0}; });
  expect_even_spread([](std::uint64_t i) { return Key{i << 32, 0}; });
  expect_even_spread([](std::uint64_t i) { return Key{0, i}; });
  expect_even_spread([](std::uint64_t i) { return Key{i % 1000, i / 1000}; });
}

void test_halves_of_a_key_are_not_interchangeable() {
  const Placer placer(kSeed, std::uint64_t{1} << 32);
  std::uint64_t same = 0;
  for (std::uint64_t i = 1; i <= 1000; ++i) {
    same += placer.place({i, 0}).set == placer.place({0, i}).set ? 1 : 0;
  }
  EXPECT(same == 0);
  EXPECT(!(Key{1, 2} == Key{2, 1}));
}

void test_seed_decides_the_place() {
  const Placer one(kSeed, kSets);
  const Placer same(kSeed, kSets);
  const Placer other({kSeed.k0 + 1, kSeed.k1}, kSets);
  std::uint64_t moved = 0;
  for (std::uint64_t i = 0; i < 1000; ++i) {
    EXPECT(one.place({i, 0}).set == same.place({i, 0}).set);
    moved += one.place({i, 0}).set != other.place({i, 0}).set ? 1 : 0;
  }
  EXPECT(moved > 980);
}

void test_pairs_of_a_user_share_neighbouring_sets() {
  const Placer placer(kSeed, kSets, Placement::kUserMajor);
  for (std::uint64_t user = 0; user < 200; ++user) {
    std::set<std::uint64_t> sets;
    for (std::uint64_t item = 0; item < 5000; ++item) sets.insert(placer.place({user, item}).set);
    EXPECT(sets.size() == Placer::kUserSets);
    // One run of sets, round the table.
    std::uint64_t gaps = 0;
    for (const std::uint64_t set : sets) gaps += sets.contains((set + 1) % kSets) ? 0 : 1;
    EXPECT(gaps == 1);
  }
}

void test_a_table_smaller_than_a_users_sets_is_used_whole() {
  const Placer placer(kSeed, 3, Placement::kUserMajor);
  std::set<std::uint64_t> sets;
  for (std::uint64_t item = 0; item < 1000; ++item) sets.insert(placer.place({7, item}).set);
  EXPECT(sets == (std::set<std::uint64_t>{0, 1, 2}));
}

void test_one_set_takes_everything() {
  for (const Placement placement : {Placement::kHashed, Placement::kUserMajor}) {
    const Placer placer(kSeed, 1, placement);
    for (std::uint64_t i = 0; i < 1000; ++i) EXPECT(placer.place({i, i}).set == 0);
  }
}

}  // namespace
}  // namespace predawn

int main() {
  predawn::test_patterned_ids_spread_evenly();
  predawn::test_halves_of_a_key_are_not_interchangeable();
  predawn::test_seed_decides_the_place();
  predawn::test_pairs_of_a_user_share_neighbouring_sets();
  predawn::test_a_table_smaller_than_a_users_sets_is_used_whole();
  predawn::test_one_set_takes_everything();
  return predawn::testing::failures == 0 ? 0 : 1;
}
