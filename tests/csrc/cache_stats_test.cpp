// The figures of a cache: each has one name, and the sums are those of their parts.
#include "cache_stats.hpp"

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "expect.hpp"

namespace predawn {
namespace {

constexpr TableShape kShape{kWays, 2, 1, Dtype::kFp32, IdKind::kInteger};

using Figures = std::map<std::string, std::int64_t>;

Figures figures_of(const Cache& cache) {
  Figures figures;
  for (const auto& [name, value] : stats_of(cache)) figures.emplace(name, value);
  return figures;
}

std::unique_ptr<Cache> new_cache() {
  return Cache::create("", kShape, Seed{3, 1, 4, 1, 5}, 0, {.huge_pages = false});
}

void put(Cache& cache, std::uint64_t first, std::uint64_t count, const PutMeta& meta) {
  for (std::uint64_t id = first; id < first + count; ++id) {
    const Key key{id, 0};
    const float row[2] = {};
    EXPECT(cache.put_many({&key, 1}, row, meta) == 1);
  }
}

void get(Cache& cache, std::uint64_t id, std::int64_t now_ms, std::int64_t fresh_ms) {
  const Key key{id, 0};
  float row[2];
  std::int64_t age = 0;
  cache.get_many({{&key, 1}, now_ms, 100, fresh_ms, 1, row, &age, nullptr, nullptr});
}

void test_every_figure_has_a_name_of_its_own() {
  const auto cache = new_cache();
  EXPECT(figures_of(*cache).size() == stats_of(*cache).size());
}

void test_a_new_cache_has_its_shape_and_nothing_else() {
  const auto cache = new_cache();
  Figures figures = figures_of(*cache);
  EXPECT(figures["capacity"] == kWays && figures["policy_sieve"] == 1);
  EXPECT(figures["bytes"] == static_cast<std::int64_t>(cache->segment().bytes()));
  EXPECT(figures["speculative_quota"] == 1);
  for (const char* known : {"capacity", "bytes", "policy_sieve", "speculative_quota"}) {
    figures.erase(known);
  }
  for (const auto& [name, value] : figures) EXPECT(value == 0);
}

void test_sums_are_those_of_their_parts() {
  const auto cache = new_cache();
  put(*cache, 0, kWays, {0, 5, kOriginComputed});
  put(*cache, 50, 3, {0, 5, kOriginSpeculative});  // by the hand once, then in the quota
  put(*cache, 52, 1, {0, 5, kOriginSpeculative});
  get(*cache, 52, 10, 10);
  get(*cache, 52, 11, 10);
  get(*cache, 52, 101, 10);
  get(*cache, 99, 0, 10);
  cache->invalidate_before(6);
  get(*cache, 52, 0, 10);
  put(*cache, 60, 2, {1'000, 6, kOriginComputed});
  const Key gone{60, 0};
  cache->invalidate_many({&gone, 1});
  Figures figures = figures_of(*cache);
  EXPECT(figures["hits"] == 2 && figures["hits_fresh"] == 1 && figures["hits_stale"] == 1);
  EXPECT(figures["hits_speculative"] == 2 && figures["promotions"] == 1);
  EXPECT(figures["expired"] == 1);
  EXPECT(figures["misses"] == 2 && figures["misses_outdated"] == 1);
  EXPECT(figures["inserts"] == kWays + 5 && figures["overwrites"] == 1);
  EXPECT(figures["evictions_by_speculative"] == 1 && figures["evictions_quota"] == 2);
  EXPECT(figures["evictions_live"] == 3 && figures["evictions_expired"] == 2);
  EXPECT(figures["invalidations"] == 1 && figures["entries"] == kWays - 1);
  EXPECT(figures["put_set_reads"] == 2 * (kWays + 6) && figures["puts_given_up"] == 0);
}

void test_what_was_given_up_is_told_by_its_reason() {
  const auto cache = new_cache();
  cache->table().set(0).line->word.fetch_or(0xffff);  // stopped writers hold every slot
  const Key key{1, 0};
  const float row[2] = {};
  EXPECT(cache->put_many({&key, 1}, row, {}) == 0);
  Figures figures = figures_of(*cache);
  EXPECT(figures["puts_given_up"] == 1 && figures["puts_no_slot"] == 1);
  for (auto& line : cache->segment().preamble().journal) {
    if (!OwnerNote(line.owner.load()).used()) line.owner.store(OwnerNote(60, 1, true).word());
  }
  std::vector<JournalLease> leases;
  while (auto lease = const_cast<Segment&>(cache->segment()).lease()) {
    leases.push_back(std::move(lease));
  }
  EXPECT(cache->put_many({&key, 1}, row, {}) == 0);
  figures = figures_of(*cache);
  EXPECT(figures["puts_given_up"] == 2 && figures["puts_no_journal"] == 1);
}

void test_what_all_users_share_is_read_from_the_store() {
  const auto cache = new_cache();
  SharedState& state = cache->table().state();
  state.entries.store(11);
  state.reaped.store(12);
  state.steering.clock_leads.store(1);
  state.steering.quota_above_one.store(3);
  Figures figures = figures_of(*cache);
  EXPECT(figures["entries"] == 11 && figures["claims_reaped"] == 12);
  EXPECT(figures["policy_sieve"] == 0 && figures["speculative_quota"] == 4);
}

}  // namespace
}  // namespace predawn

int main() {
  predawn::test_every_figure_has_a_name_of_its_own();
  predawn::test_a_new_cache_has_its_shape_and_nothing_else();
  predawn::test_sums_are_those_of_their_parts();
  predawn::test_what_was_given_up_is_told_by_its_reason();
  predawn::test_what_all_users_share_is_read_from_the_store();
  return predawn::testing::failures == 0 ? 0 : 1;
}
