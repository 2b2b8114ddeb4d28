// Many threads over a small cache, built under ThreadSanitizer and AddressSanitizer: no torn row,
// no wrong key, no row older than one seen before, and every invariant at the end.
//
// Every lane of a row says which key and which version it belongs to. Each key has one writer, so
// its versions rise; a reader that sees one fall, or two in one row, has found a bug.
#include <algorithm>
#include <array>
#include <atomic>
#include <cstdlib>
#include <random>
#include <thread>
#include <vector>

#include "cache.hpp"
#include "expect.hpp"
#include "on_files.hpp"

namespace predawn {
namespace {

constexpr std::uint32_t kDim = 10;
constexpr std::uint32_t kParts = 2;
constexpr std::uint64_t kKeys = 96;  // for 56 ways: sets overflow
constexpr std::size_t kBatch = 24;
constexpr std::uint64_t kWriters = 2;

// Exact in fp16 (integers to 2048) as well: versions are told apart modulo 16.
float lane(std::uint64_t id, std::uint32_t version) {
  return static_cast<float>(std::uint64_t{version % 16} * 128 + id);
}

void write(Cache& cache, std::uint64_t writer, std::uint32_t rounds) {
  std::mt19937_64 random(writer);
  std::array<Key, kBatch> keys;
  std::vector<float> rows(kBatch * kDim * kParts);
  for (std::uint32_t version = 1; version <= rounds; ++version) {
    for (std::size_t i = 0; i < kBatch; ++i) {
      const std::uint64_t id = random() % (kKeys / kWriters) * kWriters + writer;
      keys[i] = {id, ~id};
      for (std::size_t j = 0; j < kDim * kParts; ++j) {
        rows[i * kDim * kParts + j] = lane(id, version);
      }
    }
    const auto origin = static_cast<std::uint8_t>(version % 3);  // one of three ahead
    EXPECT(cache.put_many(keys, rows.data(), {version, version, origin}) <= kBatch);
  }
}

struct Reader {
  std::array<std::uint32_t, kKeys> newest{};
  std::int64_t latest = 0;

  void look(const Key& key, const float* row, std::size_t values, std::int64_t age,
            std::uint32_t version, std::int64_t now_ms) {
    for (std::size_t j = 0; j < values; ++j) EXPECT(row[j] == lane(key.lo, version));
    EXPECT(age == std::max<std::int64_t>(0, now_ms - version));
    EXPECT(version >= newest[key.lo]);
    newest[key.lo] = version;
    latest = std::max<std::int64_t>(latest, version);
  }
};

void read(Cache& cache, std::uint64_t seed, const std::atomic<std::uint64_t>& writing) {
  Reader reader;
  std::mt19937_64 random(seed);
  std::array<Key, kBatch> keys;
  std::array<std::int64_t, kBatch> ages;
  std::array<std::uint32_t, kBatch> versions;
  std::array<std::uint8_t, kBatch> states;
  std::vector<float> rows(kBatch * kDim * kParts);
  bool is_last = false;
  for (std::uint32_t round = 0; !is_last; ++round) {
    is_last = writing.load() == 0;
    for (Key& key : keys) key = {random() % kKeys, 0}, key.hi = ~key.lo;
    const std::uint32_t parts = round % 2 == 0 ? 1 : kParts;
    const std::int64_t now_ms = reader.latest;  // a writer that lags is out of date
    const std::int64_t max_age_ms = is_last ? INT64_MAX : 8;
    cache.get_many({keys, now_ms, max_age_ms, 2, parts, rows.data(), ages.data(), versions.data(),
                    states.data()});
    for (std::size_t i = 0; i < kBatch; ++i) {
      EXPECT((ages[i] < 0) == (states[i] < static_cast<std::uint8_t>(State::kStale)));
      if (ages[i] < 0) continue;
      const std::size_t values = std::size_t{parts} * kDim;
      reader.look(keys[i], rows.data() + i * values, values, ages[i], versions[i], now_ms);
    }
  }
}

void disturb(Cache& cache, const std::atomic<std::uint64_t>& writing) {
  std::mt19937_64 random(99);
  std::array<Key, 7> keys;
  std::array<std::int64_t, 7> written;
  std::array<std::uint32_t, 7> snapshots;
  std::array<std::uint8_t, 7> origins;
  std::vector<float> rows(7 * kDim * kParts);
  std::uint64_t cursor = 0;
  for (std::uint32_t round = 0; writing.load() != 0; ++round) {
    for (Key& key : keys) key = {random() % kKeys, 0}, key.hi = ~key.lo;
    cache.touch_many(keys);
    cache.invalidate_many(std::span(keys).first(2));
    const ScanStep step = cache.scan(cursor, {keys.data(), written.data(), snapshots.data(),
                                              origins.data(), rows.data(), keys.size()});
    cursor = step.next;
    for (std::size_t i = 0; i < step.entries; ++i) {
      EXPECT(keys[i].hi == ~keys[i].lo && keys[i].lo < kKeys);
      EXPECT(written[i] == snapshots[i] && origins[i] == snapshots[i] % 3);
      for (std::size_t j = 0; j < kDim * kParts; ++j) {
        EXPECT(rows[i * kDim * kParts + j] == lane(keys[i].lo, snapshots[i]));
      }
    }
    if (round % 64 == 0) EXPECT(cache.check().empty() && cache.reap() == 0);
    cache.invalidate_before(1);
  }
}

// Each thread uses the caches in turn: one, or two attachments to one file.
void run(const std::vector<Cache*>& caches, std::uint32_t rounds) {
  std::atomic<std::uint64_t> writing{kWriters};
  std::vector<std::thread> threads;
  const auto cache_of = [&](std::uint64_t thread) -> Cache& {
    return *caches[thread % caches.size()];
  };
  for (std::uint64_t writer = 0; writer < kWriters; ++writer) {
    threads.emplace_back([&, writer] {
      write(cache_of(writer), writer, rounds);
      writing.fetch_sub(1);
    });
  }
  for (std::uint64_t reader = 0; reader < 2; ++reader) {
    threads.emplace_back([&, reader] { read(cache_of(reader + 1), 10 + reader, writing); });
  }
  threads.emplace_back([&] { disturb(cache_of(0), writing); });
  for (std::thread& thread : threads) thread.join();
}

std::uint64_t counted(const std::vector<Cache*>& caches, std::initializer_list<Event> events) {
  std::uint64_t sum = 0;
  for (const Cache* cache : caches) {
    for (const Event event : events) sum += cache->counters().read(event);
  }
  return sum;
}

void expect_sound(const std::vector<Cache*>& caches, std::uint32_t rounds) {
  for (Cache* cache : caches) EXPECT(cache->check().empty());
  const auto entries = static_cast<std::uint64_t>(caches[0]->entries());
  EXPECT(entries > 0 && entries <= caches[0]->table().capacity());
  const std::uint64_t inserts = counted(caches, {Event::kInsert});
  const std::uint64_t gone =
      counted(caches, {Event::kInvalidation, Event::kRemovedForSlot, Event::kEvictedExpired,
                       Event::kEvictedQuota, Event::kEvictedSpeculative, Event::kEvictedHand,
                       Event::kEvictedHandBySpeculative});
  EXPECT(inserts - gone == entries);
  const std::uint64_t ended = inserts + counted(caches, {Event::kOverwrite, Event::kPutBusy});
  EXPECT(ended == kWriters * rounds * kBatch);
  for (const Event event :
       {Event::kFresh, Event::kExpired, Event::kOverwrite, Event::kEvictedHand}) {
    EXPECT(counted(caches, {event}) > 0);
  }
  for (const Cache* cache : caches) {
    for (std::uint64_t set = 0; set < cache->table().sets(); ++set) {
      const SetWord word = load_word(*cache->table().set(set).line);
      EXPECT(word.claimed() == 0 && !word.pending());
    }
  }
}

TableShape shape_of(Dtype dtype) { return {48, kDim, kParts, dtype, IdKind::kInteger}; }

constexpr CacheOptions kOptions{.huge_pages = false, .threads = 2};

void test_threads_of_one_cache(Dtype dtype, std::uint32_t rounds) {
  const auto cache = Cache::create("", shape_of(dtype), Seed{5, 7}, 0, kOptions);
  run({cache.get()}, rounds);
  expect_sound({cache.get()}, rounds);
}

void test_threads_of_two_attachments(std::uint32_t rounds) {
  const testing::TempFolder folder;
  const auto one = Cache::create(folder.file("a"), shape_of(Dtype::kFp32), Seed{5, 7}, 0, kOptions);
  const auto two = Cache::attach(folder.file("a"), kOptions);
  run({one.get(), two.get()}, rounds);
  expect_sound({one.get(), two.get()}, rounds);
}

}  // namespace
}  // namespace predawn

int main(int count, char** arguments) {
  const int given = count > 1 ? std::atoi(arguments[1]) : 2'000;
  const auto rounds = static_cast<std::uint32_t>(given);
  for (const predawn::Dtype dtype : {predawn::Dtype::kFp32, predawn::Dtype::kFp16}) {
    predawn::test_threads_of_one_cache(dtype, rounds);
  }
  predawn::test_threads_of_two_attachments(rounds);
  return predawn::testing::failures == 0 ? 0 : 1;
}
