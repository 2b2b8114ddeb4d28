// Each line has one user at a time, comes back to its pool, and outlives its owner only with a
// claim.
#include "journal_pool.hpp"

#include <memory>
#include <thread>
#include <vector>

#include "expect.hpp"

namespace predawn {
namespace {

struct Shared {
  std::unique_ptr<Preamble> preamble = std::make_unique<Preamble>();
  [[nodiscard]] std::uint32_t writers() const { return preamble->state.writers; }
  [[nodiscard]] OwnerNote owner(std::size_t at) const {
    return OwnerNote(preamble->journal[at].owner);
  }
};

void test_line_is_reused_and_counted_once() {
  const Shared shared;
  JournalPool pool(shared.preamble->journal, &shared.preamble->state);
  pool.bind(7);
  std::size_t first = 0;
  {
    const JournalLease lease = pool.lease();
    EXPECT(static_cast<bool>(lease));
    first = lease.index();
    EXPECT(lease.line() == &shared.preamble->journal[first]);
    EXPECT(shared.owner(first).used() && shared.owner(first).attachment() == 7);
    EXPECT(lease.generation() == shared.owner(first).generation());
    const JournalLease other = pool.lease();
    EXPECT(other.index() != first);
    EXPECT(shared.writers() == 2);
  }
  EXPECT(pool.lease().index() == first);
  EXPECT(shared.writers() == 2);
  pool.give_back();
  EXPECT(shared.writers() == 0);
  EXPECT(!shared.owner(first).used());
  EXPECT(pool.lease().generation() == 2);
}

void test_no_line_left_is_an_empty_lease() {
  const Shared shared;
  JournalPool one(shared.preamble->journal, &shared.preamble->state);
  JournalPool two(shared.preamble->journal, &shared.preamble->state);
  one.bind(0);
  two.bind(1);
  std::vector<JournalLease> leases;
  for (std::size_t i = 0; i < kJournalLines; ++i) leases.push_back(one.lease());
  EXPECT(!one.lease() && !two.lease());
  EXPECT(shared.writers() == kJournalLines);
  leases.clear();
  EXPECT(one.lease() && !two.lease());
  one.give_back();
  EXPECT(static_cast<bool>(two.lease()));
}

void test_dead_line_with_a_claim_stays() {
  const Shared shared;
  JournalPool dead(shared.preamble->journal, &shared.preamble->state);
  JournalPool pool(shared.preamble->journal, &shared.preamble->state);
  dead.bind(3);
  pool.bind(4);
  const JournalLease with = dead.lease();
  const JournalLease without = dead.lease();
  with.line()->claim = ClaimNote(9, 2, with.generation()).word();
  EXPECT(pool.has_claims());
  EXPECT(!pool.clear_dead(3, [] { return false; }));
  EXPECT(shared.writers() == 2);
  EXPECT(!pool.clear_dead(3, [] { return true; }));
  EXPECT(shared.writers() == 1 && !shared.owner(without.index()).used());
  dead.give_back();
  EXPECT(shared.owner(with.index()).used());
  with.line()->claim = ClaimNote::none(with.generation()).word();
  EXPECT(pool.clear_dead(3, [] { return true; }));
  EXPECT(shared.writers() == 0 && !pool.has_claims());
}

void test_lease_from_before_bind_is_forgotten() {
  const Shared shared;
  JournalPool pool(shared.preamble->journal, &shared.preamble->state);
  pool.bind(0);
  std::size_t parents = 0;
  {
    const JournalLease lease = pool.lease();
    parents = lease.index();
    pool.bind(1);
  }
  EXPECT(pool.lease().index() != parents);
  EXPECT(shared.owner(parents).attachment() == 0);
  pool.reset();
  EXPECT(shared.writers() == 0 && !shared.owner(parents).used());
}

// Two attachments, four threads: nobody ever meets anybody on a line.
void test_threads_never_share_a_line() {
  const Shared shared;
  JournalPool pools[2] = {{shared.preamble->journal, &shared.preamble->state},
                          {shared.preamble->journal, &shared.preamble->state}};
  pools[0].bind(0);
  pools[1].bind(1);
  std::vector<std::atomic<int>> users(kJournalLines);
  std::atomic<int> met{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&, i] {
      for (int round = 0; round < 2'000; ++round) {
        const JournalLease lease = pools[i % 2].lease();
        if (users[lease.index()].fetch_add(1) != 0) ++met;
        users[lease.index()].fetch_sub(1);
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT(met == 0);
  EXPECT(shared.writers() <= 4);
}

}  // namespace
}  // namespace predawn

int main() {
  predawn::test_line_is_reused_and_counted_once();
  predawn::test_no_line_left_is_an_empty_lease();
  predawn::test_dead_line_with_a_claim_stays();
  predawn::test_lease_from_before_bind_is_forgotten();
  predawn::test_threads_never_share_a_line();
  return predawn::testing::failures == 0 ? 0 : 1;
}
