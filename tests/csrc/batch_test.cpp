// A batch: every key is visited once and in order, after its line and slot were asked for.
#include "batch.hpp"

#include <vector>

#include "cache.hpp"
#include "expect.hpp"

namespace predawn {
namespace {

std::vector<Key> keys_upto(std::size_t n) {
  std::vector<Key> keys;
  for (std::size_t i = 0; i < n; ++i) keys.push_back({i, 7});
  return keys;
}

void test_every_key_is_asked_for_then_visited_once_in_order(KeyRange range) {
  const auto [begin, end, ahead] = range;
  const auto cache = Cache::create("", {1'000, 2, 1}, Seed{1, 2, 3}, 0, {.huge_pages = false});
  const Table& table = cache->table();
  const std::vector<Key> keys = keys_upto(end);
  std::vector<std::uint64_t> asked;
  std::vector<std::size_t> visited;
  const auto ask = [&](Place place) {
    asked.push_back(place.set);
    return static_cast<std::uint32_t>(asked.size());
  };
  pipeline(table, keys, range, ask, [&](std::size_t i, Place place, std::uint32_t hint) {
    EXPECT(place.set == table.place(keys[i]).set);
    EXPECT(hint == visited.size() + 1 && asked[hint - 1] == place.set);
    EXPECT(asked.size() == std::min(end - begin, visited.size() + ahead + 1));
    visited.push_back(i);
  });
  EXPECT(visited.size() == end - begin && asked.size() == end - begin);
  for (std::size_t i = 0; i < visited.size(); ++i) EXPECT(visited[i] == begin + i);
}

void test_memory_of_any_length_is_own_and_aligned(std::size_t bytes) {
  RowMemory one(bytes);
  RowMemory other(bytes);
  EXPECT(one.data() != other.data());
  EXPECT(reinterpret_cast<std::uintptr_t>(one.data()) % alignof(std::uint64_t) == 0);
  std::fill_n(one.data(), bytes, std::byte{1});
  std::fill_n(other.data(), bytes, std::byte{2});
  EXPECT(bytes == 0 || one.data()[bytes - 1] == std::byte{1});
}

}  // namespace
}  // namespace predawn

int main() {
  static_assert(predawn::keys_ahead(128) == 16 && predawn::keys_ahead(1024) == 7 &&
                predawn::keys_ahead(1 << 20) == 4 && 2 * predawn::kAheadMost < predawn::kRing);
  for (const std::size_t n : {0, 1, 15, 16, 17, 31, 32, 33, 64, 65, 200}) {
    for (const std::size_t ahead : {predawn::kAheadLeast, predawn::kAheadMost}) {
      predawn::test_every_key_is_asked_for_then_visited_once_in_order({0, n, ahead});
      predawn::test_every_key_is_asked_for_then_visited_once_in_order({n / 3, n, ahead});
    }
  }
  for (const std::size_t bytes : {0, 8, 4096, 4104, 1 << 20}) {
    predawn::test_memory_of_any_length_is_own_and_aligned(bytes);
  }
  return predawn::testing::failures == 0 ? 0 : 1;
}
