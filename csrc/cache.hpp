// The store as its callers see it: batches of keys over one table, and what they added up to.
//
// What: `Cache`: get_many, put_many, touch_many, invalidate_many, scan, check; counters.
// When not: single keys (a batch of one is the way), checking of arguments (bindings.cpp does).
// Functions: all are safe from any thread; buffers belong to the caller and are not kept.
// Design: a batch is worked in blocks: place all keys and ask for their set lines, then for their
//   slots, then do the work. Each key is atomic by itself, a batch is not. Keys of a batch may
//   repeat; they are worked in order.
// Memory: the table; a block of places on the stack. Cost: table.hpp's, with the misses to memory
// of
//   a block overlapped; a handful of relaxed additions a call.
//   Change counts: (1) release in ChangeWindow's end pairs with (2) acquire in `check`, so that a
//   walk without any change meanwhile sees the counters of every finished change.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "check.hpp"
#include "counters.hpp"
#include "table.hpp"

namespace predawn {

struct ScanOut {
  Key* keys;
  std::int64_t* written_at_ms;
  std::uint32_t* snapshots;
  std::uint8_t* origins;
  std::size_t room;
};

struct ScanStep {
  std::size_t entries = 0;
  std::uint64_t next = 0;  // 0: the end
};

class Cache {
 public:
  Cache(const TableShape& shape, const Seed& seed) : table_(shape, seed) {}

  [[nodiscard]] const Table& table() const noexcept { return table_; }
  [[nodiscard]] const Counters& counters() const noexcept { return counters_; }

  [[nodiscard]] Key key_of_string(const void* text, std::size_t size) const noexcept {
    const SipKey secret = sip_key(table_.header()->seed.data() + sizeof(SipKey));
    const Hash128 hash = siphash128(secret, text, size);
    return {hash.lo, hash.hi};
  }

  // The first `parts` parts of each row to `out`, ages (-1: absent or too old, row untouched),
  // snapshots unless null. Returns the number found.
  std::size_t get_many(std::span<const Key> keys, std::int64_t now_ms, std::int64_t max_age_ms,
                       std::uint32_t parts, float* out, std::int64_t* ages,
                       std::uint32_t* snapshots) noexcept {
    const std::size_t values = std::size_t{parts} * table_.row().dim();
    Tally tally;
    table_.accept_age(max_age_ms);
    in_blocks(keys, Fetch{table_.row().bytes(parts), false}, [&](std::size_t i, Place place) {
      std::uint32_t* snapshot = snapshots == nullptr ? nullptr : snapshots + i;
      ages[i] =
          table_.get(place, keys[i], now_ms, max_age_ms, out + i * values, values, snapshot, tally);
    });
    counters_.add(tally);
    return tally.of(Event::kHit);
  }

  // Whole rows; returns how many were written. This version never gives up.
  std::size_t put_many(std::span<const Key> keys, const float* rows, const PutMeta& meta) noexcept {
    const std::size_t values = table_.row().values();
    Tally tally;
    ChangeWindow window(*this);
    in_blocks(keys, Fetch{table_.row().bytes(), true}, [&](std::size_t i, Place place) {
      table_.put(place, keys[i], rows + i * values, meta, tally);
    });
    counters_.add(tally);
    return keys.size();
  }

  std::size_t touch_many(std::span<const Key> keys) noexcept {
    std::size_t found = 0;
    in_blocks(keys, Fetch{0, false},
              [&](std::size_t i, Place place) { found += table_.touch(place, keys[i]) ? 1 : 0; });
    return found;
  }

  std::size_t invalidate_many(std::span<const Key> keys) noexcept {
    Tally tally;
    ChangeWindow window(*this);
    in_blocks(keys, Fetch{0, false},
              [&](std::size_t i, Place place) { table_.invalidate(place, keys[i], tally); });
    counters_.add(tally);
    return tally.of(Event::kInvalidation);
  }

  // Entries from slot number `cursor` on, in the order of slots: an entry never changes its slot.
  ScanStep scan(std::uint64_t cursor, const ScanOut& out) {
    ScanStep step;
    for (std::uint64_t set = cursor / kWays; set < table_.sets(); ++set) {
      const unsigned first = set == cursor / kWays ? static_cast<unsigned>(cursor % kWays) : 0;
      table_.visit_set(set, first, [&](unsigned way, const SlotHeader* slot) {
        if (step.entries == out.room) {
          step.next = set * kWays + way;
          return false;
        }
        copy_entry(*slot, out, step.entries++);
        return true;
      });
      if (step.next != 0) break;
    }
    return step;
  }

  // Sentences about what is broken. The number of entries is compared only when nothing was written
  // or removed meanwhile.
  std::vector<std::string> check() {
    const std::uint64_t ended = changes_ended_.load(std::memory_order_acquire);  // (2)
    const std::uint64_t begun = changes_begun_.load(std::memory_order_relaxed);
    Findings findings = walk(table_);
    const bool is_quiet = ended == begun && begun == changes_begun_.load(std::memory_order_relaxed);
    const std::int64_t counted = counters_.entries();
    if (is_quiet && findings.broken.empty() &&
        counted != static_cast<std::int64_t>(findings.entries)) {
      findings.broken.push_back("counters: " + std::to_string(counted) + " entries counted, " +
                                std::to_string(findings.entries) + " found");
    }
    return std::move(findings.broken);
  }

 private:
  static constexpr std::size_t kBlock = 32;

  // What the second stage fetches: how much of the rows, and whether absent keys will get a slot.
  struct Fetch {
    std::size_t row_bytes;
    bool for_put;
  };

  // Marks a call that changes which entries there are.
  class ChangeWindow {
   public:
    explicit ChangeWindow(Cache& cache) noexcept : cache_(cache) {
      cache_.changes_begun_.fetch_add(1, std::memory_order_relaxed);
    }
    ~ChangeWindow() { cache_.changes_ended_.fetch_add(1, std::memory_order_release); }  // (1)
    ChangeWindow(const ChangeWindow&) = delete;
    ChangeWindow& operator=(const ChangeWindow&) = delete;

   private:
    Cache& cache_;
  };

  template <class Visit>
  void in_blocks(std::span<const Key> keys, Fetch fetch, Visit visit) const noexcept {
    std::array<Place, kBlock> places;
    for (std::size_t start = 0; start < keys.size(); start += kBlock) {
      const std::size_t count = std::min(kBlock, keys.size() - start);
      for (std::size_t i = 0; i < count; ++i) {
        places[i] = table_.place(keys[start + i]);
        table_.prefetch_line(places[i]);
      }
      for (std::size_t i = 0; i < count; ++i) {
        table_.prefetch_slot(places[i], fetch.for_put, fetch.row_bytes);
      }
      for (std::size_t i = 0; i < count; ++i) visit(start + i, places[i]);
    }
  }

  static void copy_entry(const SlotHeader& slot, const ScanOut& out, std::size_t i) noexcept {
    out.keys[i] = slot.key;
    out.written_at_ms[i] = slot.written_at_ms;
    out.snapshots[i] = slot.snapshot;
    out.origins[i] = slot.origin;
  }

  Table table_;
  Counters counters_;
  std::atomic<std::uint64_t> changes_begun_{0};
  std::atomic<std::uint64_t> changes_ended_{0};
};

}  // namespace predawn
