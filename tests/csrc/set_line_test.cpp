// A set's line: the vector look over its tags against a loop, and where its slots lie.
#include "set_line.hpp"

#include <array>
#include <random>

#include "expect.hpp"

namespace predawn {
namespace {

using Line = SetLine<StdAtomics>;

std::uint32_t looped_matches(const Tags& tags, std::uint32_t fingerprint) {
  std::uint32_t mask = 0;
  for (unsigned way = 0; way < kWays; ++way) {
    if (tags[way].valid() && tags[way].fingerprint() == fingerprint) mask |= 1u << way;
  }
  return mask;
}

void test_matches_are_those_of_a_loop() {
  constexpr std::array<std::uint32_t, 6> kValues = {0, 1, 0x7ff, 0x800, 0xffe, 0xfff};
  Line line{};
  std::mt19937 random(2);
  for (int step = 0; step < 20'000; ++step) {
    line.word.store(std::uint64_t{random()} << 32 | random());
    Tag tag(random() % kSlots, random(), kValues[random() % kValues.size()], random() % 16,
            static_cast<std::uint32_t>(random()));
    if (random() % 4 == 0) tag = tag.without(Tag::kValid);
    line.tags[random() % kWays].store(tag.word());
    const Tags tags = load_tags(line);
    for (const std::uint32_t value : kValues) {
      EXPECT(match_hint(line, value) == looped_matches(tags, value));
    }
  }
}

void test_tags_are_loaded_in_the_order_of_ways() {
  Line line{};
  for (unsigned way = 0; way < kWays; ++way) line.tags[way].store(way + 1);
  const Tags tags = load_tags(line);
  for (unsigned way = 0; way < kWays; ++way) EXPECT(tags[way].word() == way + 1);
}

void test_untouched_memory_is_an_empty_set() {
  Line line{};
  EXPECT(match_hint(line, 0) == 0);
  for (const Tag tag : load_tags(line)) EXPECT(!tag.valid());
}

void test_slots_lie_one_after_the_other() {
  Line line{};
  alignas(kLineBytes) std::byte slots[kSlots * 128] = {};
  const SetRef<StdAtomics> set{&line, slots, 128};
  EXPECT(reinterpret_cast<std::byte*>(set.slot(0)) == slots);
  EXPECT(reinterpret_cast<std::byte*>(set.slot(15)) == slots + 15 * 128);
}

}  // namespace
}  // namespace predawn

int main() {
  predawn::test_matches_are_those_of_a_loop();
  predawn::test_tags_are_loaded_in_the_order_of_ways();
  predawn::test_untouched_memory_is_an_empty_set();
  predawn::test_slots_lie_one_after_the_other();
  return predawn::testing::failures == 0 ? 0 : 1;
}
