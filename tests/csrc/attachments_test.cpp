// Who holds its byte is alive, stopped or not; the killed are seen dead at the next look.
#include "attachments.hpp"

#include <sys/mman.h>

#include <csignal>
#include <memory>
#include <vector>

#include "expect.hpp"
#include "on_files.hpp"
#include "own_file.hpp"

namespace predawn {
namespace {

using testing::contains;
using testing::ends_well;
using testing::Signal;
using testing::start_child;
using testing::TempFolder;
using testing::thrown;

struct Store {
  TempFolder folder;
  std::string path = folder.file("a");
  std::unique_ptr<AttachRecord[]> records = std::make_unique<AttachRecord[]>(kAttachments);

  [[nodiscard]] Descriptor open() const {
    return Descriptor(::open(path.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600));
  }
  std::uint32_t take(int fd, bool is_reusable = true) const {
    return take_attachment(fd, records.get(), true, path,
                           [is_reusable](std::uint32_t) { return is_reusable; });
  }
};

void test_killed_is_dead_and_stopped_is_alive() {
  const Store store;
  const Descriptor file = store.open();
  const Signal is_attached;
  const pid_t child = start_child([&] {
    const Descriptor own = store.open();
    (void)store.take(own.get());
    is_attached.send();
    ::pause();
    return true;
  });
  is_attached.wait();
  EXPECT(is_byte_locked(file.get(), byte_of(0)));
  EXPECT(has_others(file.get()));
  ::kill(child, SIGSTOP);
  EXPECT(is_byte_locked(file.get(), byte_of(0)));
  ::kill(child, SIGKILL);
  EXPECT(!ends_well(child));
  EXPECT(!is_byte_locked(file.get(), byte_of(0)));
  EXPECT(!has_others(file.get()));
}

void test_ids_differ_and_come_back() {
  const Store store;
  const Descriptor one = store.open();
  Descriptor two = store.open();
  EXPECT(store.take(one.get()) == 0);
  EXPECT(store.take(two.get()) == 1);
  EXPECT(store.records[1].used == 1 && store.records[1].pid != 0);
  two.close();
  const Descriptor three = store.open();
  EXPECT(store.take(three.get()) == 1);
}

void test_too_many_and_not_reusable_are_errors() {
  const Store store;
  std::vector<Descriptor> files;
  for (std::size_t i = 0; i < kAttachments; ++i) {
    files.push_back(store.open());
    EXPECT(store.take(files.back().get()) == i);
  }
  const Descriptor late = store.open();
  EXPECT(contains(thrown<StoreError>([&] { (void)store.take(late.get()); }), "64 alive"));
  files.clear();
  const std::string text = thrown<StoreError>([&] { (void)store.take(late.get(), false); });
  EXPECT(contains(text, "0 alive and 64 dead"));
  EXPECT(!has_others(store.open().get()));  // nothing stays locked
}

void test_without_locks_records_count() {
  const Store store;
  const auto take = [&] {
    return take_attachment(-1, store.records.get(), false, "x", [](std::uint32_t) { return true; });
  };
  EXPECT(take() == 0);
  EXPECT(take() == 1);
  EXPECT(try_lock_byte(-1, 0) == LockEnd::kUnsupported);
  EXPECT(is_byte_locked(-1, 0));
}

void test_attach_lock_waits_and_gives_up() {
  const Store store;
  const Descriptor file = store.open();
  const Descriptor other = store.open();
  {
    const AttachLock lock(file.get(), 0, store.path);
    EXPECT(lock.is_supported());
    const std::string text = thrown<StoreError>([&] { AttachLock(other.get(), 5, store.path); });
    EXPECT(contains(text, store.path) && contains(text, "5 ms"));
  }
  {
    AttachLock(other.get(), 0, store.path).keep();
  }
  EXPECT(is_byte_locked(file.get(), kAttachByte));
}

}  // namespace
}  // namespace predawn

int main() {
  predawn::test_killed_is_dead_and_stopped_is_alive();
  predawn::test_ids_differ_and_come_back();
  predawn::test_too_many_and_not_reusable_are_errors();
  predawn::test_without_locks_records_count();
  predawn::test_attach_lock_waits_and_gives_up();
  return predawn::testing::failures == 0 ? 0 : 1;
}
