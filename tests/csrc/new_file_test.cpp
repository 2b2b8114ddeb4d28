// A file appears whole or not at all, never in place of another, and leaves nothing behind.
#include "new_file.hpp"

#include <sys/mount.h>

#include "expect.hpp"
#include "on_files.hpp"

namespace predawn {
namespace {

using testing::contains;
using testing::TempFolder;
using testing::thrown;

template <class Action>
int error_of(Action&& action) {
  try {
    action();
  } catch (const FileError& error) {
    return error.error();
  }
  return 0;
}

void test_published_file_has_its_content(bool may_be_nameless) {
  const TempFolder folder;
  const std::string path = folder.file("a");
  NewFile file(path);
  const Descriptor fd = file.open(may_be_nameless);
  EXPECT(::write(fd.get(), "abc", 3) == 3);
  EXPECT(::access(path.c_str(), F_OK) != 0);
  file.publish(fd.get());
  struct stat found{};
  EXPECT(::stat(path.c_str(), &found) == 0 && found.st_size == 3);
  EXPECT((found.st_mode & 0777) == 0600);
  EXPECT(folder.entries() == 1);
}

void test_abandoned_file_leaves_nothing(bool may_be_nameless) {
  const TempFolder folder;
  {
    NewFile file(folder.file("a"));
    const Descriptor fd = file.open(may_be_nameless);
  }
  EXPECT(folder.entries() == 0);
}

void test_second_of_two_is_refused(bool may_be_nameless) {
  const TempFolder folder;
  {
    NewFile one(folder.file("a"));
    NewFile two(folder.file("a"));
    const Descriptor first = one.open(may_be_nameless);
    const Descriptor second = two.open(may_be_nameless);
    EXPECT(::write(first.get(), "abc", 3) == 3);
    one.publish(first.get());
    const std::string text = thrown<StoreError>([&] { two.publish(second.get()); });
    EXPECT(contains(text, folder.file("a")) && contains(text, "attach"));
    EXPECT(contains(thrown<StoreError>([&] { NewFile(folder.file("a")); }), "taken"));
  }
  EXPECT(folder.entries() == 1);
  EXPECT(std::filesystem::file_size(folder.file("a")) == 3);
}

void test_bad_places_have_their_errno() {
  const TempFolder folder;
  EXPECT(error_of([&] { (void)NewFile(folder.file("no/a")).open(); }) == ENOENT);
  EXPECT(error_of([&] { (void)NewFile(folder.path()).open(); }) == EISDIR);
  std::filesystem::create_symlink("/nowhere", folder.file("link"));
  EXPECT(!thrown<StoreError>([&] { NewFile(folder.file("link")); }).empty());
  const Descriptor plain(::open(folder.file("b").c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600));
  EXPECT(error_of([&] { (void)NewFile(folder.file("b/a")).open(); }) == ENOTDIR);
  EXPECT(error_of([&] { (void)NewFile("/proc/predawn").open(); }) != 0);
}

void test_read_only_file_system_has_its_errno() {
  const TempFolder folder;
  if (::mount("none", folder.path().c_str(), "tmpfs", MS_RDONLY, "size=1m") != 0) {
    std::puts("left out: may not mount a read-only file system");
    return;
  }
  EXPECT(error_of([&] { (void)NewFile(folder.file("a")).open(); }) == EROFS);
  ::umount(folder.path().c_str());
}

}  // namespace
}  // namespace predawn

int main() {
  for (const bool may_be_nameless : {true, false}) {
    predawn::test_published_file_has_its_content(may_be_nameless);
    predawn::test_abandoned_file_leaves_nothing(may_be_nameless);
    predawn::test_second_of_two_is_refused(may_be_nameless);
  }
  predawn::test_bad_places_have_their_errno();
  predawn::test_read_only_file_system_has_its_errno();
  return predawn::testing::failures == 0 ? 0 : 1;
}
