// A table: sets of 16 ways over one mapping, and what can be done to one key in its set.
//
// What: `TableShape`, `TableHeader` (what a mapping says about itself), `Table`.
// When not: batches, counters (cache.hpp).
// Functions: `place`, the prefetches; `get`, `put`, `touch`, `invalidate`, `visit_set`: each takes
//   the lock of the one set it works in, so no operation holds two.
// Design: header | set lines | slots, all by offset from the start. A key lives in one set only, in
//   any way of it, under at most one way. An entry keeps its way until it is removed. Room is made
//   in the order: empty way; expired entry, least recently used first; least recently used entry.
//   The store knows no time to live: "expired" is older than the longest age that any reader has
//   accepted so far, and nothing before the first read.
// Memory: 64 bytes + 16 slots a set; nothing is allocated after construction.
// Cost: one lock (exchange, store) and two random places in memory a key.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <mutex>

#include "arena.hpp"
#include "counters.hpp"
#include "rows.hpp"
#include "set_line.hpp"
#include "slot.hpp"

namespace predawn {

enum class IdKind : std::uint8_t { kInteger = 0, kString = 1 };

struct TableShape {
  std::uint64_t capacity = 0;  // entries at least
  std::uint32_t dim = 0;
  std::uint32_t parts = 0;
  Dtype dtype = Dtype::kFp16;
  IdKind id_kind = IdKind::kInteger;
};

// 16 bytes choose sets, 16 bytes key the hash of string ids.
using Seed = std::array<std::uint8_t, 32>;

struct TableHeader {
  static constexpr std::uint64_t kMagic = 0x65726f74732d6470u;  // "pd-store"
  static constexpr std::uint32_t kFormat = 1;

  std::uint64_t magic;
  std::uint32_t format;
  std::uint32_t ways;
  std::uint64_t sets;
  std::uint32_t dim;
  std::uint32_t parts;
  Dtype dtype;
  IdKind id_kind;
  std::uint16_t reserved;
  std::uint32_t slot_bytes;
  std::uint64_t lines_at;
  std::uint64_t slots_at;
  Seed seed;
};
static_assert(sizeof(TableHeader) == 88);

struct PutMeta {
  std::int64_t now_ms = 0;
  std::uint32_t snapshot = 0;
  std::uint8_t origin = 0;
};

class Table {
 public:
  static constexpr std::size_t kHeaderBytes = 4096;

  Table(const TableShape& shape, const Seed& seed)
      : row_(shape.dtype, shape.dim, shape.parts),
        sets_((shape.capacity + kWays - 1) / kWays),
        slot_bytes_(slot_bytes(row_.bytes())),
        slots_at_(kHeaderBytes + sets_ * sizeof(SetLine)),
        arena_(slots_at_ + sets_ * kWays * slot_bytes_),
        placer_(sip_key(seed.data()), sets_) {
    *header() = {TableHeader::kMagic,
                 TableHeader::kFormat,
                 kWays,
                 sets_,
                 shape.dim,
                 shape.parts,
                 shape.dtype,
                 shape.id_kind,
                 0,
                 static_cast<std::uint32_t>(slot_bytes_),
                 kHeaderBytes,
                 slots_at_,
                 seed};
  }

  [[nodiscard]] const RowFormat& row() const noexcept { return row_; }
  [[nodiscard]] std::uint64_t sets() const noexcept { return sets_; }
  [[nodiscard]] std::uint64_t slots() const noexcept { return sets_ * kWays; }
  [[nodiscard]] std::size_t bytes() const noexcept { return arena_.bytes(); }
  [[nodiscard]] TableHeader* header() const noexcept {
    return reinterpret_cast<TableHeader*>(arena_.at(0));
  }

  [[nodiscard]] Place place(Key key) const noexcept { return placer_.place(key); }

  void prefetch_line(Place place) const noexcept { __builtin_prefetch(line(place.set), 1); }

  // The slot that this place's key is probably in, or (for a put of a new key) will get.
  void prefetch_slot(Place place, bool for_put, std::size_t row_bytes) const noexcept {
    const SetLine* set = line(place.set);
    const std::uint32_t found = set->matches(place.fingerprint);
    if (found == 0 && !for_put) return;
    const unsigned way =
        found != 0 ? first_way(found) : roomiest_way(set->matches(0), set->order());
    const auto* bytes = reinterpret_cast<const std::byte*>(slot(place.set, way));
    const std::size_t wanted = sizeof(SlotHeader) + std::min(row_bytes, kPrefetchBytes);
    for (std::size_t at = 0; at < wanted; at += kLineBytes) __builtin_prefetch(bytes + at, 1);
  }

  // Copies `count` values of the row to `out` if the entry is there and not older than
  // `max_age_ms`. Returns its age, or -1.
  std::int64_t get(Place place, const Key& key, std::int64_t now_ms, std::int64_t max_age_ms,
                   float* out, std::size_t count, std::uint32_t* snapshot, Tally& tally) noexcept {
    SetLine* set = line(place.set);
    const std::lock_guard guard(set->lock());
    const int way = find(set, place, key);
    if (way < 0) return tally.count(Event::kMiss), -1;
    const SlotHeader* held = slot(place.set, static_cast<unsigned>(way));
    const std::int64_t age = age_ms(held->written_at_ms, now_ms);
    if (age > max_age_ms) return tally.count(Event::kExpired), -1;
    row_.load(row_of(held), out, count);
    if (snapshot != nullptr) *snapshot = held->snapshot;
    set->mark_used(static_cast<unsigned>(way));
    tally.count(Event::kHit);
    return age;
  }

  // Writes the whole row, making room if need be.
  void put(Place place, const Key& key, const float* row, const PutMeta& meta,
           Tally& tally) noexcept {
    SetLine* set = line(place.set);
    const std::lock_guard guard(set->lock());
    const int found = find(set, place, key);
    const unsigned way =
        found >= 0 ? static_cast<unsigned>(found) : make_room(set, place.set, meta.now_ms, tally);
    SlotHeader* held = slot(place.set, way);
    *held = {key, meta.now_ms, meta.snapshot, meta.origin, {}};
    row_.store(row, row_of(held), row_.values());
    set->set_fingerprint(way, place.fingerprint);
    set->mark_used(way);
    tally.count(found >= 0 ? Event::kOverwrite : Event::kInsert);
  }

  bool touch(Place place, const Key& key) noexcept {
    SetLine* set = line(place.set);
    const std::lock_guard guard(set->lock());
    const int way = find(set, place, key);
    if (way >= 0) set->mark_used(static_cast<unsigned>(way));
    return way >= 0;
  }

  bool invalidate(Place place, const Key& key, Tally& tally) noexcept {
    SetLine* set = line(place.set);
    const std::lock_guard guard(set->lock());
    const int way = find(set, place, key);
    if (way < 0) return false;
    set->set_fingerprint(static_cast<unsigned>(way), 0);
    tally.count(Event::kInvalidation);
    return true;
  }

  // Calls visit(way, slot) for the entries of a set from way `first` on, in order of ways, under
  // the lock; stops when it returns false.
  template <class Visit>
  void visit_set(std::uint64_t set_index, unsigned first, Visit visit) {
    SetLine* set = line(set_index);
    if (set->matches(0) == kAllWays) return;
    const std::lock_guard guard(set->lock());
    const std::uint32_t empty = set->matches(0);
    for (unsigned way = first; way < kWays; ++way) {
      if (((empty >> way) & 1u) != 0) continue;
      if (!visit(way, static_cast<const SlotHeader*>(slot(set_index, way)))) return;
    }
  }

  // A reader accepts ages up to this; it decides which entries count as expired for eviction.
  void accept_age(std::int64_t max_age_ms) noexcept {
    std::int64_t longest = longest_age_ms_.load(std::memory_order_relaxed);
    while (max_age_ms > longest &&
           !longest_age_ms_.compare_exchange_weak(longest, max_age_ms, std::memory_order_relaxed)) {
    }
  }

  [[nodiscard]] SetLine* line(std::uint64_t set) const noexcept {
    return reinterpret_cast<SetLine*>(arena_.at(kHeaderBytes + set * sizeof(SetLine)));
  }

 private:
  static constexpr std::uint32_t kAllWays = (1u << kWays) - 1;
  static constexpr std::size_t kPrefetchBytes = 480;  // the hardware streams longer rows itself
  static constexpr std::int64_t kUnread = -1;

  static unsigned first_way(std::uint32_t mask) noexcept {
    return static_cast<unsigned>(std::countr_zero(mask));
  }
  static unsigned roomiest_way(std::uint32_t empty, WayOrder order) noexcept {
    return empty != 0 ? first_way(empty) : order.way_at(kWays - 1);
  }

  [[nodiscard]] SlotHeader* slot(std::uint64_t set, unsigned way) const noexcept {
    return reinterpret_cast<SlotHeader*>(arena_.at(slots_at_ + (set * kWays + way) * slot_bytes_));
  }

  // The way that holds `key`, or -1. The key is compared whole.
  [[nodiscard]] int find(const SetLine* set, Place place, const Key& key) const noexcept {
    for (std::uint32_t left = set->matches(place.fingerprint); left != 0; left &= left - 1) {
      const unsigned way = first_way(left);
      if (slot(place.set, way)->key == key) return static_cast<int>(way);
    }
    return -1;
  }

  unsigned make_room(const SetLine* set, std::uint64_t set_index, std::int64_t now_ms,
                     Tally& tally) const noexcept {
    const std::uint32_t empty = set->matches(0);
    if (empty != 0) return first_way(empty);
    const WayOrder order = set->order();
    const int expired = least_recent_expired(order, set_index, now_ms);
    tally.count(expired >= 0 ? Event::kEvictedExpired : Event::kEvictedLive);
    return expired >= 0 ? static_cast<unsigned>(expired) : order.way_at(kWays - 1);
  }

  [[nodiscard]] int least_recent_expired(WayOrder order, std::uint64_t set_index,
                                         std::int64_t now_ms) const noexcept {
    const std::int64_t longest = longest_age_ms_.load(std::memory_order_relaxed);
    if (longest == kUnread) return -1;
    for (unsigned rank = kWays; rank-- > 0;) {
      const unsigned way = order.way_at(rank);
      if (age_ms(slot(set_index, way)->written_at_ms, now_ms) > longest) {
        return static_cast<int>(way);
      }
    }
    return -1;
  }

  RowFormat row_;
  std::uint64_t sets_;
  std::size_t slot_bytes_;
  std::size_t slots_at_;
  Arena arena_;
  Placer placer_;
  std::atomic<std::int64_t> longest_age_ms_{kUnread};
};

}  // namespace predawn
