// What the values in a store may be, kept beside it in shared memory while it is tortured.
//
// What: `Oracle` (the whole mapping), `KeyHistory`, `WorkerRecord`, `Violation`; `begin_change`,
//   `end_change`, `judge_hit` (the rule that every hit must keep).
// When not: the store's own use; only torture.hpp and its audit look at it.
// Functions: safe from any thread of any process; a process killed anywhere in them only makes the
//   rule weaker for the changes that it had under way.
// Design: a stamp is a tick of its key's clock; a change takes one at its start, which is the
//   version of the value it writes, and one at its end. A removal is a change that writes nothing.
//   A hit with version v is wrong if
//     v was never given out, or its put said that it failed (unpublished), or
//     v's change had ended when a change began that itself had ended, or been seen, before the read
//     began (older than seen; that is a violated linearizability of the key's register).
//   Keys with one owner have no two changes at once, so there every older version is wrong. For the
//   others the ends of the last stamps are kept in a ring; changes that were still under
//   way when the ring went round are remembered one by one (`orphans`).
//   (1) clock.fetch_add(acq_rel): stamps of a key are ordered as their changes happened.
//   (2) finished / seen: max by compare_exchange(release), load(acquire) before a read: who sees a
//       stamp there reads after that change has taken effect.
//   (3) an orphan is noted (release) before the note of the change under way goes, and looked for
//       after it.
// Memory: 3 MiB. Cost: two fetch_adds a change; three loads of one cache line a hit.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "key.hpp"

namespace predawn::torture {

inline constexpr std::size_t kWorkers = 16;
inline constexpr std::size_t kSupervisor = kWorkers;  // writes, too: its record is the last
inline constexpr std::size_t kKeys = 8192;
inline constexpr std::size_t kShared = 1024;
inline constexpr std::size_t kEndings = 1 << 18;  // of all shared keys together
inline constexpr std::size_t kOrphans = 1 << 16;
inline constexpr std::size_t kOrphanTries = 8;
inline constexpr std::size_t kViolations = 64;
inline constexpr std::size_t kUnderWay = 64;  // changes of one worker at once

using Stamp = std::uint32_t;
inline constexpr Stamp kGivenUp = ~Stamp{0};  // instead of an end

struct alignas(64) KeyHistory {
  std::atomic<Stamp> clock;
  std::atomic<Stamp> finished;  // newest start of a change that has ended
  std::atomic<Stamp> seen;      // newest version that anybody has read
  std::atomic<Stamp> given_up;  // the owner's last put that failed
  std::uint64_t id;
};

// Two stamps, or a key and a stamp, as one word.
[[nodiscard]] constexpr std::uint64_t pair_of(std::uint32_t high, std::uint32_t low) noexcept {
  return (std::uint64_t{high} << 32) | low;
}

struct alignas(64) WorkerRecord {
  std::atomic<std::uint64_t> beats;  // rounds of its loop: it goes on
  std::atomic<std::uint64_t> reads;  // hits, each verified
  std::atomic<std::uint64_t> misses;
  std::atomic<std::uint64_t> puts;
  std::atomic<std::uint64_t> removals;
  std::atomic<std::uint64_t> scanned;
  std::atomic<std::uint64_t> undecided;  // hits of changes that never ended
  std::atomic<std::uint64_t> put_busy;
  std::atomic<std::uint64_t> put_no_slot;
  std::atomic<std::uint64_t> put_no_journal;
  std::atomic<std::uint64_t> ways_lost;
  std::atomic<std::uint64_t> longest_batch_ns;                  // since it was last taken
  std::atomic<std::uint32_t> attachment;                        // + 1; 0: not attached
  alignas(64) std::atomic<std::uint64_t> under_way[kUnderWay];  // key + 1, stamp; 0: none
};

enum class Wrong : std::uint32_t {
  kTorn = 0,  // lanes of a row disagree, or row, age and snapshot do
  kWrongKey,
  kOlderThanSeen,
  kUnpublished,
  kBlocked,  // a put failed beside stopped writers
  kBroken,   // an invariant of the table
};

struct Violation {
  Wrong wrong;
  std::uint32_t by;  // worker
  std::uint32_t key;
  std::uint32_t fingerprint;
  std::uint64_t set;
  std::uint64_t value;  // what was read
  std::uint64_t floor;  // what it must not be older than
  std::uint64_t other;  // the lane that disagrees, the clock, the end
};

struct Plan {
  std::uint32_t keys = 0;
  std::uint32_t shared = 0;   // the first of them, which everybody writes
  std::uint32_t endings = 1;  // size of a shared key's ring
  std::uint32_t workers = 0;
  std::uint32_t reads_per_put = 16;  // batches
  std::uint32_t read_keys = 256;     // of a batch
  std::uint32_t put_keys = 32;
  std::uint32_t removes_in = 64;  // one batch of changes in so many removes instead
  std::uint32_t floors_in = 0;    // one round in so many raises the snapshot floor; 0: none
  std::uint32_t pause_us = 0;     // after each round
  std::uint32_t expires = 0;      // readers take about half of what was written as too old
};

struct Oracle {
  Plan plan;
  alignas(64) std::atomic<std::uint32_t> stop;
  std::atomic<std::uint32_t> epoch;  // the snapshot that writers write
  std::atomic<std::uint32_t> floor;  // snapshots below are gone
  alignas(64) std::atomic<std::uint64_t> wrongs[6];
  std::atomic<std::uint32_t> violations_taken;
  Violation violations[kViolations];
  WorkerRecord workers[kWorkers + 1];
  KeyHistory keys[kKeys];
  std::atomic<std::uint64_t> endings[kEndings];  // start, end or 0
  std::atomic<std::uint32_t> orphans_lost;
  std::atomic<std::uint64_t> orphans[kOrphans];  // key + 1, stamp; found by their hash

  void report(const Violation& violation) noexcept {
    wrongs[static_cast<std::size_t>(violation.wrong)].fetch_add(1, std::memory_order_relaxed);
    const std::uint32_t at = violations_taken.fetch_add(1, std::memory_order_relaxed);
    if (at < kViolations) violations[at] = violation;
  }
  [[nodiscard]] bool is_shared(std::uint32_t key) const noexcept { return key < plan.shared; }
  [[nodiscard]] std::size_t ending_at(std::uint32_t key, Stamp stamp) const noexcept {
    return (std::size_t{key} * plan.endings + stamp % plan.endings) % kEndings;
  }
  [[nodiscard]] Key key(std::uint32_t index) const noexcept {
    return {keys[index].id, ~keys[index].id};
  }
};

template <class T>
void raise_to(std::atomic<T>& held, T value) noexcept {
  T now = held.load(std::memory_order_relaxed);
  while (value > now && !held.compare_exchange_weak(now, value, std::memory_order_release,  // (2)
                                                    std::memory_order_relaxed)) {
  }
}

[[nodiscard]] constexpr std::size_t orphan_at(std::uint64_t note, std::size_t tries) noexcept {
  return (((note * 0x9e3779b97f4a7c15u) >> 40) + tries) % kOrphans;
}

inline void note_orphan(Oracle& oracle, std::uint64_t note) noexcept {
  for (std::size_t tries = 0; tries < kOrphanTries; ++tries) {
    std::uint64_t held = 0;
    std::atomic<std::uint64_t>& place = oracle.orphans[orphan_at(note, tries)];
    if (place.compare_exchange_strong(held, note, std::memory_order_acq_rel)) return;  // (3)
    if (held == note) return;
  }
  oracle.orphans_lost.fetch_add(1, std::memory_order_release);
}

// Starts the `index`-th change of a worker's batch. Returns its stamp.
[[nodiscard]] inline Stamp begin_change(Oracle& oracle, WorkerRecord& worker, std::uint32_t key,
                                        std::size_t index) noexcept {
  const Stamp stamp = oracle.keys[key].clock.fetch_add(1, std::memory_order_acq_rel) + 1;  // (1)
  if (!oracle.is_shared(key)) return stamp;
  worker.under_way[index].store(pair_of(key + 1, stamp), std::memory_order_release);
  std::atomic<std::uint64_t>& ending = oracle.endings[oracle.ending_at(key, stamp)];
  raise_to(ending, pair_of(stamp, 0));
  return stamp;
}

// `is_known` false: whether it has taken effect cannot be told.
inline void end_change(Oracle& oracle, WorkerRecord& worker, std::uint32_t key, std::size_t index,
                       Stamp stamp, bool is_known, bool is_done) noexcept {
  KeyHistory& history = oracle.keys[key];
  if (!oracle.is_shared(key)) {
    if (is_known && is_done) raise_to(history.finished, stamp);
    if (is_known && !is_done) history.given_up.store(stamp, std::memory_order_release);
    return;
  }
  const Stamp end = history.clock.fetch_add(1, std::memory_order_acq_rel) + 1;  // (1)
  std::uint64_t running = pair_of(stamp, 0);
  const std::uint64_t ended = pair_of(stamp, is_done ? end : kGivenUp);
  std::atomic<std::uint64_t>& ending = oracle.endings[oracle.ending_at(key, stamp)];
  const bool is_kept = is_known && ending.compare_exchange_strong(running, ended);
  if (!is_kept) note_orphan(oracle, pair_of(key + 1, stamp));
  if (is_known && is_done) raise_to(history.finished, stamp);
  worker.under_way[index].store(0, std::memory_order_release);  // (3)
}

// Before a worker's place is taken again after its death: its changes may still take effect.
inline void bury(Oracle& oracle, WorkerRecord& worker) noexcept {
  for (std::atomic<std::uint64_t>& note : worker.under_way) {
    const std::uint64_t held = note.load(std::memory_order_acquire);
    if (held != 0) note_orphan(oracle, held);
    note.store(0, std::memory_order_release);
  }
}

[[nodiscard]] inline bool may_be_under_way(const Oracle& oracle, std::uint32_t key,
                                           Stamp stamp) noexcept {
  const std::uint64_t note = pair_of(key + 1, stamp);
  for (const WorkerRecord& worker : oracle.workers) {
    for (const std::atomic<std::uint64_t>& held : worker.under_way) {
      if (held.load(std::memory_order_acquire) == note) return true;  // (3)
    }
  }
  for (std::size_t tries = 0; tries < kOrphanTries; ++tries) {
    if (oracle.orphans[orphan_at(note, tries)].load(std::memory_order_acquire) == note) return true;
  }
  // Some could not be written down: benefit of the doubt.
  return oracle.orphans_lost.load(std::memory_order_acquire) != 0;
}

// What a hit must not be older than, taken before the read.
[[nodiscard]] inline Stamp floor_of(const KeyHistory& history) noexcept {
  const Stamp finished = history.finished.load(std::memory_order_acquire);  // (2)
  return std::max(finished, history.seen.load(std::memory_order_acquire));  // (2)
}

enum class Verdict : std::uint8_t { kRight, kUndecided, kOlder, kUnpublished };

namespace detail {

[[nodiscard]] inline Verdict judge_shared(const Oracle& oracle, std::uint32_t key, Stamp stamp,
                                          Stamp floor) noexcept {
  const std::uint64_t ending =
      oracle.endings[oracle.ending_at(key, stamp)].load(std::memory_order_acquire);
  const auto start = static_cast<Stamp>(ending >> 32);
  const auto end = static_cast<Stamp>(ending);
  if (start == stamp && end == kGivenUp) return Verdict::kUnpublished;
  if (start == stamp) return end != 0 && end < floor ? Verdict::kOlder : Verdict::kRight;
  if (may_be_under_way(oracle, key, stamp)) return Verdict::kUndecided;
  if (start < stamp) return Verdict::kUnpublished;
  // It ended before `start` began, which itself has been overtaken or not.
  return start <= floor ? Verdict::kOlder : Verdict::kUndecided;
}

}  // namespace detail

// `floor`: floor_of before the read.
[[nodiscard]] inline Verdict judge_hit(const Oracle& oracle, std::uint32_t key, Stamp stamp,
                                       Stamp floor) noexcept {
  const KeyHistory& history = oracle.keys[key];
  if (stamp == 0 || stamp > history.clock.load(std::memory_order_acquire)) {
    return Verdict::kUnpublished;
  }
  if (stamp >= floor) {
    if (!oracle.is_shared(key)) {
      return history.given_up.load(std::memory_order_acquire) == stamp ? Verdict::kUnpublished
                                                                       : Verdict::kRight;
    }
  } else if (!oracle.is_shared(key)) {
    return Verdict::kOlder;
  }
  return detail::judge_shared(oracle, key, stamp, floor);
}

// After a right hit.
inline void note_seen(KeyHistory& history, Stamp stamp) noexcept {
  if (history.seen.load(std::memory_order_relaxed) < stamp) raise_to(history.seen, stamp);
}

}  // namespace predawn::torture
