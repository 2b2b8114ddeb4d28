// Tallies add up, and the number of entries is what came minus what went.
#include "counters.hpp"

#include <thread>
#include <vector>

#include "expect.hpp"

namespace predawn {
namespace {

void test_tallies_of_all_threads_add_up() {
  Counters counters;
  std::vector<std::thread> threads;
  for (int thread = 0; thread < 4; ++thread) {
    threads.emplace_back([&] {
      for (int call = 0; call < 1'000; ++call) {
        Tally tally;
        for (int i = 0; i < 3; ++i) tally.count(Event::kInsert);
        tally.count(Event::kEvictedLive);
        tally.count(Event::kHit);
        counters.add(tally);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT(counters.read(Event::kInsert) == 12'000);
  EXPECT(counters.read(Event::kHit) == 4'000);
  EXPECT(counters.read(Event::kMiss) == 0);
  EXPECT(counters.entries() == 8'000);
}

void test_growth_counts_only_what_changes_the_number_of_entries() {
  Tally tally;
  for (const Event event :
       {Event::kHit, Event::kMiss, Event::kExpired, Event::kOverwrite, Event::kPutGivenUp}) {
    tally.count(event);
  }
  EXPECT(tally.growth() == 0);
  tally.count(Event::kInsert);
  EXPECT(tally.growth() == 1);
  tally.count(Event::kInvalidation);
  tally.count(Event::kEvictedExpired);
  tally.count(Event::kEvictedLive);
  EXPECT(tally.growth() == -2);
}

}  // namespace
}  // namespace predawn

int main() {
  predawn::test_tallies_of_all_threads_add_up();
  predawn::test_growth_counts_only_what_changes_the_number_of_entries();
  return predawn::testing::failures == 0 ? 0 : 1;
}
