// Puts of the store, lock-free as they are, against the same puts under a lock per set: what the
// promise that no writer ever keeps another waiting costs where nobody competes.
#include <memory>

#include "cache.hpp"

namespace predawn::bench {
namespace {

constexpr std::int64_t kNowMs = 1'000'000;

// cache.md 5.3: a lock in the set's word, one store publishes. Everything else is the store's own.
// Not kill-safe and without a journal: this is the cheapest that a locked writer can be.
PutResult put_locked(const Set& set, const Entry& entry) {
  PutResult result;
  SetLine<Atomics>& line = *set.line;
  std::uint64_t free_word = line.word.load(std::memory_order_relaxed) & ~std::uint64_t{1};
  if (!line.word.compare_exchange_strong(free_word, free_word | 1, std::memory_order_acquire)) {
    return result;
  }
  const Tags tags = load_tags(line);
  const SetWord none;
  const int own = detail::find_way(set, none, tags, entry.key, entry.fingerprint);
  PolicyView view;
  view.tags = tags;
  view.hand = static_cast<unsigned>(free_word >> 32) & 0xfu;
  const auto order_of = [](unsigned) { return 0u; };
  const auto is_expired = [](unsigned) { return false; };
  const Choice choice =
      own < 0 ? choose(view, is_expired, order_of) : Choice{.way = static_cast<unsigned>(own)};
  const std::uint32_t free = detail::free_slots(none, tags);
  const unsigned slot = detail::next_free(free, static_cast<unsigned>(free_word >> 36) & 0xfu);
  const SlotAbout about(entry.fingerprint, entry.stamp, Tag::kDemanded, entry.origin);
  const SlotFields fields =
      fields_of(entry.key, entry.written_at_ms, entry.snapshot, about, entry.scales);
  const std::uint32_t sum = slot_checksum(fields, row_checksum(entry.row, entry.row_bytes));
  detail::fill(set.slot(slot), entry, about, 0, sum);
  const std::uint64_t seq = set.slot(slot)->seq.load(std::memory_order_relaxed);
  line.tags[choice.way].store(about.tag(slot, seq).word(), std::memory_order_release);
  const std::uint64_t kept = std::uint64_t{choice.hand} << 32 | std::uint64_t{slot} << 36;
  line.word.store(kept, std::memory_order_release);
  result.end = own < 0 ? PutEnd::kInserted : PutEnd::kOverwrote;
  return result;
}

class Writer {
 public:
  Writer(std::uint64_t capacity, std::uint32_t dim)
      : cache_(Cache::create("", {capacity, dim, 1}, Seed{1, 2, 3, 4, 5}, kNowMs, CacheOptions{})),
        dim_(dim) {}

  std::uint64_t put(const Key* keys, std::size_t n, const float* rows) {
    return cache_->put_many({keys, n}, rows, {kNowMs, 1, 0});
  }

  // Through the same pipeline as Cache::put_many.
  std::uint64_t put_under_locks(const Key* keys, std::size_t n, const float* rows) {
    const Table& table = cache_->table();
    RowMemory row(table.row().padded_bytes());
    Entry entry;
    entry.row = row.data();
    entry.row_bytes = table.row().padded_bytes();
    entry.written_at_ms = kNowMs;
    std::uint64_t written = 0;
    pipeline(
        table, {keys, n}, {0, n, keys_ahead(entry.row_bytes)},
        [&](Place place) { return table.prefetch_write(place); },
        [&](std::size_t i, Place place, std::uint32_t) {
          table.row().store(rows + i * dim_, row.data(), entry.scales.data());
          entry.key = keys[i];
          entry.fingerprint = place.fingerprint;
          const PutResult result = put_locked(table.set(place.set), entry);
          written += result.end == PutEnd::kBusy ? 0 : 1;
        });
    return written;
  }

 private:
  std::unique_ptr<Cache> cache_;
  std::size_t dim_;
};

}  // namespace
}  // namespace predawn::bench

using predawn::Key;
using predawn::bench::Writer;

// Null when there is no memory for it.
extern "C" void* writer_create(std::uint64_t capacity, std::uint32_t dim) {
  try {
    return new Writer(capacity, dim);
  } catch (const std::exception&) {
    return nullptr;
  }
}
extern "C" std::uint64_t writer_put(void* writer, const Key* keys, std::uint64_t n,
                                    const float* rows) {
  return static_cast<Writer*>(writer)->put(keys, n, rows);
}
extern "C" std::uint64_t writer_put_locked(void* writer, const Key* keys, std::uint64_t n,
                                           const float* rows) {
  return static_cast<Writer*>(writer)->put_under_locks(keys, n, rows);
}
extern "C" void writer_destroy(void* writer) { delete static_cast<Writer*>(writer); }
