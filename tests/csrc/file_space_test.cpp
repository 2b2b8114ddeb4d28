// Space is there after it was taken, what is there is kept, and no room is an error, not a signal.
#include "file_space.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/mount.h>

#include <csignal>

#include "expect.hpp"
#include "mapping.hpp"
#include "on_files.hpp"

namespace predawn {
namespace {

using testing::TempFolder;

constexpr std::size_t kMiB = std::size_t{1} << 20;

template <class Action>
int error_of(Action&& action) {
  try {
    action();
  } catch (const FileError& error) {
    return error.error();
  }
  return 0;
}

std::size_t bytes_taken(int fd) {
  struct stat about{};
  return ::fstat(fd, &about) == 0 ? static_cast<std::size_t>(about.st_blocks) * 512 : 0;
}

void test_space_is_taken_and_content_kept() {
  const Descriptor file(::memfd_create("test", MFD_CLOEXEC));
  set_length(file.get(), 3 * kMiB, "x");
  EXPECT(bytes_taken(file.get()) == 0);
  EXPECT(::pwrite(file.get(), "abc", 3, kMiB) == 3);
  take_space(file.get(), 0, 3 * kMiB, "x");
  EXPECT(bytes_taken(file.get()) == 3 * kMiB);
  char held[3] = {};
  EXPECT(::pread(file.get(), held, 3, kMiB) == 3 && held[0] == 'a' && held[2] == 'c');
}

void test_holes_are_filled_and_content_kept() {
  const Descriptor file(::memfd_create("test", MFD_CLOEXEC));
  set_length(file.get(), 3 * kMiB, "x");
  EXPECT(::pwrite(file.get(), "abc", 3, kMiB) == 3);
  fill_holes(file.get(), 3 * kMiB, "x");
  EXPECT(bytes_taken(file.get()) == 3 * kMiB);
  char held[3] = {};
  EXPECT(::pread(file.get(), held, 3, kMiB) == 3 && held[1] == 'b');
}

void test_zeros_where_there_is_no_fallocate() {
  const Descriptor file(::memfd_create("test", MFD_CLOEXEC));
  set_length(file.get(), 3 * kMiB, "x");
  detail::write_zeros(file.get(), 0, 2 * kMiB + 5, "x");
  EXPECT(bytes_taken(file.get()) >= 2 * kMiB);
}

void test_memory_files_are_known() {
  const Descriptor memory(::memfd_create("test", MFD_CLOEXEC));
  const Descriptor other(::open("/proc/self/stat", O_RDONLY | O_CLOEXEC));
  EXPECT(is_memory_file(memory.get()));
  EXPECT(!is_memory_file(other.get()));
}

// Without SIGXFSZ ignored: it must not even be sent.
void test_file_size_limit_is_an_error() {
  EXPECT(testing::ends_well(testing::start_child([] {
    std::signal(SIGXFSZ, SIG_DFL);
    const rlimit limit{kMiB, kMiB};
    if (::setrlimit(RLIMIT_FSIZE, &limit) != 0) return false;
    const Descriptor file(::memfd_create("test", MFD_CLOEXEC));
    return error_of([&] { set_length(file.get(), kMiB + 1, "x"); }) == EFBIG &&
           error_of([&] { set_length(file.get(), kMiB, "x"); }) == 0;
  })));
}

void test_full_file_system_is_an_error() {
  const TempFolder folder;
  if (::mount("none", folder.path().c_str(), "tmpfs", 0, "size=1m") != 0) {
    std::puts("left out: may not mount a small file system");
    return;
  }
  {
    const Descriptor file(::open(folder.file("a").c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600));
    set_length(file.get(), 2 * kMiB, "x");
    EXPECT(error_of([&] { check_space(file.get(), 2 * kMiB, "x"); }) == ENOSPC);
    EXPECT(error_of([&] { take_space(file.get(), 0, 2 * kMiB, "x"); }) == ENOSPC);
    EXPECT(error_of([&] { detail::write_zeros(file.get(), 0, 2 * kMiB, "x"); }) == ENOSPC);
  }
  ::umount(folder.path().c_str());
}

}  // namespace
}  // namespace predawn

int main() {
  predawn::test_space_is_taken_and_content_kept();
  predawn::test_holes_are_filled_and_content_kept();
  predawn::test_zeros_where_there_is_no_fallocate();
  predawn::test_memory_files_are_known();
  predawn::test_file_size_limit_is_an_error();
  predawn::test_full_file_system_is_an_error();
  return predawn::testing::failures == 0 ? 0 : 1;
}
