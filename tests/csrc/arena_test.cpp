// Memory is zero, costs nothing until it is touched, and a refused mapping is an error.
#include "arena.hpp"

#include <cstdint>
#include <cstdio>

#include "expect.hpp"

namespace predawn {
namespace {

std::uint64_t resident_pages() {
  unsigned long long mapped = 0;
  unsigned long long resident = 0;
  std::FILE* file = std::fopen("/proc/self/statm", "r");
  if (file == nullptr) return 0;
  if (std::fscanf(file, "%llu %llu", &mapped, &resident) != 2) resident = 0;
  std::fclose(file);
  return resident;
}

void test_untouched_memory_costs_nothing() {
  constexpr std::size_t kGiB = std::size_t{1} << 30;
  const std::uint64_t before = resident_pages();
  const Arena arena(kGiB);
  EXPECT(arena.bytes() == kGiB);
  for (std::size_t at = 0; at < kGiB; at += kGiB / 64) {
    EXPECT(*arena.at(at) == std::byte{0});
    *arena.at(at) = std::byte{1};
  }
  EXPECT(resident_pages() - before < 4'096);  // of 262,144
}

void test_refused_mapping_is_bad_alloc() {
  bool refused = false;
  try {
    const Arena arena(std::size_t{1} << 60);
  } catch (const std::bad_alloc&) {
    refused = true;
  }
  EXPECT(refused);
}

}  // namespace
}  // namespace predawn

int main() {
  predawn::test_untouched_memory_costs_nothing();
  predawn::test_refused_mapping_is_bad_alloc();
  return predawn::testing::failures == 0 ? 0 : 1;
}
