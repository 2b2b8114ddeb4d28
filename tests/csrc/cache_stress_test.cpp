// Many threads over a small cache, built under ThreadSanitizer and AddressSanitizer: no torn row,
// no wrong key, no row older than one seen before, and every invariant at the end.
//
// Every lane of a row says which key and which version it belongs to. Each key has one writer, so
// its versions rise; a reader that sees one fall, or two in one row, has found a bug.
#include <array>
#include <atomic>
#include <cstdlib>
#include <random>
#include <thread>
#include <vector>

#include "cache.hpp"
#include "expect.hpp"

namespace predawn {
namespace {

constexpr std::uint32_t kDim = 10;
constexpr std::uint32_t kParts = 2;
constexpr std::uint64_t kKeys = 96;  // of 48 places: sets overflow
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
    EXPECT(cache.put_many(keys, rows.data(), {version, version, 1}) == kBatch);
  }
}

struct Reader {
  std::array<std::uint32_t, kKeys> newest{};

  void look(const Key& key, const float* row, std::size_t values, std::int64_t age,
            std::uint32_t version, std::int64_t now_ms) {
    for (std::size_t j = 0; j < values; ++j) EXPECT(row[j] == lane(key.lo, version));
    EXPECT(age == now_ms - version);
    EXPECT(version >= newest[key.lo]);
    newest[key.lo] = version;
  }
};

void read(Cache& cache, std::uint64_t seed, const std::atomic<std::uint64_t>& writing) {
  Reader reader;
  std::mt19937_64 random(seed);
  std::array<Key, kBatch> keys;
  std::array<std::int64_t, kBatch> ages;
  std::array<std::uint32_t, kBatch> versions;
  std::vector<float> rows(kBatch * kDim * kParts);
  bool is_last = false;
  for (std::uint32_t round = 0; !is_last; ++round) {
    is_last = writing.load() == 0;
    for (Key& key : keys) key = {random() % kKeys, 0}, key.hi = ~key.lo;
    const std::uint32_t parts = round % 2 == 0 ? 1 : kParts;
    const std::int64_t now_ms = 10'000'000;
    cache.get_many(keys, now_ms, INT64_MAX, parts, rows.data(), ages.data(), versions.data());
    for (std::size_t i = 0; i < kBatch; ++i) {
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
  std::uint64_t cursor = 0;
  for (std::uint32_t round = 0; writing.load() != 0; ++round) {
    for (Key& key : keys) key = {random() % kKeys, 0}, key.hi = ~key.lo;
    cache.touch_many(keys);
    cache.invalidate_many(std::span(keys).first(2));
    const ScanStep step = cache.scan(
        cursor, {keys.data(), written.data(), snapshots.data(), origins.data(), keys.size()});
    cursor = step.next;
    for (std::size_t i = 0; i < step.entries; ++i) {
      EXPECT(keys[i].hi == ~keys[i].lo && keys[i].lo < kKeys && origins[i] == 1);
      EXPECT(written[i] == snapshots[i]);
    }
    if (round % 64 == 0) EXPECT(cache.check().empty());
  }
}

void run(Dtype dtype, std::uint32_t rounds) {
  Cache cache({48, kDim, kParts, dtype, IdKind::kInteger}, Seed{});
  std::atomic<std::uint64_t> writing{kWriters};
  std::vector<std::thread> threads;
  for (std::uint64_t writer = 0; writer < kWriters; ++writer) {
    threads.emplace_back([&, writer] {
      write(cache, writer, rounds);
      writing.fetch_sub(1);
    });
  }
  for (std::uint64_t reader = 0; reader < 2; ++reader) {
    threads.emplace_back([&, reader] { read(cache, 10 + reader, writing); });
  }
  threads.emplace_back([&] { disturb(cache, writing); });
  for (std::thread& thread : threads) thread.join();
  EXPECT(cache.check().empty());
  EXPECT(cache.counters().entries() <= 48 && cache.counters().read(Event::kHit) > 0);
}

}  // namespace
}  // namespace predawn

int main(int count, char** arguments) {
  const int rounds = count > 1 ? std::atoi(arguments[1]) : 4'000;
  predawn::run(predawn::Dtype::kFp32, static_cast<std::uint32_t>(rounds));
  predawn::run(predawn::Dtype::kFp16, static_cast<std::uint32_t>(rounds));
  return predawn::testing::failures == 0 ? 0 : 1;
}
