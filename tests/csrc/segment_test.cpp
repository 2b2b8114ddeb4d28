// A store comes into being whole, is refused when it is not what it says, and is found again.
#include "segment.hpp"

#include <sys/mount.h>
#include <sys/resource.h>

#include <csignal>
#include <cstring>
#include <fstream>
#include <functional>
#include <thread>
#include <vector>

#include "expect.hpp"
#include "on_files.hpp"

namespace predawn {
namespace {

using testing::contains;
using testing::ends_well;
using testing::start_child;
using testing::TempFolder;
using testing::thrown;

const TableShape kShape{20'000, 32, 1};
const Seed kSeed{1, 2, 3};
const SegmentOptions kSmall{false, 50};
const SegmentOptions kHuge{true, 50};

Segment create(const std::string& path, const SegmentOptions& options = kSmall,
               const TableShape& shape = kShape) {
  return Segment::create(path, shape, kSeed, 1'700'000'000'000, options);
}

template <class Action>
int error_of(Action&& action) {
  try {
    action();
  } catch (const FileError& error) {
    return error.error();
  }
  return 0;
}

std::string content(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

void test_created_store_is_found_by_others(const SegmentOptions& options) {
  const TempFolder folder;
  const std::string path = folder.file("a");
  Segment one = create(path, options);
  EXPECT(folder.entries() == 1);
  EXPECT(one.bytes() == std::filesystem::file_size(path) && one.path() == path);
  EXPECT(one.huge_bytes() <= one.bytes());
  EXPECT(reinterpret_cast<std::uintptr_t>(one.at(0)) % kHugePageBytes == 0);
  Segment two = Segment::attach(path, options);
  EXPECT(!two.must_recover() && two.attachment() != one.attachment());
  EXPECT(one.is_alive(two.attachment()) && two.is_alive(one.attachment()));
  EXPECT(two.header().seed == kSeed && two.header().dim == 32);
  EXPECT(two.layout().sets == (kShape.capacity + kWays - 1) / kWays);
  std::memset(one.at(kPreambleBytes), 7, one.bytes() - kPreambleBytes);
  EXPECT(*two.at(two.bytes() - 1) == std::byte{7});
}

void test_clean_restart_keeps_everything() {
  const TempFolder folder;
  const std::string path = folder.file("a");
  std::size_t last = 0;
  {
    Segment first = create(path);
    last = first.bytes() - 1;
    *first.at(last) = std::byte{5};
    Segment moved = std::move(first);
    first.close();
    moved.close();
    moved.close();
  }
  const Segment second = Segment::attach(path, kSmall);
  EXPECT(!second.must_recover() && *second.at(last) == std::byte{5});
}

void test_clean_mark_is_not_believed_blindly() {
  const TempFolder folder;
  const std::string path = folder.file("a");
  {
    Segment first = create(path);
    auto* lines = reinterpret_cast<SetLine<Atomics>*>(first.at(first.layout().lines_at));
    lines[3].word = SetWord().with_pending(15, 2, 0).word();
  }
  EXPECT(Segment::attach(path, kSmall).must_recover());
}

void test_killed_creator_leaves_a_store_to_recover() {
  const TempFolder folder;
  const std::string path = folder.file("a");
  EXPECT(!ends_well(start_child([&] {
    const Segment first = create(path);
    ::raise(SIGKILL);
    return true;
  })));
  Segment second = Segment::attach(path, kSmall);
  EXPECT(second.must_recover());
  EXPECT(contains(thrown<StoreError>([&] { (void)Segment::attach(path, kSmall); }), path));
  EXPECT(second.preamble().attachments[second.attachment()].used == 1);  // still the second's
  second.recovered();
  EXPECT(!Segment::attach(path, kSmall).must_recover());
}

void test_existing_file_is_never_touched() {
  const TempFolder folder;
  const std::string path = folder.file("a");
  std::ofstream(path) << "precious";
  EXPECT(contains(thrown<StoreError>([&] { (void)create(path); }), path));
  EXPECT(contains(thrown<StoreError>([&] { (void)Segment::attach(path, kSmall); }), "magic"));
  EXPECT(content(path) == "precious" && folder.entries() == 1);
}

void test_refused_files_stay_as_they_are() {
  const TempFolder folder;
  const std::string path = folder.file("a");
  create(path).close();
  const std::string whole = content(path);
  const auto check = [&](std::string text, const char* reason) {
    std::ofstream(path, std::ios::binary | std::ios::trunc) << text;
    EXPECT(contains(thrown<StoreError>([&] { (void)Segment::attach(path, kSmall); }), reason));
    EXPECT(content(path) == text);
  };
  check(whole.substr(0, whole.size() - 4'096), "truncated");
  check(whole.substr(0, 60), "truncated");
  check("", "0 bytes");
  std::string damaged = whole;
  damaged[40] ^= 1;
  check(damaged, "checksum");
  damaged = whole;
  damaged[8] = 77;
  check(damaged, "format version is 77, expected 2");
  check(std::string(whole.size(), 'x'), "magic");
}

void test_bad_paths_have_their_errno() {
  const TempFolder folder;
  const auto attach = [&](const std::string& path) {
    return error_of([&] { (void)Segment::attach(path, kSmall); });
  };
  std::ofstream(folder.file("plain")) << "x";
  EXPECT(attach(folder.file("none")) == ENOENT);
  EXPECT(attach(folder.path()) == EISDIR);
  EXPECT(attach(folder.file("plain/a")) == ENOTDIR);
  EXPECT(attach("") == ENOENT);
  EXPECT(error_of([&] { (void)create(folder.file("none/a")); }) == ENOENT);
  EXPECT(error_of([&] { (void)create(folder.path()); }) == EISDIR);
  EXPECT(!thrown<StoreError>([&] { (void)Segment::attach("/dev/null", kSmall); }).empty());
  EXPECT(!thrown<std::invalid_argument>([&] { (void)create(std::string("a\0b", 3)); }).empty());
  EXPECT(!thrown<std::invalid_argument>([&] { (void)create("", kSmall, {0, 1, 1}); }).empty());
  EXPECT(folder.entries() == 1);
}

void test_full_and_read_only_file_systems() {
  const TempFolder folder;
  if (::mount("none", folder.path().c_str(), "tmpfs", 0, "size=1m") != 0) {
    std::puts("left out: may not mount a small file system");
    return;
  }
  for (const auto& options : {kSmall, kHuge}) {
    EXPECT(error_of([&] { (void)create(folder.file("a"), options); }) == ENOSPC);
    EXPECT(folder.entries() == 0);
  }
  create(folder.file("b"), kSmall, {50, 32, 1}).close();
  EXPECT(::mount("none", folder.path().c_str(), "tmpfs", MS_REMOUNT | MS_RDONLY, "size=1m") == 0);
  EXPECT(error_of([&] { (void)create(folder.file("a")); }) == EROFS);
  EXPECT(error_of([&] { (void)Segment::attach(folder.file("b"), kSmall); }) == EROFS);
  ::umount(folder.path().c_str());
}

// Each limit in a process of its own; nobody gets a signal.
void test_limits_are_errors() {
  const TempFolder folder;
  const auto limited = [](int resource, rlim_t most, const std::function<bool()>& action) {
    return ends_well(start_child([&] {
      const rlimit limit{most, most};
      return ::setrlimit(static_cast<__rlimit_resource_t>(resource), &limit) == 0 && action();
    }));
  };
  EXPECT(limited(RLIMIT_FSIZE, 1 << 20, [&] {
    return error_of([&] { (void)create(folder.file("a")); }) == EFBIG &&
           error_of([&] { (void)create(""); }) == EFBIG;
  }));
  std::uint64_t pages = 0;
  std::ifstream("/proc/self/statm") >> pages;
  EXPECT(limited(RLIMIT_AS, pages * 4'096 + (rlim_t{64} << 20), [&] {
    const TableShape large{1'000'000, 32, 1};
    return !thrown<OutOfMemory>([&] { (void)create("", kSmall, large); }).empty() &&
           !thrown<OutOfMemory>([&] { (void)create(folder.file("a"), kSmall, large); }).empty();
  }));
  EXPECT(limited(RLIMIT_NOFILE, 3, [&] {
    return error_of([&] { (void)create(folder.file("a")); }) == EMFILE &&
           error_of([&] { (void)create(""); }) == EMFILE;
  }));
  EXPECT(folder.entries() == 0);
}

void test_more_than_there_is_of_memory() {
  const TempFolder folder;
  const TableShape vast{kCapacityMost, 1'024, 1};
  for (const std::string& path : {std::string(), folder.file("a")}) {
    for (const auto& options : {kSmall, kHuge}) {
      const std::string text = thrown<OutOfMemory>([&] { (void)create(path, options, vast); });
      EXPECT(contains(text, "bytes of memory needed") && contains(text, "available"));
    }
  }
  EXPECT(folder.entries() == 0);
}

void test_of_two_creators_one_wins() {
  const TempFolder folder;
  const std::string path = folder.file("a");
  std::atomic<int> won{0};
  std::atomic<int> refused{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      const std::string text = thrown<StoreError>([&] { (void)create(path); });
      text.empty() ? ++won : ++refused;
      EXPECT(text.empty() || contains(text, "attach to the store there"));
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT(won == 1 && refused == 3 && folder.entries() == 1);
  EXPECT(!Segment::attach(path, kSmall).must_recover());
}

void test_anonymous_store_is_shared_with_children(const SegmentOptions& options) {
  Segment store = create("", options);
  EXPECT(store.is_anonymous() && store.path() == "(anonymous)");
  *store.at(store.bytes() - 1) = std::byte{0};
  EXPECT(ends_well(start_child([&] {
    const JournalLease lease = store.lease();
    *store.at(store.bytes() - 1) = std::byte{9};
    return store.attachment() == 1 && lease && store.is_alive(0);
  })));
  EXPECT(*store.at(store.bytes() - 1) == std::byte{9});
  EXPECT(store.attachment() == 0 && !store.is_alive(1));
}

// A copy of a store may have holes, for which there must be room before they are touched.
void test_holes_are_filled_at_attaching() {
  const TempFolder folder;
  const std::string path = folder.file("a");
  create(path).close();
  const std::string whole = content(path);
  std::filesystem::remove(path);
  std::ofstream(path, std::ios::binary) << whole.substr(0, kPreambleBytes);
  std::filesystem::resize_file(path, whole.size());
  struct stat about{};
  EXPECT(::stat(path.c_str(), &about) == 0 && about.st_blocks * 512 < about.st_size);
  Segment store = Segment::attach(path, kSmall);
  EXPECT(::stat(path.c_str(), &about) == 0 && about.st_blocks * 512 >= about.st_size);
  EXPECT(!store.must_recover() && content(path).size() == whole.size());
}

// A store whose file has lost its name works on, also in children.
void test_unlinked_store_works_on() {
  const TempFolder folder;
  Segment store = create(folder.file("a"));
  std::filesystem::remove(folder.file("a"));
  EXPECT(ends_well(start_child([&] {
    store.ensure_own();
    return store.attachment() == 1;
  })));
}

void test_threads_close_and_ask_at_once() {
  const TempFolder folder;
  Segment store = create(folder.file("a"));
  Segment other = Segment::attach(folder.file("a"), kSmall);
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int round = 0; round < 100; ++round) EXPECT(other.is_alive(other.attachment()));
      store.close();
      (void)store.is_alive(other.attachment());
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT(!other.is_alive(0));
}

}  // namespace
}  // namespace predawn

int main() {
  predawn::test_created_store_is_found_by_others(predawn::kSmall);
  predawn::test_created_store_is_found_by_others(predawn::kHuge);
  predawn::test_clean_restart_keeps_everything();
  predawn::test_clean_mark_is_not_believed_blindly();
  predawn::test_killed_creator_leaves_a_store_to_recover();
  predawn::test_existing_file_is_never_touched();
  predawn::test_refused_files_stay_as_they_are();
  predawn::test_bad_paths_have_their_errno();
  predawn::test_full_and_read_only_file_systems();
  predawn::test_limits_are_errors();
  predawn::test_more_than_there_is_of_memory();
  predawn::test_of_two_creators_one_wins();
  predawn::test_anonymous_store_is_shared_with_children(predawn::kSmall);
  predawn::test_anonymous_store_is_shared_with_children(predawn::kHuge);
  predawn::test_holes_are_filled_at_attaching();
  predawn::test_unlinked_store_works_on();
  predawn::test_threads_close_and_ask_at_once();
  return predawn::testing::failures == 0 ? 0 : 1;
}
