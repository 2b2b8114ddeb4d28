// A mapping starts at a huge page's boundary, is shared, and is refused with the right error.
#include "mapping.hpp"

#include <fcntl.h>
#include <sys/resource.h>

#include <fstream>

#include "expect.hpp"
#include "on_files.hpp"

namespace predawn {
namespace {

using testing::thrown;

Descriptor memory_file(std::size_t bytes) {
  Descriptor file(::memfd_create("test", MFD_CLOEXEC));
  if (::ftruncate(file.get(), static_cast<off_t>(bytes)) != 0) std::abort();
  return file;
}

void test_mapping_is_aligned_and_shared() {
  const Descriptor file = memory_file(12'288);
  const Mapping one(file.get(), 12'288, "x");
  const Mapping two(file.get(), 12'288, "x");
  EXPECT(reinterpret_cast<std::uintptr_t>(one.start()) % kHugePageBytes == 0);
  EXPECT(one.start() != two.start());
  one.start()[12'287] = std::byte{7};
  EXPECT(two.start()[12'287] == std::byte{7});
  EXPECT(one.bytes() == 12'288);
}

void test_too_large_is_out_of_memory() {
  const Descriptor file = memory_file(4'096);
  EXPECT(!thrown<OutOfMemory>([&] { Mapping(file.get(), std::size_t{1} << 60, "x"); }).empty());
  EXPECT(!thrown<OutOfMemory>([&] { Mapping(file.get(), SIZE_MAX - 4'095, "x"); }).empty());
}

void test_address_space_limit_is_out_of_memory() {
  const Descriptor file = memory_file(std::size_t{1} << 32);
  EXPECT(testing::ends_well(testing::start_child([&] {
    std::uint64_t pages = 0;
    std::ifstream("/proc/self/statm") >> pages;
    const rlim_t most = pages * 4'096 + (rlim_t{1} << 28);
    const rlimit limit{most, most};
    if (::setrlimit(RLIMIT_AS, &limit) != 0) return false;
    return !thrown<OutOfMemory>([&] { Mapping(file.get(), std::size_t{1} << 32, "x"); }).empty();
  })));
}

void test_refused_file_is_file_error() {
  const Descriptor folder(::open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  EXPECT(!thrown<FileError>([&] { Mapping(folder.get(), 4'096, "/"); }).empty());
}

void test_descriptor_moves() {
  Descriptor one = memory_file(0);
  const int fd = one.get();
  Descriptor two(std::move(one));
  EXPECT(!one.is_open() && two.get() == fd);
  one = std::move(two);
  EXPECT(one.get() == fd);
  one.close();
  EXPECT(!one.is_open() && ::fcntl(fd, F_GETFD) == -1);
}

}  // namespace
}  // namespace predawn

int main() {
  predawn::test_mapping_is_aligned_and_shared();
  predawn::test_too_large_is_out_of_memory();
  predawn::test_address_space_limit_is_out_of_memory();
  predawn::test_refused_file_is_file_error();
  predawn::test_descriptor_moves();
  return predawn::testing::failures == 0 ? 0 : 1;
}
