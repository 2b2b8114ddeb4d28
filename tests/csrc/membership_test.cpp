// Who comes first after a clean stop starts at once, after any other stop it checks while the
// others wait; children of fork are members of their own.
#include "membership.hpp"

#include <sys/mman.h>

#include <csignal>
#include <memory>
#include <thread>
#include <vector>

#include "expect.hpp"
#include "on_files.hpp"

namespace predawn {
namespace {

using testing::contains;
using testing::ends_well;
using testing::Signal;
using testing::start_child;
using testing::TempFolder;
using testing::thrown;

constexpr std::int64_t kTimeoutMs = 50;

// A store of nothing but a preamble, at a path.
struct Place {
  TempFolder folder;
  std::string path = folder.file("a");

  [[nodiscard]] Descriptor open() const {
    Descriptor file(::open(path.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600));
    if (::ftruncate(file.get(), sizeof(Preamble)) != 0) std::abort();
    return file;
  }
};

struct Member {
  explicit Member(const Place& place, bool is_new = false, bool is_at_rest = true)
      : file([&] { return place.open(); }),
        mapping(file.fd(), sizeof(Preamble), place.path),
        preamble(reinterpret_cast<Preamble*>(mapping.start())),
        membership(&file, preamble, place.path, false, kTimeoutMs) {
    membership.join(is_new, [&] { return is_at_rest; });
  }
  ~Member() { membership.leave(); }

  OwnFile file;
  Mapping mapping;
  Preamble* preamble;
  Membership membership;
};

void test_clean_stop_needs_no_recovery() {
  const Place place;
  {
    const Member first(place, true);
  }
  const Member second(place);
  EXPECT(!second.membership.must_recover());
  EXPECT(second.preamble->state.is_clean == 0);
  EXPECT(second.preamble->attachments[second.membership.attachment()].used == 1);
}

void test_killed_needs_recovery_and_others_wait() {
  const Place place;
  EXPECT(!ends_well(start_child([&] {
    const Member first(place, true);
    ::raise(SIGKILL);
    return true;
  })));
  Member second(place);
  EXPECT(second.membership.must_recover());
  EXPECT(contains(thrown<StoreError>([&] { Member third(place); }), "attaching to it or checking"));
  second.membership.recovered();
  EXPECT(!second.membership.must_recover());
  const Member third(place);
  EXPECT(!third.membership.must_recover());
}

void test_recovery_left_undone_is_done_by_the_next() {
  const Place place;
  {
    const Member first(place, true);
  }
  {
    const Member second(place, false, false);
  }  // clean, it says, but is not at rest
  const Member third(place);
  EXPECT(third.membership.must_recover());
}

void test_other_boot_needs_recovery() {
  const Place place;
  {
    const Member first(place, true);
  }
  {
    const Descriptor file = place.open();
    const Mapping mapping(file.get(), sizeof(Preamble), place.path);
    reinterpret_cast<Preamble*>(mapping.start())->state.boot_id[3] ^= 1;
  }
  const Member second(place);
  EXPECT(second.membership.must_recover());
  EXPECT(boot_id() == boot_id() && boot_id() != BootId{});
}

void test_last_to_leave_marks_the_clean_stop() {
  const Place place;
  auto first = std::make_unique<Member>(place, true);
  auto second = std::make_unique<Member>(place);
  EXPECT(!second->membership.must_recover());
  Preamble* state = second->preamble;
  first.reset();
  EXPECT(state->state.is_clean == 0);
  second->membership.leave();
  EXPECT(state->state.is_clean == 1);
  second->membership.leave();
}

void test_claims_left_behind_make_a_stop_unclean() {
  const Place place;
  {
    Member first(place, true);
    const JournalLease lease = first.membership.pool().lease();
    lease.line()->claim = ClaimNote(0, 1, lease.generation()).word();
  }
  Member second(place);
  EXPECT(second.membership.must_recover());
  second.membership.recovered();
  EXPECT(!second.membership.pool().has_claims());
}

// The id of a dead one is nobody's until its claims are taken back.
void test_id_with_claims_is_not_reused() {
  const Place place;
  Member first(place, true);
  EXPECT(!ends_well(start_child([&] {
    Member dead(place);
    const JournalLease lease = dead.membership.pool().lease();
    lease.line()->claim = ClaimNote(0, 1, lease.generation()).word();
    ::raise(SIGKILL);
    return true;
  })));
  EXPECT(!first.membership.is_alive(1));
  {
    const Member third(place);
    EXPECT(third.membership.attachment() == 2);
  }
  for (auto& line : first.preamble->journal) {
    line.claim = ClaimNote::none(ClaimNote(line.claim).generation()).word();
  }
  const Member fourth(place);
  EXPECT(fourth.membership.attachment() == 1);
}

void test_child_of_fork_joins_as_itself() {
  const Place place;
  Member parent(place, true);
  const JournalLease lease = parent.membership.pool().lease();
  const Signal is_joined;
  const Signal may_end;
  const pid_t child = start_child([&] {
    const std::uint32_t parents = parent.membership.attachment();
    if (!parent.membership.is_alive(parents)) return false;
    parent.membership.ensure_own();
    const JournalLease own = parent.membership.pool().lease();
    const bool is_other = parent.membership.attachment() != parents &&
                          own.index() != lease.index() && parent.membership.is_alive(parents);
    is_joined.send();
    may_end.wait();
    return is_other;
  });
  is_joined.wait();
  EXPECT(parent.membership.attachment() == 0 && parent.membership.is_alive(0));
  EXPECT(parent.membership.is_alive(1));
  may_end.send();
  EXPECT(ends_well(child));
  EXPECT(!parent.membership.is_alive(1));
  EXPECT(!parent.membership.is_alive(kAttachments) && !parent.membership.is_alive(5));
}

// A child that has not joined leaves without a trace; one that has keeps the stop from being clean.
void test_children_and_clean_stops() {
  const Place place;
  {
    Member parent(place, true);
    EXPECT(ends_well(start_child([&] {
      parent.membership.leave();
      return true;
    })));
    EXPECT(parent.preamble->state.is_clean == 0 && parent.preamble->attachments[0].used == 1);
  }
  EXPECT(!Member(place).membership.must_recover());
}

void test_threads_of_a_child_join_once() {
  const Place place;
  Member parent(place, true);
  EXPECT(ends_well(start_child([&] {
    std::vector<std::thread> threads;
    for (int i = 0; i < 4; ++i) threads.emplace_back([&] { parent.membership.ensure_own(); });
    for (auto& thread : threads) thread.join();
    return parent.membership.attachment() == 1 && parent.preamble->attachments[2].used == 0;
  })));
}

void test_after_leaving_a_child_cannot_join() {
  const Place place;
  Member parent(place, true);
  parent.membership.leave();
  EXPECT(ends_well(start_child([&] {
    return contains(thrown<StoreError>([&] { parent.membership.ensure_own(); }), "closed");
  })));
}

}  // namespace
}  // namespace predawn

int main() {
  predawn::test_clean_stop_needs_no_recovery();
  predawn::test_killed_needs_recovery_and_others_wait();
  predawn::test_recovery_left_undone_is_done_by_the_next();
  predawn::test_other_boot_needs_recovery();
  predawn::test_last_to_leave_marks_the_clean_stop();
  predawn::test_claims_left_behind_make_a_stop_unclean();
  predawn::test_id_with_claims_is_not_reused();
  predawn::test_child_of_fork_joins_as_itself();
  predawn::test_children_and_clean_stops();
  predawn::test_threads_of_a_child_join_once();
  predawn::test_after_leaving_a_child_cannot_join();
  return predawn::testing::failures == 0 ? 0 : 1;
}
