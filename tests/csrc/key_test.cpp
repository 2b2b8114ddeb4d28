// Places: inside the table, never the empty mark, spread evenly, different under another seed.
#include "key.hpp"

#include <algorithm>
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
  std::vector<std::uint32_t> fingerprints(1 << 16);
  for (std::uint64_t i = 0; i < kKeys; ++i) {
    const Place place = placer.place(key_of(i));
    EXPECT(place.set < kSets);
    ++loads[place.set];
    ++fingerprints[place.fingerprint];
  }
  // Means 1000 and 15.3; six standard deviations and a little.
  EXPECT(*std::max_element(loads.begin(), loads.end()) < 1200);
  EXPECT(*std::min_element(loads.begin(), loads.end()) > 800);
  EXPECT(fingerprints[0] == 0);
  EXPECT(*std::max_element(fingerprints.begin(), fingerprints.end()) < 80);
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

}  // namespace
}  // namespace predawn

int main() {
  predawn::test_patterned_ids_spread_evenly();
  predawn::test_halves_of_a_key_are_not_interchangeable();
  predawn::test_seed_decides_the_place();
  return predawn::testing::failures == 0 ? 0 : 1;
}
