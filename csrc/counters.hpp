// What happened to a table: one count per kind of event.
//
// What: `Event`, `Tally` (the events of one call, plain), `Counters` (all calls, shared).
// When not: distributions (histogram.hpp).
// Functions: `Counters::add` folds a tally in; `read` is one count.
// Design: a batch counts on its own stack and adds once at its end, so that threads do not fight
//   over a counter for every key.
// Memory: 10 words. Cost: one relaxed addition per kind of event and call.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

namespace predawn {

enum class Event : std::uint8_t {
  kHit,             // found, young enough
  kMiss,            // absent
  kExpired,         // found, older than the reader accepts
  kInsert,          // a key that was absent is written
  kOverwrite,       // a key that was present is written
  kEvictedLive,     // made room although a reader could still have used it
  kEvictedExpired,  // made room, too old for every reader so far
  kInvalidation,
  kPutGivenUp,
};
inline constexpr std::size_t kEvents = 9;

class Tally {
 public:
  void count(Event event) noexcept { ++counts_[static_cast<std::size_t>(event)]; }
  [[nodiscard]] std::uint64_t of(Event event) const noexcept {
    return counts_[static_cast<std::size_t>(event)];
  }

  // By how many entries the table grew.
  [[nodiscard]] std::int64_t growth() const noexcept {
    return static_cast<std::int64_t>(of(Event::kInsert) - of(Event::kEvictedLive) -
                                     of(Event::kEvictedExpired) - of(Event::kInvalidation));
  }

 private:
  std::array<std::uint64_t, kEvents> counts_{};
};

class Counters {
 public:
  void add(const Tally& tally) noexcept {
    for (std::size_t i = 0; i < kEvents; ++i) {
      const std::uint64_t count = tally.of(static_cast<Event>(i));
      if (count != 0) counts_[i].fetch_add(count, std::memory_order_relaxed);
    }
    if (tally.growth() != 0) entries_.fetch_add(tally.growth(), std::memory_order_relaxed);
  }

  [[nodiscard]] std::uint64_t read(Event event) const noexcept {
    return counts_[static_cast<std::size_t>(event)].load(std::memory_order_relaxed);
  }
  [[nodiscard]] std::int64_t entries() const noexcept {
    return entries_.load(std::memory_order_relaxed);
  }

 private:
  std::array<std::atomic<std::uint64_t>, kEvents> counts_{};
  std::atomic<std::int64_t> entries_{0};
};

}  // namespace predawn
