// A few native threads that help a caller with a batch of thousands.
//
// What: `WorkerPool(threads)`: `threads` in all, the caller among them; `run(count, grain, work)`
//   calls work(begin, end) so that every number below `count` is in one range, once.
// When not: small batches (up to a grain the caller works alone, at no cost), or work that blocks,
//   throws or depends on its thread.
// Functions: `run`, from any thread, also within work. It returns when all is done; what the
//   helpers wrote is then visible. A caller that finds the helpers busy with someone else's batch
//   works alone at once. It waits only for ranges of its own batch that a helper has begun.
// Design: helpers sleep on a condition variable; ranges of `grain` are taken by an atomic counter,
//   so a slow helper gets fewer. They are started at the first batch that needs them, named, with
//   all signals blocked, and joined at destruction; if the system gives no threads, the caller
//   works alone. A child of fork has none of them: it leaves the parent's crew where it lies (its
//   mutex may be held by a thread that is not there) and makes its own.
// Memory: 1 KB and a stack per helper; nothing is allocated per batch. Cost: a system call per
//   helper called, under 1 us; one relaxed fetch_add a range. The crew's mutex orders the rest.
//   (1) compare-exchange release in `crew` pairs with (2) load acquire there: a crew is complete
//   when seen. (3) exchange acquire in `try_begin` pairs with (4) store release in `end`: one batch
//   after the other.
#pragma once

#include <pthread.h>
#include <signal.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdio>
#include <mutex>
#include <new>
#include <system_error>
#include <thread>
#include <type_traits>

#include "fork_epoch.hpp"

namespace predawn {

inline constexpr unsigned kThreadsMax = 64;
inline constexpr std::size_t kGrain = 2048;  // keys: about 100 us

namespace detail {

struct Batch {
  void (*work)(void* context, std::size_t begin, std::size_t end) noexcept = nullptr;
  void* context = nullptr;
  std::size_t count = 0;
  std::size_t grain = 1;
};

// The helpers of one process.
class Crew {
 public:
  explicit Crew(unsigned helpers) noexcept : epoch_(fork_epoch()), wanted_(helpers) {}
  Crew(const Crew&) = delete;
  Crew& operator=(const Crew&) = delete;

  ~Crew() {
    {
      const std::lock_guard lock(mutex_);
      stops_ = true;
    }
    called_.notify_all();
    for (std::thread& thread : threads_) {
      if (thread.joinable()) thread.join();
    }
  }

  [[nodiscard]] bool is_of_this_process() const noexcept { return epoch_ == fork_epoch(); }

  // Whether the caller has the crew to itself until `end`.
  [[nodiscard]] bool try_begin() noexcept {
    return !is_busy_.exchange(true, std::memory_order_acquire);  // (3)
  }
  void end() noexcept { is_busy_.store(false, std::memory_order_release); }  // (4)

  void run(const Batch& batch) noexcept {
    start();
    open(batch);
    call((batch.count - 1) / batch.grain);
    work_on(batch);
    std::unique_lock lock(mutex_);
    is_open_ = false;
    finished_.wait(lock, [this] { return working_ == 0; });
  }

 private:
  // Only the caller that has the crew.
  void start() noexcept {
    if (was_started_) return;
    was_started_ = true;
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before);
    try {
      for (; started_ < wanted_; ++started_) {
        threads_[started_] = std::thread(&Crew::help, this, started_ + 1);
      }
    } catch (const std::system_error&) {
      // No more threads to be had: those there are will do.
    }
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  }

  void open(const Batch& batch) noexcept {
    const std::lock_guard lock(mutex_);
    batch_ = batch;
    next_.store(0, std::memory_order_relaxed);
    is_open_ = true;
    ++round_;
  }

  // As many helpers as there are ranges besides the caller's.
  void call(std::size_t ranges) noexcept {
    if (ranges >= started_) {
      called_.notify_all();
      return;
    }
    for (std::size_t i = 0; i < ranges; ++i) called_.notify_one();
  }

  void work_on(const Batch& batch) noexcept {
    for (;;) {
      const std::size_t begin = next_.fetch_add(batch.grain, std::memory_order_relaxed);
      if (begin >= batch.count) return;
      batch.work(batch.context, begin, begin + std::min(batch.grain, batch.count - begin));
    }
  }

  void help(unsigned number) noexcept {
    std::array<char, 16> name{};
    std::snprintf(name.data(), name.size(), "predawn-pool-%u", number);
    ::pthread_setname_np(::pthread_self(), name.data());
    std::unique_lock lock(mutex_);
    for (std::size_t seen = 0;;) {
      called_.wait(lock, [&] { return stops_ || (is_open_ && round_ != seen); });
      if (stops_) return;
      seen = round_;
      ++working_;
      const Batch batch = batch_;
      lock.unlock();
      work_on(batch);
      lock.lock();
      if (--working_ == 0) finished_.notify_one();
    }
  }

  const unsigned epoch_;
  const unsigned wanted_;
  unsigned started_ = 0;
  bool was_started_ = false;
  std::atomic<bool> is_busy_{false};
  std::atomic<std::size_t> next_{0};

  std::mutex mutex_;  // of all below
  std::condition_variable called_;
  std::condition_variable finished_;
  Batch batch_;
  std::size_t round_ = 0;
  unsigned working_ = 0;
  bool is_open_ = false;
  bool stops_ = false;

  std::array<std::thread, kThreadsMax> threads_;
};

}  // namespace detail

class WorkerPool {
 public:
  // 1 to kThreadsMax threads; more are taken for that, and 0 for 1.
  explicit WorkerPool(unsigned threads) noexcept
      : helpers_(std::clamp(threads, 1u, kThreadsMax) - 1) {}
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  ~WorkerPool() {
    detail::Crew* crew = crew_.load(std::memory_order_relaxed);
    if (crew != nullptr && crew->is_of_this_process()) delete crew;
  }

  [[nodiscard]] unsigned threads() const noexcept { return helpers_ + 1; }

  template <class Work>
  void run(std::size_t count, std::size_t grain, Work&& work) noexcept {
    static_assert(std::is_nothrow_invocable_v<Work&, std::size_t, std::size_t>);
    if (count == 0) return;
    detail::Crew* crew = helpers_ > 0 && count > grain ? this->crew() : nullptr;
    if (crew == nullptr || !crew->try_begin()) return work(std::size_t{0}, count);
    using Plain = std::remove_reference_t<Work>;
    const auto call = [](void* context, std::size_t begin, std::size_t end) noexcept {
      (*static_cast<Plain*>(context))(begin, end);
    };
    auto* context = const_cast<std::remove_const_t<Plain>*>(&work);
    crew->run({call, context, count, std::max<std::size_t>(grain, 1)});
    crew->end();
  }

 private:
  // This process's crew; nothing if there is no memory for one.
  [[nodiscard]] detail::Crew* crew() noexcept {
    detail::Crew* held = crew_.load(std::memory_order_acquire);  // (2)
    if (held != nullptr && held->is_of_this_process()) return held;
    auto* made = new (std::nothrow) detail::Crew(helpers_);
    if (made == nullptr) return nullptr;
    if (crew_.compare_exchange_strong(held, made, std::memory_order_acq_rel)) return made;  // (1)
    delete made;
    return held;
  }

  const unsigned helpers_;
  std::atomic<detail::Crew*> crew_{nullptr};
};

}  // namespace predawn
