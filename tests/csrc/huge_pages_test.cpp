// Huge pages come where the kernel gives them; where not, nothing else changes.
#include "huge_pages.hpp"

#include <sys/mman.h>

#include "expect.hpp"
#include "on_files.hpp"

namespace predawn {
namespace {

void test_huge_pages_or_small_ones() {
  const std::size_t bytes = 3 * kHugePageBytes + 4'096;
  const Descriptor file(::memfd_create("test", MFD_CLOEXEC));
  set_length(file.get(), bytes, "x");
  const Mapping mapping(file.get(), bytes, "x");
  advise_pages(mapping, true);
  take_huge_pages(file.get(), mapping, "x");
  take_space(file.get(), 0, bytes, "x");
  const std::uint64_t huge = huge_bytes(mapping);
  std::printf("%llu of %zu bytes in huge pages\n", static_cast<unsigned long long>(huge), bytes);
  EXPECT(huge % kHugePageBytes == 0 && huge <= bytes);
  for (std::size_t at = 0; at < bytes; at += 4'096) EXPECT(mapping.start()[at] == std::byte{0});
}

void test_small_pages_are_not_counted() {
  const Descriptor file(::memfd_create("test", MFD_CLOEXEC));
  set_length(file.get(), kHugePageBytes, "x");
  const Mapping mapping(file.get(), kHugePageBytes, "x");
  advise_pages(mapping, false);
  mapping.start()[5] = std::byte{1};
  EXPECT(huge_bytes(mapping) == 0);
}

void test_smaller_than_a_huge_page() {
  const Descriptor file(::memfd_create("test", MFD_CLOEXEC));
  set_length(file.get(), 4'096, "x");
  const Mapping mapping(file.get(), 4'096, "x");
  take_huge_pages(file.get(), mapping, "x");
  EXPECT(huge_bytes(mapping) == 0);
}

}  // namespace
}  // namespace predawn

int main() {
  predawn::test_huge_pages_or_small_ones();
  predawn::test_small_pages_are_not_counted();
  predawn::test_smaller_than_a_huge_page();
  return predawn::testing::failures == 0 ? 0 : 1;
}
