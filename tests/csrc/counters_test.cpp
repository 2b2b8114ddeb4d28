// Tallies add up over all threads; every cause of an eviction has a count of its own.
#include "counters.hpp"

#include <memory>
#include <set>
#include <thread>
#include <vector>

#include "expect.hpp"

namespace predawn {
namespace {

void test_tallies_of_more_threads_than_blocks_add_up() {
  const auto counters = std::make_unique<Counters>();
  for (int round = 0; round < 20; ++round) {
    std::vector<std::thread> threads;
    for (int thread = 0; thread < 4; ++thread) {
      threads.emplace_back([&] {
        for (int call = 0; call < 100; ++call) {
          Tally tally;
          for (int i = 0; i < 3; ++i) tally.count(Event::kInsert);
          tally.count(Event::kProbe, 40);
          counters->add(tally);
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
  }
  EXPECT(counters->read(Event::kInsert) == 24'000);
  EXPECT(counters->read(Event::kProbe) == 320'000);
  for (std::size_t i = 0; i < kEvents; ++i) {
    const auto event = static_cast<Event>(i);
    if (event != Event::kInsert && event != Event::kProbe) EXPECT(counters->read(event) == 0);
  }
}

void test_every_event_is_counted_by_itself() {
  const auto counters = std::make_unique<Counters>();
  for (std::size_t i = 0; i < kEvents; ++i) {
    Tally tally;
    tally.count(static_cast<Event>(i), i + 1);
    EXPECT(tally.of(static_cast<Event>(i)) == i + 1);
    counters->add(tally);
  }
  for (std::size_t i = 0; i < kEvents; ++i) {
    EXPECT(counters->read(static_cast<Event>(i)) == i + 1);
  }
  EXPECT(static_cast<std::size_t>(Event::kRemoveBusy) + 1 == kEvents);
}

void test_sums_of_a_call() {
  Tally tally;
  tally.count(Event::kFresh, 2);
  tally.count(Event::kStale, 3);
  for (const Event no_hit : {Event::kExpired, Event::kAbsent, Event::kRaced, Event::kOutdated}) {
    tally.count(no_hit, 100);
  }
  tally.count(Event::kInsert, 5);
  tally.count(Event::kOverwrite, 6);
  for (const Event given_up : {Event::kPutBusy, Event::kPutNoSlot, Event::kPutNoJournal}) {
    tally.count(given_up, 100);
  }
  EXPECT(tally.hits() == 5);
  EXPECT(tally.written() == 11);
}

void test_causes_of_evictions_are_told_apart() {
  const Cause causes[] = {Cause::kExpired, Cause::kQuota, Cause::kSpeculative, Cause::kHand,
                          Cause::kHandBySpeculative};
  std::set<Event> events;
  for (const Cause cause : causes) events.insert(event_of(cause));
  EXPECT(events.size() == kCauses - 1);
  EXPECT(events.count(Event::kInsert) == 0 && events.count(Event::kOverwrite) == 0);
}

}  // namespace
}  // namespace predawn

int main() {
  predawn::test_tallies_of_more_threads_than_blocks_add_up();
  predawn::test_every_event_is_counted_by_itself();
  predawn::test_sums_of_a_call();
  predawn::test_causes_of_evictions_are_told_apart();
  return predawn::testing::failures == 0 ? 0 : 1;
}
