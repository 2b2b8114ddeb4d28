// Threads on one set: every row that is read is whole, of its key, and never older than one that
// the same thread has read of that key before.
#include <array>
#include <atomic>
#include <cstdio>
#include <thread>
#include <vector>

#include "expect.hpp"
#include "one_set.hpp"

namespace predawn {
namespace {

using testing::OneSet;
using testing::Row;

constexpr std::uint64_t kKeys = 24;
constexpr unsigned kWriters = 3;
constexpr unsigned kReaders = 2;
constexpr std::uint64_t kPutsEach = 60'000;

struct Traffic {
  OneSet set;
  // Each key has one writer, so its versions are published in order.
  std::array<std::atomic<std::uint64_t>, kKeys> published{};
  std::atomic<unsigned> writing{kWriters};
  std::atomic<std::uint64_t> wrong{0}, hits{0}, gave_up{0};

  void write(unsigned writer) {
    for (std::uint64_t version = 1; version <= kPutsEach; ++version) {
      const std::uint64_t key = (version * 7 / 3 % (kKeys / kWriters)) * kWriters + writer;
      const PutResult result = set.put(writer, key, version);
      const bool is_done = result.end == PutEnd::kInserted || result.end == PutEnd::kOverwrote;
      if (is_done) published[key].store(version);
      if (!is_done) gave_up.fetch_add(1);
      if (version % 64 == 0) (void)set.remove(version % kKeys);
    }
    writing.fetch_sub(1);
  }

  void read() {
    std::array<std::uint64_t, kKeys> seen{};
    for (std::uint64_t turn = 0; writing.load() != 0; ++turn) {
      const std::uint64_t key = turn % kKeys;
      const std::uint64_t before = published[key].load();
      Row row;
      Found found;
      if (set.get(key, row, found) != ReadEnd::kFound) continue;
      hits.fetch_add(1);
      const bool is_right = row.is_whole() && row.key() == key && row.version() >= before &&
                            row.version() >= seen[key];
      if (!is_right) wrong.fetch_add(1);
      seen[key] = row.version();
      mark_used(set.ref(), found.way, found.tag, Tag::kVisited);
    }
  }
};

void test_readers_beside_writers_see_whole_rows_that_never_age() {
  Traffic traffic;
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < kWriters; ++i) threads.emplace_back([&traffic, i] { traffic.write(i); });
  for (unsigned i = 0; i < kReaders; ++i) threads.emplace_back([&traffic] { traffic.read(); });
  for (std::thread& thread : threads) thread.join();
  EXPECT(traffic.wrong.load() == 0);
  EXPECT(traffic.hits.load() > 0);
  EXPECT(traffic.set.word().claimed() == 0 && !traffic.set.word().pending());
  EXPECT(traffic.gave_up.load() < kWriters * kPutsEach / 10);
  std::printf("%llu hits, %llu puts given up\n",
              static_cast<unsigned long long>(traffic.hits.load()),
              static_cast<unsigned long long>(traffic.gave_up.load()));
}

}  // namespace
}  // namespace predawn

int main() {
  predawn::test_readers_beside_writers_see_whole_rows_that_never_age();
  return predawn::testing::failures == 0 ? 0 : 1;
}
