// The store as its callers see it: batches of keys over one table, and what they added up to.
//
// What: `Cache`: create, attach; get_many, put_many, touch_many, invalidate_many,
// invalidate_before,
//   scan, check, reap, close.
// When not: single keys (a batch of one is the way), checking of arguments (bindings_cache.cpp).
// Functions: safe from any thread of any process; buffers belong to the caller and are not kept.
// Design: batches go through batch.hpp's pipeline. Each key is atomic by itself, a batch is not.
// Keys
//   may repeat; they are worked in order, unless worker threads share a batch of thousands.
// Memory: the mapping, 80 KiB, and a row on the stack. Cost: table.hpp's, memory asked for ahead; a
//   handful of relaxed additions a call.
//   (1) release in ChangeWindow's end pairs with (2) acquire in `check`: a walk without any change
//   meanwhile sees the counts of every finished change.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "batch.hpp"
#include "check.hpp"
#include "reap.hpp"
#include "recovery.hpp"
#include "segment.hpp"
#include "table.hpp"
#include "worker_pool.hpp"

namespace predawn {

struct CacheOptions {
  bool huge_pages = true;
  unsigned threads = 1;  // that share a batch of thousands, the caller included
  std::int64_t attach_timeout_ms = 5000;
};

struct GetRequest {
  std::span<const Key> keys;
  std::int64_t now_ms = 0;
  std::int64_t max_age_ms = 0;
  std::int64_t fresh_ms = 0;
  std::uint32_t parts = 1;
  float* out = nullptr;                // [n, parts * dim]
  std::int64_t* ages = nullptr;        // [n], -1: absent or too old, row untouched
  std::uint32_t* snapshots = nullptr;  // [n] or null
  std::uint8_t* states = nullptr;      // [n] or null
};

struct PutMeta {
  std::int64_t now_ms = 0;
  std::uint32_t snapshot = 0;
  std::uint8_t origin = 0;
};

struct ScanOut {
  Key* keys;
  std::int64_t* written_at_ms;
  std::uint32_t* snapshots;
  std::uint8_t* origins;
  float* rows;  // [room, parts * dim] or null
  std::size_t room;
};

struct ScanStep {
  std::size_t entries = 0;
  std::uint64_t next = 0;  // 0: the end
};

class Cache {
 public:
  // At `path`, which must not exist yet; in memory of its own where it is empty.
  static std::unique_ptr<Cache> create(const std::string& path, const TableShape& shape,
                                       const Seed& seed, std::int64_t now_ms,
                                       const CacheOptions& options) {
    return std::unique_ptr<Cache>(
        new Cache(Segment::create(path, shape, seed, now_ms, segment_options(options)), options));
  }

  static std::unique_ptr<Cache> attach(const std::string& path, const CacheOptions& options) {
    return std::unique_ptr<Cache>(
        new Cache(Segment::attach(path, segment_options(options)), options));
  }

  [[nodiscard]] const Table& table() const noexcept { return table_; }
  [[nodiscard]] const TableHeader& header() const noexcept { return segment_.header(); }
  [[nodiscard]] const Segment& segment() const noexcept { return segment_; }
  [[nodiscard]] const Counters& counters() const noexcept { return counters_; }
  [[nodiscard]] const Samples& samples() const noexcept { return samples_; }
  [[nodiscard]] const Recovered& recovered() const noexcept { return recovered_; }
  // Mapped in huge pages when this object was made.
  [[nodiscard]] std::uint64_t huge_bytes() const noexcept { return huge_bytes_; }

  [[nodiscard]] Key key_of_string(const void* text, std::size_t size) const noexcept {
    const SipKey secret = sip_key(header().seed.data() + sizeof(SipKey));
    const Hash128 hash = siphash128(secret, text, size);
    return {hash.lo, hash.hi};
  }

  // Returns the number found.
  std::size_t get_many(const GetRequest& request) {
    table_.accept_age(request.max_age_ms);
    const ReadRules rules =
        table_.read_rules(request.now_ms, request.max_age_ms, request.fresh_ms, request.parts);
    std::atomic<std::size_t> found{0};
    workers_.run(request.keys.size(), kGrain, [&](std::size_t begin, std::size_t end) noexcept {
      found.fetch_add(get_range(request, rules, begin, end), std::memory_order_relaxed);
    });
    return found.load(std::memory_order_relaxed);
  }

  // Whole rows; returns how many were written. What was given up is counted by reason.
  std::size_t put_many(std::span<const Key> keys, const float* rows, const PutMeta& meta) {
    Tally tally;
    const ChangeWindow window(*this);
    const JournalLease lease = segment_.lease();
    if (lease) {
      put_all(keys, rows, table_.write_rules(meta.now_ms, meta.snapshot, meta.origin), lease,
              tally);
    } else {
      tally.count(Event::kPutNoJournal, keys.size());
    }
    counters_.add(tally);
    if (tally.of(Event::kRemovedForSlot) + tally.of(Event::kPutNoSlot) +
            tally.of(Event::kPutNoJournal) !=
        0) {
      reap();
    }
    return tally.written();
  }

  std::size_t touch_many(std::span<const Key> keys) noexcept {
    std::size_t found = 0;
    const std::uint32_t floor = table_.state().snapshot_floor.load(std::memory_order_relaxed);
    pipeline(
        table_, keys, {0, keys.size(), kAheadMost},
        [&](Place place) { return table_.prefetch_read(place, 0); },
        [&](std::size_t i, Place place, std::uint32_t) {
          found += table_.touch(place, keys[i], floor) ? 1 : 0;
        });
    return found;
  }

  std::size_t invalidate_many(std::span<const Key> keys) noexcept {
    Tally tally;
    const ChangeWindow window(*this);
    const unsigned budget = table_.budget();
    pipeline(
        table_, keys, {0, keys.size(), kAheadMost},
        [&](Place place) { return table_.prefetch_read(place, 0); },
        [&](std::size_t i, Place place, std::uint32_t) {
          const RemoveEnd end = table_.invalidate(place, keys[i], budget);
          if (end == RemoveEnd::kRemoved) tally.count(Event::kInvalidation);
          if (end == RemoveEnd::kBusy) tally.count(Event::kRemoveBusy);
        });
    counters_.add(tally);
    return tally.of(Event::kInvalidation);
  }

  // Entries of snapshots before `snapshot` count as absent from now on, for all users of the store.
  void invalidate_before(std::uint32_t snapshot) noexcept {
    std::atomic<std::uint32_t>& floor = table_.state().snapshot_floor;
    std::uint32_t held = floor.load(std::memory_order_relaxed);
    while (snapshot > held &&
           !floor.compare_exchange_weak(held, snapshot, std::memory_order_relaxed)) {
    }
  }

  // Entries from way number `cursor` on, in the order of ways: an entry keeps its way.
  ScanStep scan(std::uint64_t cursor, const ScanOut& out) {
    ScanStep step;
    const std::uint32_t floor = table_.state().snapshot_floor.load(std::memory_order_relaxed);
    const std::size_t values = table_.row().values();
    std::vector<std::byte> bounce(out.rows != nullptr ? whole_row_bytes() : 0);
    for (std::uint64_t at = cursor; at < table_.capacity(); ++at) {
      if (step.entries == out.room) {
        step.next = at;
        break;
      }
      Found found;
      Key key;
      const ReadEnd end = read_patiently(at, bounce, key, found);
      if (end != ReadEnd::kFound || found.snapshot < floor) continue;
      const std::size_t i = step.entries++;
      out.keys[i] = key;
      out.written_at_ms[i] = found.written_at_ms;
      out.snapshots[i] = found.snapshot;
      out.origins[i] = found.about.origin();
      if (out.rows != nullptr) {
        table_.row().load(bounce.data(), found.scales.data(), out.rows + i * values,
                          table_.row().parts());
      }
    }
    return step;
  }

  // Takes back what dead processes held. Returns the number of claims.
  std::size_t reap() {
    JournalLine<Atomics>* lines = segment_.preamble().journal;
    const auto set_at = [&](std::uint64_t set) { return table_.set(set); };
    const auto owner_of = [&](std::size_t line) {
      return OwnerNote(lines[line].owner.load(std::memory_order_acquire));
    };
    const auto is_living = [&](std::size_t line) {
      const OwnerNote owner = owner_of(line);
      return owner.used() && segment_.is_alive(owner.attachment());
    };
    std::size_t released = 0;
    for (std::size_t line = 0; line < kJournalLines; ++line) {
      const OwnerNote owner = owner_of(line);
      if (!owner.used() || segment_.is_alive(owner.attachment())) continue;
      const ReapEnd end = reap_line(lines, kJournalLines, line, set_at, is_living);
      released += end == ReapEnd::kReleased ? 1 : 0;
      segment_.pool().clear_dead(owner.attachment(),
                                 [&] { return !segment_.is_alive(owner.attachment()); });
    }
    table_.state().reaped.fetch_add(released, std::memory_order_relaxed);
    return released;
  }

  // Sentences about what is broken. The number of entries is compared only when nothing was written
  // or removed meanwhile, and nobody else has been here who may have died between a change and its
  // count.
  [[nodiscard]] std::vector<std::string> check() {
    const std::uint64_t ended = changes_ended_.load(std::memory_order_acquire);  // (2)
    const std::uint64_t begun = changes_begun_.load(std::memory_order_relaxed);
    const bool is_alone = table_.state().joined.load(std::memory_order_relaxed) == 1;
    Findings findings = walk(table_, segment_.preamble());
    const bool is_quiet = ended == begun && begun == changes_begun_.load(std::memory_order_relaxed);
    if (is_alone && is_quiet && findings.broken.empty() &&
        entries() != static_cast<std::int64_t>(findings.entries)) {
      findings.broken.push_back("counters: " + std::to_string(entries()) + " entries counted, " +
                                std::to_string(findings.entries) + " found");
    }
    return std::move(findings.broken);
  }

  [[nodiscard]] std::int64_t entries() const noexcept {
    return table_.state().entries.load(std::memory_order_relaxed);
  }
  [[nodiscard]] bool is_open() const noexcept { return is_open_.load(std::memory_order_relaxed); }

  // Calls must have ended. The last user of a file leaves it marked as cleanly closed.
  void close() noexcept {
    if (is_open_.exchange(false, std::memory_order_relaxed)) segment_.close();
  }

 private:
  static constexpr std::size_t kGrain = 2048;
  static constexpr unsigned kScanTries = 64;

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

  static SegmentOptions segment_options(const CacheOptions& options) {
    return {options.huge_pages, options.attach_timeout_ms};
  }

  Cache(Segment segment, const CacheOptions& options)
      : segment_(std::move(segment)),
        table_(segment_.preamble().state, segment_.header(), segment_.at(0)),
        workers_(options.threads) {
    if (segment_.must_recover()) {
      recovered_ = recover(segment_.preamble(), table_);
      segment_.recovered();
    } else {
      reap();
    }
    huge_bytes_ = segment_.huge_bytes();
  }

  // An entry that is overwritten all the time is looked at again and again, up to a point.
  ReadEnd read_patiently(std::uint64_t at, std::vector<std::byte>& bounce, Key& key,
                         Found& found) const noexcept {
    ReadEnd end = ReadEnd::kRaced;
    for (unsigned tries = 0; end == ReadEnd::kRaced && tries < kScanTries; ++tries) {
      end = read_any(table_.set(at / kWays), static_cast<unsigned>(at % kWays), bounce.size(),
                     bounce.empty() ? nullptr : bounce.data(), key, found);
    }
    return end;
  }

  [[nodiscard]] std::size_t whole_row_bytes() const noexcept {
    return table_.row().padded_bytes(table_.row().parts());
  }

  // Compiled once for each instruction set that makes a difference, and whole: a call per key would
  // cost as much as the key.
  std::size_t get_range(const GetRequest& request, const ReadRules& rules, std::size_t begin,
                        std::size_t end) noexcept {
#if defined(__x86_64__)
    if (table_.row().isa() == Isa::kAvx512) return get_range_avx512(request, rules, begin, end);
#endif
    return get_range_by<Isa::kPortable>(request, rules, begin, end);
  }

#if defined(__x86_64__)
  __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq"),
                 flatten)) std::size_t get_range_avx512(const GetRequest& request,
                                                        const ReadRules& rules, std::size_t begin,
                                                        std::size_t end) noexcept {
    return get_range_by<Isa::kAvx512>(request, rules, begin, end);
  }
#endif

  template <Isa kIsa>
  std::size_t get_range_by(const GetRequest& request, const ReadRules& rules, std::size_t begin,
                           std::size_t end) noexcept {
    const std::size_t values = std::size_t{request.parts} * table_.row().dim();
    RowMemory bounce(rules.row_bytes);
    Tally tally;
    MissTally misses;
    pipeline(
        table_, request.keys, {begin, end, keys_ahead(rules.row_bytes)},
        [&](Place place) { return table_.template prefetch_read<kIsa>(place, rules.row_bytes); },
        [&](std::size_t i, Place place, std::uint32_t hint) {
          const ReadOut out{request.out + i * values, request.ages + i,
                            request.snapshots == nullptr ? nullptr : request.snapshots + i,
                            request.states == nullptr ? nullptr : request.states + i};
          const Key& key = request.keys[i];
          const State state =
              table_.template get<kIsa>(place, hint, key, rules, bounce.data(), out, tally);
          if (state == State::kAbsent) misses.count(table_.group_of(place));
          if (Samples::wants(place)) samples_.read(key, place, rules.now_ms, *out.age_ms);
        });
    table_.state().steering.record(misses);
    counters_.add(tally);
    return tally.hits();
  }

  void put_all(std::span<const Key> keys, const float* rows, const WriteRules& rules,
               const JournalLease& lease, Tally& tally) {
    const std::size_t values = table_.row().values();
    RowMemory bounce(whole_row_bytes());
    std::array<float, kScales> scales{};
    pipeline(
        table_, keys, {0, keys.size(), keys_ahead(whole_row_bytes())},
        [&](Place place) { return table_.prefetch_write(place); },
        [&](std::size_t i, Place place, std::uint32_t) {
          table_.row().store(rows + i * values, bounce.data(), scales.data());
          const Log log{lease.line(), lease.generation(), place.set};
          count_put(place, rules, table_.put(place, keys[i], rules, bounce.data(), scales, log),
                    tally);
        });
  }

  void count_put(Place place, const WriteRules& rules, const PutResult& result, Tally& tally) {
    tally.count(Event::kSetReads, result.reads);
    if (result.removed != 0) tally.count(Event::kRemovedForSlot, result.removed);
    switch (result.end) {
      case PutEnd::kInserted:
        tally.count(Event::kInsert);
        break;
      case PutEnd::kOverwrote:
        tally.count(Event::kOverwrite);
        return;
      case PutEnd::kBusy:
        tally.count(Event::kPutBusy);
        return;
      case PutEnd::kNoSlot:
        tally.count(Event::kPutNoSlot);
        return;
    }
    if (!result.victim.valid()) return;
    tally.count(event_of(result.cause));
    if (!Samples::wants(place)) return;
    const auto* slot = table_.set(place.set).slot(result.victim.slot());
    samples_.evicted(age_ms(slot->written_at_ms.load(std::memory_order_relaxed), rules.now_ms));
  }

  Segment segment_;
  Table table_;
  Counters counters_;
  Samples samples_;
  WorkerPool workers_;
  Recovered recovered_;
  std::uint64_t huge_bytes_ = 0;
  std::atomic<bool> is_open_{true};
  std::atomic<std::uint64_t> changes_begun_{0};
  std::atomic<std::uint64_t> changes_ended_{0};
};

}  // namespace predawn
