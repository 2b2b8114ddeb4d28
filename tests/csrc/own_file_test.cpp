// A child of fork has its own open file: its parent's locks end with the parent.
#include "own_file.hpp"

#include <sys/mman.h>

#include <atomic>
#include <csignal>
#include <thread>

#include "attachments.hpp"
#include "expect.hpp"
#include "on_files.hpp"

namespace predawn {
namespace {

using testing::ends_well;
using testing::Signal;
using testing::start_child;

void test_child_does_not_share_locks() {
  OwnFile file([] { return Descriptor(::memfd_create("test", MFD_CLOEXEC)); });
  EXPECT(try_lock_byte(file.fd(), 5) == LockEnd::kTaken);
  EXPECT(!is_byte_locked(file.fd(), 5));
  EXPECT(ends_well(start_child([&] { return file.fd() >= 0 && is_byte_locked(file.fd(), 5); })));
  unlock_byte(file.fd(), 5);
  EXPECT(ends_well(start_child([&] { return !is_byte_locked(file.fd(), 5); })));
}

// A process that dies while its child lives on is seen dead.
void test_lock_ends_with_the_parent_not_with_its_child() {
  OwnFile file([] { return Descriptor(::memfd_create("test", MFD_CLOEXEC)); });
  const Signal is_locked;
  const Signal may_end;
  const pid_t parent = start_child([&] {
    if (try_lock_byte(file.fd(), 5) != LockEnd::kTaken) return false;
    (void)start_child([&] {
      is_locked.send();
      may_end.wait();
      return true;
    });
    ::pause();
    return true;
  });
  is_locked.wait();
  EXPECT(is_byte_locked(file.fd(), 5));
  ::kill(parent, SIGKILL);
  EXPECT(!ends_well(parent));
  EXPECT(!is_byte_locked(file.fd(), 5));
  may_end.send();
}

void test_mutex_is_free_in_the_child() {
  OwnFile file([] { return Descriptor(::memfd_create("test", MFD_CLOEXEC)); });
  const std::lock_guard guard(file.mutex());
  EXPECT(ends_well(start_child([&] {
    const std::lock_guard own(file.mutex());
    return true;
  })));
}

void test_closed_file_stays_closed() {
  OwnFile file([] { return Descriptor(::memfd_create("test", MFD_CLOEXEC)); });
  file.close();
  file.close();
  EXPECT(file.fd() == -1);
  EXPECT(ends_well(start_child([&] { return file.fd() == -1; })));
}

void test_files_open_and_close_while_forking() {
  std::atomic<bool> is_over{false};
  std::thread other([&] {
    while (!is_over) {
      const OwnFile one([] { return Descriptor(::memfd_create("one", MFD_CLOEXEC)); });
      const OwnFile two([] { return Descriptor(::memfd_create("two", MFD_CLOEXEC)); });
    }
  });
  for (int i = 0; i < 20; ++i) EXPECT(ends_well(start_child([] { return true; })));
  is_over = true;
  other.join();
}

}  // namespace
}  // namespace predawn

int main() {
  predawn::test_child_does_not_share_locks();
  predawn::test_lock_ends_with_the_parent_not_with_its_child();
  predawn::test_mutex_is_free_in_the_child();
  predawn::test_closed_file_stays_closed();
  predawn::test_files_open_and_close_while_forking();
  return predawn::testing::failures == 0 ? 0 : 1;
}
