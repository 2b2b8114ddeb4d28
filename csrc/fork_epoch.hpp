// How many forks lie between the process that loaded this code and the one that asks.
//
// What: `fork_epoch()`: a number that differs in a child of fork from its parent's. What was made
//   under another number (threads, file locks) does not exist here and is to be made anew.
// When not: telling processes apart (that is what a pid is for), or waiting for a fork.
// Functions: `fork_epoch` is safe from any thread at any time, also in the child of a process that
//   had many threads. A new image (exec, posix_spawn) starts at 0.
// Design: a handler registered with pthread_atfork when the code is loaded, before anything could
//   depend on it, adds 1 in the child, while that has one thread only. A child made by a raw clone
//   system call, which runs no handlers, is not noticed.
// Memory: 4 bytes. Cost: a relaxed load.
#pragma once

#include <pthread.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>

namespace predawn {
namespace detail {

inline std::atomic<unsigned> fork_count{0};
static_assert(std::atomic<unsigned>::is_always_lock_free, "the handler may not take a lock");

inline bool count_forks() noexcept {
  const auto count = [] { fork_count.fetch_add(1, std::memory_order_relaxed); };
  if (::pthread_atfork(nullptr, nullptr, count) != 0) {
    std::fputs("predawn: out of memory while registering a fork handler\n", stderr);
    std::abort();
  }
  return true;
}
inline const bool counts_forks = count_forks();

}  // namespace detail

[[nodiscard]] inline unsigned fork_epoch() noexcept {
  return detail::fork_count.load(std::memory_order_relaxed);
}

}  // namespace predawn
