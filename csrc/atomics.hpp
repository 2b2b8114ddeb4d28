// How the store touches memory that other threads and processes touch too: the one place that
// decides between speed, what ThreadSanitizer can follow, and what a model checker can schedule.
//
// What: `StdAtomics`, `TsanAtomics` (policies), `Atomics` (the one this build uses).
// When not: anything that only one thread sees.
// Functions: `reread` ends an optimistic read: everything read before it was read before the word
//   is read again. `open_write` makes a sequence number odd before the writes that follow it.
//   `load_words`, `store_words` move row bytes (whole 8-byte words) between shared and own memory.
// Design: protocol code is templates over such a policy. Rows are moved by plain vector moves where
//   ISO C++ would ask for relaxed atomic words: those cost 4 times as much and cannot be
//   vectorised. The move is libc's memcpy, as fast as own 64-byte moves; 16-byte ones take twice as
//   long, and a conversion that follows waits for them (a wide load is not served from narrower
//   stores). What was read is thrown away unless the sequence number validates it. The TSan
//   policy moves atomic words and replaces fences, which TSan cannot follow, by read-modify-writes.
//   The model policy (tests/csrc/model_atomics.hpp) makes every access a scheduling point.
// Memory: that of the words. Cost: of a plain access on x86; one `dmb` per fence on ARM.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace predawn {

struct StdAtomics {
  template <class T>
  using Word = std::atomic<T>;
  static constexpr bool kVectorScan = true;  // tags may be looked over as vectors, as a hint

  template <class T>
  static T reread(const Word<T>& word) noexcept {
    std::atomic_thread_fence(std::memory_order_acquire);
    return word.load(std::memory_order_relaxed);
  }

  static void open_write(Word<std::uint64_t>& word, std::uint64_t odd) noexcept {
    word.store(odd, std::memory_order_relaxed);
    std::atomic_thread_fence(std::memory_order_release);
  }

  // Copies `bytes` (a multiple of 8) from shared memory that may change meanwhile.
  static void load_words(const std::byte* shared, std::byte* own, std::size_t bytes) noexcept {
    opaque_copy(own, shared, bytes);
  }
  static void store_words(std::byte* shared, const std::byte* own, std::size_t bytes) noexcept {
    opaque_copy(shared, own, bytes);
  }

 private:
  static constexpr std::size_t kChunk = 64;  // rows are lines mostly: no call of the library

  // A copy that the compiler can neither split, repeat nor move over the fences around it.
  static void opaque_copy(std::byte* to, const std::byte* from, std::size_t bytes) noexcept {
    asm volatile("" : "+r"(from), "+r"(to) : : "memory");
    std::size_t at = 0;
    for (; at + kChunk <= bytes; at += kChunk) std::memcpy(to + at, from + at, kChunk);
    if (at < bytes) std::memcpy(to + at, from + at, bytes - at);
    asm volatile("" : : "r"(to) : "memory");
  }
};

struct TsanAtomics {
  template <class T>
  using Word = std::atomic<T>;
  static constexpr bool kVectorScan = false;

  template <class T>
  static T reread(const Word<T>& word) noexcept {
    return const_cast<Word<T>&>(word).fetch_add(0, std::memory_order_acq_rel);
  }

  static void open_write(Word<std::uint64_t>& word, std::uint64_t odd) noexcept {
    word.exchange(odd, std::memory_order_acq_rel);
  }

  static void load_words(const std::byte* shared, std::byte* own, std::size_t bytes) noexcept {
    for (std::size_t at = 0; at < bytes; at += sizeof(std::uint64_t)) {
      const auto* word = reinterpret_cast<const Word<std::uint64_t>*>(shared + at);
      const std::uint64_t value = word->load(std::memory_order_relaxed);
      std::memcpy(own + at, &value, sizeof value);
    }
  }
  static void store_words(std::byte* shared, const std::byte* own, std::size_t bytes) noexcept {
    for (std::size_t at = 0; at < bytes; at += sizeof(std::uint64_t)) {
      std::uint64_t value = 0;
      std::memcpy(&value, own + at, sizeof value);
      reinterpret_cast<Word<std::uint64_t>*>(shared + at)->store(value, std::memory_order_relaxed);
    }
  }
};

#if defined(__SANITIZE_THREAD__)
using Atomics = TsanAtomics;
#elif defined(__has_feature)
#  if __has_feature(thread_sanitizer)
using Atomics = TsanAtomics;
#  else
using Atomics = StdAtomics;
#  endif
#else
using Atomics = StdAtomics;
#endif

// Several processes share these words: they must be plain memory without hidden locks.
static_assert(std::atomic<std::uint64_t>::is_always_lock_free &&
              sizeof(std::atomic<std::uint64_t>) == 8);
static_assert(std::atomic<std::uint32_t>::is_always_lock_free &&
              sizeof(std::atomic<std::uint32_t>) == 4);

}  // namespace predawn
