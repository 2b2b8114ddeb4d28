// Every number is worked on once, whoever calls and however often; helpers come late, have names
// and are made anew after a fork.
#include "worker_pool.hpp"

#include <dirent.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <set>
#include <string>
#include <vector>

#include "expect.hpp"

namespace predawn {
namespace {

// Plain memory on purpose: a number worked on twice at once is a race that TSan reports.
bool covers_once(WorkerPool& pool, std::size_t count, std::size_t grain) {
  std::vector<unsigned> times(count);
  pool.run(count, grain, [&](std::size_t begin, std::size_t end) noexcept {
    for (std::size_t i = begin; i < end; ++i) ++times[i];
  });
  for (const unsigned n : times) {
    if (n != 1) return false;
  }
  return true;
}

// Threads of this process that bear the pool's name.
std::size_t helpers_alive() {
  std::size_t count = 0;
  DIR* tasks = ::opendir("/proc/self/task");
  while (const dirent* entry = ::readdir(tasks)) {
    std::ifstream comm("/proc/self/task/" + std::string(entry->d_name) + "/comm");
    std::string name;
    if (std::getline(comm, name) && name.starts_with("predawn-pool-")) ++count;
  }
  ::closedir(tasks);
  return count;
}

// Until `holds`, giving the time slice away: threads appear and get their names when they run.
template <class Holds>
void eventually(Holds holds) {
  for (int i = 0; i < 1'000'000 && !holds(); ++i) ::sched_yield();
  EXPECT(holds());
}

void test_every_number_is_worked_on_once() {
  for (const unsigned threads : {0u, 1u, 2u, 4u, 9u}) {
    WorkerPool pool(threads);
    for (const std::size_t count : {0, 1, 7, 8, 9, 63, 64, 65, 1000}) {
      for (const std::size_t grain : {1, 8, 64, 5000}) EXPECT(covers_once(pool, count, grain));
    }
  }
}

void test_ranges_are_whole_grains_but_the_last() {
  WorkerPool pool(3);
  std::atomic<unsigned> odd{0};
  pool.run(1001, 10, [&](std::size_t begin, std::size_t end) noexcept {
    if (begin % 10 != 0 || (end - begin != 10 && end != 1001)) ++odd;
  });
  EXPECT(odd == 0);
}

void test_many_batches_follow_one_another() {
  WorkerPool pool(3);
  std::size_t wrong = 0;
  for (std::size_t i = 0; i < 3000; ++i) wrong += covers_once(pool, 20 + i % 40, 8) ? 0 : 1;
  EXPECT(wrong == 0);
}

void test_callers_at_once_each_get_their_own_work_done() {
  WorkerPool pool(3);
  std::atomic<unsigned> wrong{0};
  std::vector<std::thread> callers;
  for (int i = 0; i < 4; ++i) {
    callers.emplace_back([&] {
      for (int round = 0; round < 500; ++round) {
        if (!covers_once(pool, 100, 8)) ++wrong;
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  EXPECT(wrong == 0);
}

void test_work_may_run_work() {
  WorkerPool pool(3);
  std::atomic<std::size_t> done{0};
  pool.run(64, 8, [&](std::size_t begin, std::size_t end) noexcept {
    pool.run((end - begin) * 10, 4, [&](std::size_t from, std::size_t to) noexcept {
      done.fetch_add(to - from, std::memory_order_relaxed);
    });
  });
  EXPECT(done == 640);
}

void test_helpers_take_part() {
  WorkerPool pool(2);
  std::mutex mutex;
  std::set<std::thread::id> seen;
  // The caller's range lasts until a helper has taken another.
  pool.run(2, 1, [&](std::size_t, std::size_t) noexcept {
    for (int i = 0; i < 10'000'000; ++i) {
      const std::lock_guard lock(mutex);
      seen.insert(std::this_thread::get_id());
      if (seen.size() == 2) return;
    }
  });
  EXPECT(seen.size() == 2);
}

void test_helpers_come_with_the_first_large_batch_and_go_with_the_pool() {
  {
    WorkerPool pool(4);
    EXPECT(pool.threads() == 4);
    EXPECT(covers_once(pool, 8, 8));
    EXPECT(helpers_alive() == 0);
    EXPECT(covers_once(pool, 80, 8));
    eventually([] { return helpers_alive() == 3; });
  }
  eventually([] { return helpers_alive() == 0; });
}

void test_helpers_take_no_signals() {
  WorkerPool pool(2);
  std::atomic<unsigned> open{0};
  const std::thread::id caller = std::this_thread::get_id();
  pool.run(100, 1, [&](std::size_t, std::size_t) noexcept {
    sigset_t blocked;
    ::pthread_sigmask(SIG_SETMASK, nullptr, &blocked);
    if (std::this_thread::get_id() != caller && sigismember(&blocked, SIGINT) == 0) ++open;
  });
  sigset_t blocked;
  ::pthread_sigmask(SIG_SETMASK, nullptr, &blocked);
  EXPECT(open == 0 && sigismember(&blocked, SIGINT) == 0);
}

#if !defined(__SANITIZE_THREAD__)  // which allows no threads in a child of a process that has some
int status_of(pid_t child) {
  int status = -1;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

void test_a_child_of_fork_makes_helpers_of_its_own() {
  auto* pool = new WorkerPool(3);
  EXPECT(covers_once(*pool, 100, 8));
  const pid_t child = ::fork();
  if (child == 0) {
    const bool none = helpers_alive() == 0;
    const bool covered = covers_once(*pool, 100, 8);
    eventually([] { return helpers_alive() == 2; });
    delete pool;
    ::_exit(none && covered && testing::failures == 0 ? 0 : 1);
  }
  EXPECT(status_of(child) == 0);
  EXPECT(covers_once(*pool, 100, 8));
  delete pool;
}

// The fork falls within a batch: the child's copy says busy, for ever, and must not be believed.
void test_a_child_forked_within_a_batch_is_not_held_up() {
  WorkerPool pool(3);
  std::atomic<int> status{-1};
  pool.run(24, 8, [&](std::size_t begin, std::size_t) noexcept {
    if (begin != 8) return;
    const pid_t child = ::fork();
    if (child == 0) {
      const bool covered = covers_once(pool, 100, 8);
      eventually([] { return helpers_alive() == 2; });
      ::_exit(covered && testing::failures == 0 ? 0 : 1);
    }
    status = status_of(child);
  });
  EXPECT(status == 0);
}

void test_a_child_that_never_uses_the_pool_can_destroy_it() {
  auto* pool = new WorkerPool(3);
  EXPECT(covers_once(*pool, 100, 8));
  const pid_t child = ::fork();
  if (child == 0) {
    delete pool;
    ::_exit(0);
  }
  EXPECT(status_of(child) == 0);
  delete pool;
}
#endif

}  // namespace
}  // namespace predawn

int main() {
  predawn::test_every_number_is_worked_on_once();
  predawn::test_ranges_are_whole_grains_but_the_last();
  predawn::test_many_batches_follow_one_another();
  predawn::test_callers_at_once_each_get_their_own_work_done();
  predawn::test_work_may_run_work();
  predawn::test_helpers_take_part();
  predawn::test_helpers_come_with_the_first_large_batch_and_go_with_the_pool();
  predawn::test_helpers_take_no_signals();
#if !defined(__SANITIZE_THREAD__)
  predawn::test_a_child_of_fork_makes_helpers_of_its_own();
  predawn::test_a_child_forked_within_a_batch_is_not_held_up();
  predawn::test_a_child_that_never_uses_the_pool_can_destroy_it();
#endif
  return predawn::testing::failures == 0 ? 0 : 1;
}
