// The index against std::unordered_map: random insertions and erasures, and hashes all alike.

#include "open_index.hpp"

#include <random>
#include <unordered_map>

#include "expect.hpp"

namespace predawn {
namespace {

// hashes: how many different ones there are: few of them make long probes.
void stays_the_map(std::uint32_t hashes) {
  constexpr std::uint32_t kEntries = 200;
  OpenIndex index(kEntries);
  std::unordered_map<std::uint32_t, std::uint32_t> hash_of;
  std::mt19937 random(hashes);
  for (int step = 0; step < 20'000; ++step) {
    const auto position = static_cast<std::uint32_t>(1 + random() % kEntries);
    const auto known = hash_of.find(position);
    if (known == hash_of.end()) {
      const auto hash = static_cast<std::uint32_t>(random() % hashes * 0x9e3779b9u);
      index.insert(hash, position);
      hash_of.emplace(position, hash);
    } else if (random() % 2 == 0) {
      index.erase(known->second, position);
      hash_of.erase(known);
    }
    if (step % 50 != 0) continue;
    for (std::uint32_t each = 1; each <= kEntries; ++each) {
      const auto in = hash_of.find(each);
      const std::uint32_t hash = in == hash_of.end() ? 0 : in->second;
      const std::uint32_t found = index.find(hash, [each](std::uint32_t at) { return at == each; });
      EXPECT(found == (in == hash_of.end() ? OpenIndex::kNone : each));
    }
  }
}

}  // namespace
}  // namespace predawn

int main() {
  for (const std::uint32_t hashes : {1u, 7u, 300u, 0xffffffffu}) predawn::stays_the_map(hashes);
  return predawn::testing::failures != 0;
}
