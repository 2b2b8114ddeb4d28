// One torturer of a store: reads and verifies, writes, removes, as fast as it can, until it is told
// to stop or killed.
//
// What: `Torturer`.
// When not: choosing who is killed or stopped, and what is looked at afterwards
//   (torture_audit.hpp).
// Functions: `run` returns when the oracle says stop. Several may run in one process or in many, at
//   most one under each number.
// Design: each hit is verified against its row (every lane), its age, snapshot and state, and the
//   oracle's rule. What is wrong goes into the oracle's list; nothing is ever thrown away.
// Memory: 32 KiB. Cost: about 20 ns a hit beyond the store's own.
#pragma once

#include <time.h>

#include <array>
#include <cstdint>
#include <cstdio>
#include <span>
#include <string>
#include <vector>

#include "cache.hpp"
#include "torture_rows.hpp"

namespace predawn::torture {

inline constexpr std::size_t kBatchMost = 256;

[[nodiscard]] inline std::uint64_t clock_ns() noexcept {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000u +
         static_cast<std::uint64_t>(now.tv_nsec);
}

// SplitMix64.
class Random {
 public:
  explicit Random(std::uint64_t seed) noexcept : state_(seed) {}
  [[nodiscard]] std::uint64_t next() noexcept {
    std::uint64_t z = (state_ += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }
  [[nodiscard]] std::uint32_t below(std::uint32_t count) noexcept {
    return static_cast<std::uint32_t>(((next() >> 32) * count) >> 32);
  }
  [[nodiscard]] bool one_in(std::uint32_t count) noexcept {
    return count != 0 && below(count) == 0;
  }

 private:
  std::uint64_t state_;
};

class Torturer {
 public:
  Torturer(Oracle& oracle, Cache& cache, std::uint32_t number, std::uint64_t seed)
      : oracle_(oracle),
        cache_(cache),
        number_(number),
        record_(oracle.workers[number]),
        random_(seed),
        rows_(kBatchMost * kDim) {
    for (std::uint32_t key = 0; key < oracle.plan.keys; ++key) {
      const bool is_own = (key - oracle.plan.shared) % oracle.plan.workers == number;
      if (oracle.is_shared(key) || is_own) own_.push_back(key);
    }
    bury(oracle_, record_);
    record_.attachment.store(cache.segment().attachment() + 1, std::memory_order_release);
  }

  void run() {
    while (oracle_.stop.load(std::memory_order_relaxed) == 0) {
      round();
      record_.beats.fetch_add(1, std::memory_order_relaxed);
    }
    record_.attachment.store(0, std::memory_order_release);
  }

  // Reads keys at random, once.
  void read_some() {
    const std::uint32_t count = oracle_.plan.read_keys;
    for (std::uint32_t i = 0; i < count; ++i) chosen_[i] = random_.below(oracle_.plan.keys);
    read(std::span(chosen_).first(count));
  }

  // Returns how many of these keys are there; each verified.
  std::size_t read(std::span<const std::uint32_t> chosen) {
    const std::uint32_t floor = oracle_.floor.load(std::memory_order_acquire);
    for (std::size_t i = 0; i < chosen.size(); ++i) {
      keys_[i] = oracle_.key(chosen[i]);
      floors_[i] = floor_of(oracle_.keys[chosen[i]]);
    }
    GetRequest request;
    request.keys = std::span(keys_).first(chosen.size());
    request.now_ms = kNowMs;
    request.max_age_ms = oracle_.plan.expires != 0 ? kNowMs / 2 : kNowMs;
    request.fresh_ms = kNowMs / 4 * 3;
    request.out = rows_.data();
    request.ages = ages_.data();
    request.snapshots = snapshots_.data();
    request.states = states_.data();
    cache_.get_many(request);
    std::size_t found = 0;
    for (std::size_t i = 0; i < chosen.size(); ++i) {
      if (ages_[i] < 0) continue;
      ++found;
      verify(chosen[i], i, floor);
    }
    record_.reads.fetch_add(found, std::memory_order_relaxed);
    record_.misses.fetch_add(chosen.size() - found, std::memory_order_relaxed);
    return found;
  }

 private:
  void round() {
    const std::uint64_t begin = clock_ns();
    std::uint64_t last = begin;
    const auto lap = [&] {
      const std::uint64_t now = clock_ns();
      raise_to(record_.longest_batch_ns, now - last);
      last = now;
    };
    for (std::uint32_t i = 0; i < oracle_.plan.reads_per_put; ++i) {
      read_some();
      lap();
    }
    random_.one_in(oracle_.plan.removes_in) ? remove() : put();
    lap();
    if (random_.one_in(32)) scan();
    if (random_.one_in(64)) touch();
    if (random_.one_in(256)) count_given_up();
    if (random_.one_in(512)) (void)cache_.reap();
    if (random_.one_in(4096)) check();
    if (random_.one_in(oracle_.plan.floors_in)) raise_floor();
    pause(oracle_.plan.pause_us);
  }

  void verify(std::uint32_t key, std::size_t i, std::uint32_t floor_epoch) {
    const RowRead row = read_row(rows_.data() + i * kDim);
    const Written& written = row.written;
    const std::uint8_t state = ages_[i] <= kNowMs / 4 * 3 ? 3 : 2;
    if (row.odd_one != 0) return report(Wrong::kTorn, key, written, floors_[i], row.odd_one);
    if (written.key != key) return report(Wrong::kWrongKey, key, written, floors_[i], 0);
    if (ages_[i] != kNowMs - written.at_ms || snapshots_[i] != written.epoch ||
        states_[i] != state) {
      return report(Wrong::kTorn, key, written, floors_[i],
                    static_cast<std::uint64_t>(kNowMs - ages_[i]));
    }
    if (written.epoch < floor_epoch) {
      return report(Wrong::kOlderThanSeen, key, written, floors_[i], floor_epoch);
    }
    judge(key, written, floors_[i]);
  }

  void judge(std::uint32_t key, const Written& written, Stamp floor) {
    const Verdict verdict = judge_hit(oracle_, key, written.stamp, floor);
    KeyHistory& history = oracle_.keys[key];
    switch (verdict) {
      case Verdict::kUndecided:
        record_.undecided.fetch_add(1, std::memory_order_relaxed);
        [[fallthrough]];
      case Verdict::kRight:
        return note_seen(history, written.stamp);
      case Verdict::kOlder:
        return report(Wrong::kOlderThanSeen, key, written, floor, history.clock.load());
      case Verdict::kUnpublished:
        return report(Wrong::kUnpublished, key, written, floor, history.clock.load());
    }
  }

  void report(Wrong wrong, std::uint32_t key, const Written& written, std::uint64_t floor,
              std::uint64_t other) {
    const Place place = cache_.table().place(oracle_.key(key));
    oracle_.report(
        {wrong, number_, key, place.fingerprint, place.set, written.value(), floor, other});
  }

  void put() {
    const std::uint32_t count = random_.one_in(4) ? 1 : oracle_.plan.put_keys;
    const std::uint32_t epoch = oracle_.epoch.load(std::memory_order_relaxed);
    const auto at_ms = static_cast<std::int64_t>(random_.next() >> 24);
    for (std::uint32_t i = 0; i < count; ++i) {
      const std::uint32_t key = chosen_[i] =
          own_[random_.below(static_cast<std::uint32_t>(own_.size()))];
      keys_[i] = oracle_.key(key);
      stamps_[i] = begin_change(oracle_, record_, key, i);
      make_row({key, epoch, stamps_[i], at_ms}, rows_.data() + i * kDim);
    }
    const PutMeta meta{at_ms, epoch, static_cast<std::uint8_t>(at_ms & 1)};
    const std::size_t done = cache_.put_many(std::span(keys_).first(count), rows_.data(), meta);
    const bool is_known = done == count || done == 0;
    for (std::uint32_t i = 0; i < count; ++i) {
      end_change(oracle_, record_, chosen_[i], i, stamps_[i], is_known, done != 0);
    }
    record_.puts.fetch_add(done, std::memory_order_relaxed);
    if (done != count) count_given_up();
  }

  void remove() {
    const std::uint32_t key = own_[random_.below(static_cast<std::uint32_t>(own_.size()))];
    const std::uint64_t busy = cache_.counters().read(Event::kRemoveBusy);
    const Stamp stamp = begin_change(oracle_, record_, key, 0);
    keys_[0] = oracle_.key(key);
    cache_.invalidate_many(std::span(keys_).first(1));
    const bool is_done = cache_.counters().read(Event::kRemoveBusy) == busy;
    end_change(oracle_, record_, key, 0, stamp, is_done, is_done);
    record_.removals.fetch_add(1, std::memory_order_relaxed);
  }

  void touch() {
    for (std::size_t i = 0; i < 32; ++i) keys_[i] = oracle_.key(random_.below(oracle_.plan.keys));
    cache_.touch_many(std::span(keys_).first(32));
  }

  // Entries as they lie there. Which key comes is not known before, so only what can be said of
  // any.
  void scan() {
    std::array<std::int64_t, kScan> written_at;
    std::array<std::uint8_t, kScan> origins;
    const std::uint32_t floor = oracle_.floor.load(std::memory_order_acquire);
    const ScanStep step = cache_.scan(cursor_, {keys_.data(), written_at.data(), snapshots_.data(),
                                                origins.data(), rows_.data(), kScan});
    cursor_ = step.next;
    for (std::size_t i = 0; i < step.entries; ++i) {
      const RowRead row = read_row(rows_.data() + i * kDim);
      const Written& written = row.written;
      const bool is_torn = row.odd_one != 0 || written_at[i] != written.at_ms ||
                           snapshots_[i] != written.epoch || origins[i] != written.origin();
      if (is_torn) report(Wrong::kTorn, 0, written, 0, row.odd_one);
      if (is_torn || written.key == kProbe) continue;
      if (written.key >= oracle_.plan.keys || !(oracle_.key(written.key) == keys_[i])) {
        report(Wrong::kWrongKey, 0, written, 0, keys_[i].lo);
        continue;
      }
      if (written.epoch < floor) report(Wrong::kOlderThanSeen, written.key, written, 0, floor);
      judge(written.key, written, 0);
    }
    record_.scanned.fetch_add(step.entries, std::memory_order_relaxed);
  }

  void check() {
    for (const std::string& sentence : cache_.check()) {
      std::fprintf(stderr, "torturer %u: %s\n", number_, sentence.c_str());
      oracle_.report({Wrong::kBroken, number_, 0, 0, 0, 0, 0, 0});
    }
  }

  void raise_floor() {
    const std::uint32_t epoch = oracle_.epoch.fetch_add(1, std::memory_order_acq_rel) + 1;
    cache_.invalidate_before(epoch);
    raise_to(oracle_.floor, epoch);
  }

  void count_given_up() {
    const auto add = [&](Event event, std::uint64_t& before, std::atomic<std::uint64_t>& total) {
      const std::uint64_t now = cache_.counters().read(event);
      total.fetch_add(now - before, std::memory_order_relaxed);
      before = now;
    };
    add(Event::kPutBusy, counted_[0], record_.put_busy);
    add(Event::kPutNoSlot, counted_[1], record_.put_no_slot);
    add(Event::kPutNoJournal, counted_[2], record_.put_no_journal);
    add(Event::kRemovedForSlot, counted_[3], record_.ways_lost);
  }

  static void pause(std::uint32_t us) noexcept {
    if (us == 0) return;
    const timespec length{0, static_cast<long>(us) * 1000};
    ::nanosleep(&length, nullptr);
  }

  static constexpr std::size_t kScan = 64;

  Oracle& oracle_;
  Cache& cache_;
  std::uint32_t number_;
  WorkerRecord& record_;
  Random random_;
  std::vector<std::uint32_t> own_;  // keys that it may write
  std::vector<float> rows_;
  std::array<std::uint32_t, kBatchMost> chosen_{};
  std::array<Key, kBatchMost> keys_{};
  std::array<Stamp, kBatchMost> floors_{};
  std::array<Stamp, kUnderWay> stamps_{};
  std::array<std::int64_t, kBatchMost> ages_{};
  std::array<std::uint32_t, kBatchMost> snapshots_{};
  std::array<std::uint8_t, kBatchMost> states_{};
  std::array<std::uint64_t, 4> counted_{};
  std::uint64_t cursor_ = 0;
};

}  // namespace predawn::torture
