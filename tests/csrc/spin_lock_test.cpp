// One holder at a time, and what a holder wrote is seen by the next.
#include "spin_lock.hpp"

#include <mutex>
#include <thread>
#include <vector>

#include "expect.hpp"

namespace predawn {
namespace {

void test_nothing_is_lost_between_threads() {
  SpinLock lock;
  std::uint64_t counted = 0;
  std::vector<std::thread> threads;
  for (int thread = 0; thread < 4; ++thread) {
    threads.emplace_back([&] {
      for (int i = 0; i < 20'000; ++i) {
        const std::lock_guard guard(lock);
        ++counted;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT(counted == 80'000);
}

void test_a_held_lock_is_not_given_again() {
  SpinLock lock;
  EXPECT(lock.try_lock());
  EXPECT(!lock.try_lock());
  lock.unlock();
  EXPECT(lock.try_lock());
}

}  // namespace
}  // namespace predawn

int main() {
  predawn::test_nothing_is_lost_between_threads();
  predawn::test_a_held_lock_is_not_given_again();
  return predawn::testing::failures == 0 ? 0 : 1;
}
