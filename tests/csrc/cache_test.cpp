// Batches over a table: every key is answered once, whatever the batch's size and threads; scans;
// what the dead leave; opening and closing.
#include "cache.hpp"

#include <algorithm>
#include <memory>
#include <numeric>
#include <thread>
#include <vector>

#include "expect.hpp"
#include "on_files.hpp"

namespace predawn {
namespace {

using testing::TempFolder;

constexpr CacheOptions kSmallPages{.huge_pages = false};

Seed some_seed() {
  Seed seed;
  std::iota(seed.begin(), seed.end(), std::uint8_t{1});
  return seed;
}

std::unique_ptr<Cache> new_cache(std::uint64_t capacity, std::uint32_t dim = 3,
                                 std::uint32_t parts = 2, unsigned threads = 1) {
  return Cache::create("", {capacity, dim, parts, Dtype::kFp32, IdKind::kInteger}, some_seed(), 0,
                       {.huge_pages = false, .threads = threads});
}

std::vector<Key> keys_from(std::uint64_t first, std::uint64_t count) {
  std::vector<Key> keys;
  for (std::uint64_t id = first; id < first + count; ++id) keys.push_back({id, ~id});
  return keys;
}

// Every column of a key's row is the id, and a half.
std::size_t put(Cache& cache, const std::vector<Key>& keys, const PutMeta& meta = {}) {
  const std::size_t values = cache.table().row().values();
  std::vector<float> rows;
  for (const Key& key : keys) rows.insert(rows.end(), values, static_cast<float>(key.lo) + 0.5f);
  return cache.put_many(keys, rows.data(), meta);
}

struct Answers {
  std::size_t found = 0;
  std::vector<float> rows;
  std::vector<std::int64_t> ages;
  std::vector<std::uint32_t> snapshots;
  std::vector<std::uint8_t> states;
};

Answers get(Cache& cache, const std::vector<Key>& keys, std::int64_t now_ms = 0,
            std::uint32_t parts = 1) {
  const std::size_t n = keys.size();
  Answers answers{0, std::vector<float>(n * parts * cache.table().row().dim(), -1),
                  std::vector<std::int64_t>(n, -9), std::vector<std::uint32_t>(n, 9),
                  std::vector<std::uint8_t>(n, 9)};
  answers.found =
      cache.get_many({keys, now_ms, 1'000, 10, parts, answers.rows.data(), answers.ages.data(),
                      answers.snapshots.data(), answers.states.data()});
  return answers;
}

bool are_rows_right(const Answers& answers, const std::vector<Key>& keys) {
  const std::size_t values = keys.empty() ? 0 : answers.rows.size() / keys.size();
  for (std::size_t i = 0; i < answers.rows.size(); ++i) {
    const bool is_found = answers.ages[i / values] >= 0;
    const float wanted = is_found ? static_cast<float>(keys[i / values].lo) + 0.5f : -1;
    if (answers.rows[i] != wanted) return false;
  }
  return true;
}

void test_batches_of_every_size_around_the_pipeline() {
  const auto cache = new_cache(2'000);
  for (const std::uint64_t n : {0, 1, 11, 12, 13, 23, 24, 25, 31, 32, 33, 65, 300}) {
    const std::vector<Key> keys = keys_from(1'000 * n, n);
    EXPECT(put(*cache, keys, {5, 7, 0}) == n);
    std::vector<Key> asked = keys_from(1'000 * n, n + 3);  // three are absent
    const Answers answers = get(*cache, asked, 15);
    EXPECT(answers.found == n && are_rows_right(answers, asked));
    EXPECT(std::count(answers.ages.begin(), answers.ages.end(), 10) == static_cast<int>(n));
    EXPECT(std::count(answers.snapshots.begin(), answers.snapshots.end(), 7u) ==
           static_cast<int>(n));
    EXPECT(answers.states.back() == static_cast<std::uint8_t>(State::kAbsent));
    EXPECT(cache->touch_many(asked) == n && cache->invalidate_many(asked) == n);
    EXPECT(cache->invalidate_many(asked) == 0 && cache->touch_many(asked) == 0);
  }
  EXPECT(cache->entries() == 0 && cache->check().empty());
}

void test_batches_of_thousands_are_shared() {
  const auto cache = new_cache(40'000, 3, 2, 4);
  const std::vector<Key> keys = keys_from(0, 10'000);
  EXPECT(put(*cache, keys) == keys.size());
  for (const std::uint32_t parts : {1u, 2u}) {
    const std::vector<Key> asked = keys_from(5'000, 10'000);
    const Answers answers = get(*cache, asked, 0, parts);
    EXPECT(answers.found == 5'000 && are_rows_right(answers, asked));
  }
  EXPECT(cache->counters().read(Event::kFresh) == 10'000);
  EXPECT(cache->counters().read(Event::kAbsent) == 10'000);
}

void test_rows_longer_than_the_stack_takes() {
  for (const std::uint32_t dim : {511u, 512u, 513u, 3'000u}) {
    const auto cache = new_cache(100, dim, 2);
    const std::vector<Key> keys = keys_from(0, 20);
    EXPECT(put(*cache, keys) == 20);
    for (const std::uint32_t parts : {1u, 2u}) {
      const Answers answers = get(*cache, keys, 0, parts);
      EXPECT(answers.found == 20 && are_rows_right(answers, keys));
    }
    EXPECT(cache->check().empty());
  }
}

void test_duplicates_are_worked_in_order() {
  const auto cache = new_cache(14, 1, 1);
  const std::vector<Key> keys(3, Key{1, 0});
  const float rows[] = {1, 2, 3};
  EXPECT(cache->put_many(keys, rows, {}) == 3 && cache->entries() == 1);
  EXPECT(get(*cache, keys).rows == std::vector<float>(3, 3));
}

// Keys of all entries, in steps of `room`.
std::vector<Key> scanned(Cache& cache, std::size_t room, bool with_rows) {
  const std::size_t values = cache.table().row().values();
  std::vector<Key> all;
  std::vector<Key> keys(room);
  std::vector<std::int64_t> written(room);
  std::vector<std::uint32_t> snapshots(room);
  std::vector<std::uint8_t> origins(room);
  std::vector<float> rows(room * values);
  ScanStep step;
  do {
    step = cache.scan(step.next, {keys.data(), written.data(), snapshots.data(), origins.data(),
                                  with_rows ? rows.data() : nullptr, room});
    for (std::size_t i = 0; i < step.entries; ++i) {
      EXPECT(written[i] == 4 && snapshots[i] == 6 && origins[i] == 250);
      const float wanted = with_rows ? static_cast<float>(keys[i].lo) + 0.5f : 0;
      EXPECT(rows[i * values] == wanted && rows[i * values + values - 1] == wanted);
    }
    all.insert(all.end(), keys.begin(), keys.begin() + static_cast<std::ptrdiff_t>(step.entries));
  } while (step.next != 0);
  return all;
}

void test_clocks_may_show_anything() {
  const auto cache = new_cache(5 * kWays);  // set 4 is sampled
  for (const std::int64_t now_ms : {INT64_MIN, INT64_MAX, INT64_MIN, std::int64_t{-1}}) {
    const std::vector<Key> keys = keys_from(static_cast<std::uint64_t>(now_ms) % 1'009, 200);
    EXPECT(put(*cache, keys, {now_ms, 0, 0}) == 200);
    get(*cache, keys, now_ms);
    get(*cache, keys, INT64_MAX);
    get(*cache, keys, INT64_MIN);
  }
  EXPECT(cache->samples().lifetime().count() > 0 && cache->check().empty());
}

void test_scans_of_every_room_see_all_once() {
  const auto cache = new_cache(300);
  const std::vector<Key> keys = keys_from(0, 150);
  EXPECT(put(*cache, keys, {4, 6, 250}) == 150);
  for (const std::size_t room : {1u, 7u, 14u, 149u, 150u, 151u, 400u}) {
    std::vector<Key> seen = scanned(*cache, room, room % 2 == 0);
    std::sort(seen.begin(), seen.end(), [](Key a, Key b) { return a.lo < b.lo; });
    EXPECT(seen == keys);
  }
  cache->invalidate_before(7);
  EXPECT(scanned(*cache, 10, true).empty());
  EXPECT(cache->entries() == 150);  // until they are replaced
}

void test_snapshot_floor_never_falls() {
  const auto cache = new_cache(50);
  put(*cache, keys_from(0, 10), {0, 5, 0});
  cache->invalidate_before(5);
  EXPECT(get(*cache, keys_from(0, 10)).found == 10);
  cache->invalidate_before(6);
  cache->invalidate_before(0);
  EXPECT(get(*cache, keys_from(0, 10)).found == 0);
  EXPECT(cache->counters().read(Event::kOutdated) == 10);
  EXPECT(put(*cache, keys_from(0, 10), {0, 6, 0}) == 10);
  EXPECT(get(*cache, keys_from(0, 10)).found == 10);
}

void test_attach_sees_what_the_last_one_left() {
  const TempFolder folder;
  const TableShape shape{100, 3, 2, Dtype::kFp32, IdKind::kInteger, Placement::kUserMajor};
  const std::vector<Key> keys = keys_from(0, 60);
  {
    const auto cache = Cache::create(folder.file("a"), shape, some_seed(), 0, kSmallPages);
    EXPECT(put(*cache, keys) == 60);
    cache->close();
    cache->close();
    EXPECT(!cache->is_open());
  }
  const auto first = Cache::attach(folder.file("a"), kSmallPages);
  const auto second = Cache::attach(folder.file("a"), kSmallPages);
  EXPECT(first->recovered().kept == 0 && first->header().seed == some_seed());
  EXPECT(get(*first, keys).found == 60 && first->invalidate_many(keys) == 60);
  EXPECT(get(*second, keys).found == 0 && second->entries() == 0);
  EXPECT(first->check().empty() && second->check().empty());
}

// A child that dies with a claim of a slot of set 0, and one that died without.
void test_claims_of_dead_processes_are_taken_back() {
  const TempFolder folder;
  const TableShape shape{kWays, 3, 2, Dtype::kFp32, IdKind::kInteger};
  const auto cache = Cache::create(folder.file("a"), shape, some_seed(), 0, kSmallPages);
  for (const bool has_claim : {true, false}) {
    const pid_t child = testing::start_child([&] {
      const auto own = Cache::attach(folder.file("a"), kSmallPages);
      put(*own, keys_from(50, 3));
      if (!has_claim) ::_exit(0);
      for (auto& journal : own->segment().preamble().journal) {
        const OwnerNote owner(journal.owner.load());
        if (!owner.used() || owner.attachment() != own->segment().attachment()) continue;
        const Set set = own->table().set(0);
        journal.claim.store(ClaimNote(0, 15, owner.generation()).word());
        set.line->word.store(load_word(*set.line).with_claim(15).word());
      }
      ::_exit(0);
      return true;
    });
    EXPECT(testing::ends_well(child));
    EXPECT(cache->reap() == (has_claim ? 1u : 0u));
    EXPECT(cache->table().set(0).line->word.load() % 65'536 == 0 && cache->check().empty());
  }
  EXPECT(cache->table().state().reaped.load() == 1);
}

void test_children_share_a_cache_without_a_file() {
  const auto cache = new_cache(100);
  put(*cache, keys_from(0, 10));
  const pid_t child = testing::start_child([&] {
    const bool is_there = get(*cache, keys_from(0, 10)).found == 10;
    return put(*cache, keys_from(10, 10)) == 10 && is_there;
  });
  EXPECT(testing::ends_well(child));
  EXPECT(get(*cache, keys_from(0, 20)).found == 20 && cache->check().empty());
}

void test_string_keys_depend_on_the_secret_half_of_the_seed() {
  Seed other = some_seed();
  other[20] ^= 1;
  const TableShape shape{14, 1, 1, Dtype::kFp32, IdKind::kString};
  const auto one = Cache::create("", shape, some_seed(), 0, kSmallPages);
  const auto two = Cache::create("", shape, other, 0, kSmallPages);
  EXPECT(one->key_of_string("u42", 3) == one->key_of_string("u42", 3));
  EXPECT(!(one->key_of_string("u42", 3) == one->key_of_string("u42", 2)));
  EXPECT(!(one->key_of_string("u42", 3) == two->key_of_string("u42", 3)));
}

void test_check_waits_for_no_writer() {
  const auto cache = new_cache(1'400);
  std::atomic<bool> stops{false};
  std::thread writer([&] {
    std::uint64_t first = 0;
    do {
      put(*cache, keys_from(first++ % 5'000, 50));
    } while (!stops.load());
  });
  for (int round = 0; round < 200; ++round) EXPECT(cache->check().empty());
  stops.store(true);
  writer.join();
  EXPECT(cache->check().empty() && cache->entries() > 0);
}

}  // namespace
}  // namespace predawn

int main() {
  predawn::test_batches_of_every_size_around_the_pipeline();
  predawn::test_batches_of_thousands_are_shared();
  predawn::test_rows_longer_than_the_stack_takes();
  predawn::test_duplicates_are_worked_in_order();
  predawn::test_clocks_may_show_anything();
  predawn::test_scans_of_every_room_see_all_once();
  predawn::test_snapshot_floor_never_falls();
  predawn::test_attach_sees_what_the_last_one_left();
  predawn::test_claims_of_dead_processes_are_taken_back();
  predawn::test_children_share_a_cache_without_a_file();
  predawn::test_string_keys_depend_on_the_secret_half_of_the_seed();
  predawn::test_check_waits_for_no_writer();
  return predawn::testing::failures == 0 ? 0 : 1;
}
