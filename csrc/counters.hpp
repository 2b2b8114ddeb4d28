// What happened to a table: one count per kind of event, in a block of cache lines per thread.
//
// What: `Event`, `Tally` (the events of one call, plain), `Counters` (all calls of this process).
// When not: distributions (samples.hpp); the number of entries, which all processes share.
// Functions: `Counters::add` folds a tally in; `read` is one count, merged over the threads.
// Design: a batch counts on its own stack and adds once at its end, to the block of its thread, so
//   that threads share a line only if there are more of them than blocks.
// Memory: 16 KiB. Cost: one relaxed addition per kind of event that happened, and call.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "policy.hpp"

namespace predawn {

enum class Event : std::uint8_t {
  // Reads: each key is one of the first six.
  kFresh,           // found, not older than the reader calls fresh
  kStale,           // found, older than that, young enough
  kExpired,         // found, older than the reader accepts
  kAbsent,          // not there
  kRaced,           // overwritten again and again while being read: counts as absent
  kOutdated,        // of a snapshot that was invalidated: counts as absent
  kSpeculativeHit,  // of the found ones: written ahead of any request
  kPromoted,        // of these: asked for the first time
  kHintSet,         // the only store a read ever does
  kProbe,           // slots looked at: one per found key where no fingerprint misleads
  // Puts: each key is one of the first five.
  kInsert,
  kOverwrite,
  kPutBusy,       // given up: others changed the set again and again
  kPutNoSlot,     // given up: stopped writers hold every slot of the set
  kPutNoJournal,  // given up: every journal line is in use
  kEvictedExpired,
  kEvictedQuota,
  kEvictedSpeculative,
  kEvictedHand,
  kEvictedHandBySpeculative,
  kRemovedForSlot,  // a way emptied because stopped writers hold the spare slots
  kSetReads,        // reads of a set's word by puts: 2 each where nobody competes
  kInvalidation,
  kRemoveBusy,
};
inline constexpr std::size_t kEvents = 24;

[[nodiscard]] constexpr Event event_of(Cause cause) noexcept {
  switch (cause) {
    case Cause::kExpired:
      return Event::kEvictedExpired;
    case Cause::kQuota:
      return Event::kEvictedQuota;
    case Cause::kSpeculative:
      return Event::kEvictedSpeculative;
    case Cause::kHandBySpeculative:
      return Event::kEvictedHandBySpeculative;
    default:
      return Event::kEvictedHand;
  }
}

class Tally {
 public:
  void count(Event event, std::uint64_t times = 1) noexcept {
    counts_[static_cast<std::size_t>(event)] += times;
  }
  [[nodiscard]] std::uint64_t of(Event event) const noexcept {
    return counts_[static_cast<std::size_t>(event)];
  }
  [[nodiscard]] std::uint64_t hits() const noexcept {
    return of(Event::kFresh) + of(Event::kStale);
  }
  [[nodiscard]] std::uint64_t written() const noexcept {
    return of(Event::kInsert) + of(Event::kOverwrite);
  }

 private:
  std::array<std::uint64_t, kEvents> counts_{};
};

class Counters {
 public:
  void add(const Tally& tally) noexcept {
    Block& block = blocks_[own_block()];
    for (std::size_t i = 0; i < kEvents; ++i) {
      const std::uint64_t count = tally.of(static_cast<Event>(i));
      if (count != 0) block.counts[i].fetch_add(count, std::memory_order_relaxed);
    }
  }

  [[nodiscard]] std::uint64_t read(Event event) const noexcept {
    std::uint64_t total = 0;
    for (const Block& block : blocks_) {
      total += block.counts[static_cast<std::size_t>(event)].load(std::memory_order_relaxed);
    }
    return total;
  }

 private:
  static constexpr std::size_t kBlocks = 64;
  struct alignas(64) Block {
    std::array<std::atomic<std::uint64_t>, kEvents> counts{};
  };

  // Threads are numbered in the order in which they come first.
  static std::size_t own_block() noexcept {
    static std::atomic<std::size_t> threads{0};
    thread_local const std::size_t own = threads.fetch_add(1, std::memory_order_relaxed) % kBlocks;
    return own;
  }

  std::array<Block, kBlocks> blocks_{};
};

}  // namespace predawn
