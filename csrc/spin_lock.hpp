// A lock of one word for critical sections of about a hundred nanoseconds.
//
// What: `SpinLock`: satisfies Lockable for `std::lock_guard`; all-zero memory is an unlocked one.
// When not: anything that can block, allocate or call back while holding it.
// Functions: `lock`, `try_lock`, `unlock`.
// Design: test, then exchange; a waiter pauses and, after a while, gives its time slice away, so a
//   holder that lost the processor gets it back.
// Memory: 4 bytes. Cost: one exchange (acquire) and one store (release) where nobody competes.
//   (1) exchange acquire in try_lock pairs with (2) store release in unlock.
#pragma once

#include <atomic>
#include <cstdint>
#include <thread>

namespace predawn {

class SpinLock {
 public:
  [[nodiscard]] bool try_lock() noexcept {
    return word_.exchange(1, std::memory_order_acquire) == 0;  // (1)
  }

  void lock() noexcept {
    while (!try_lock()) wait();
  }

  void unlock() noexcept { word_.store(0, std::memory_order_release); }  // (2)

 private:
  static constexpr int kPausesBeforeYield = 64;

  void wait() const noexcept {
    for (int i = 0; i < kPausesBeforeYield; ++i) {
      if (word_.load(std::memory_order_relaxed) == 0) return;
      pause();
    }
    std::this_thread::yield();
  }

  static void pause() noexcept {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
  }

  std::atomic<std::uint32_t> word_{0};
};
static_assert(sizeof(SpinLock) == 4);

}  // namespace predawn
