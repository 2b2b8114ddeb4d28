// The journal lines of one attachment, lent to its writing threads.
//
// What: `JournalPool`, `JournalLease` (a line for as long as it lives, or nothing when all are
//   taken).
// When not: what a line says (journal.hpp), taking claims back from the dead (reap.hpp).
// Functions: `lease`, `clear_dead` and the end of a lease are safe from any thread; `bind` and
//   `give_back` while nobody has a lease.
// Design: a line once taken stays this attachment's until `give_back`; a thread finds its last one
//   first. What was lent before `bind` (in a parent, before fork) is not given back afterwards.
//   (1) owner.compare_exchange(acq_rel): who takes a line sees its last owner's end, and every
//       generation is taken once. `state.writers` is raised before and lowered after, so a writer
//       killed in between makes it too high, never too low.
//   (2) lent_[i]: exchange(acquire) / store(release) hand a line from thread to thread.
// Memory: 256 bytes beside the shared lines. Cost: one exchange and one store a lease.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <utility>

#include "header.hpp"

namespace predawn {

class JournalPool;

class JournalLease {
 public:
  JournalLease() noexcept = default;
  JournalLease(JournalPool* pool, std::size_t index, std::uint16_t generation,
               std::uint32_t era) noexcept
      : pool_(pool), index_(index), era_(era), generation_(generation) {}
  ~JournalLease();
  JournalLease(JournalLease&& other) noexcept
      : pool_(std::exchange(other.pool_, nullptr)),
        index_(other.index_),
        era_(other.era_),
        generation_(other.generation_) {}
  JournalLease& operator=(JournalLease&&) = delete;

  explicit operator bool() const noexcept { return pool_ != nullptr; }
  [[nodiscard]] std::size_t index() const noexcept { return index_; }
  [[nodiscard]] std::uint16_t generation() const noexcept { return generation_; }
  [[nodiscard]] JournalLine<Atomics>* line() const noexcept;

 private:
  JournalPool* pool_ = nullptr;
  std::size_t index_ = 0;
  std::uint32_t era_ = 0;
  std::uint16_t generation_ = 0;
};

class JournalPool {
 public:
  JournalPool(JournalLine<Atomics>* lines, SharedState* state) noexcept
      : lines_(lines), state_(state) {}

  // The lines that are taken from now on belong to this attachment.
  void bind(std::uint32_t attachment) noexcept {
    attachment_ = attachment;
    era_.fetch_add(1, std::memory_order_relaxed);
    for (auto& lent : lent_) lent.store(kForeign, std::memory_order_relaxed);
  }

  [[nodiscard]] JournalLease lease() noexcept {
    const std::size_t start = first_of_thread();
    for (std::size_t i = 0; i < kJournalLines; ++i) {
      const std::size_t at = (start + i) % kJournalLines;
      std::uint8_t expected = kIdle;
      if (lent_[at].load(std::memory_order_relaxed) == kIdle &&
          lent_[at].compare_exchange_strong(expected, kLent, std::memory_order_acquire)) {  // (2)
        return lent(at);
      }
    }
    for (std::size_t i = 0; i < kJournalLines; ++i) {
      const std::size_t at = (start + i) % kJournalLines;
      if (take(at)) return lent(at);
    }
    return {};
  }

  // All lines become free. Claims that are under way stay noted, for a reaper.
  void give_back() noexcept {
    for (std::size_t at = 0; at < kJournalLines; ++at) {
      if (lent_[at].exchange(kForeign, std::memory_order_acquire) == kForeign) continue;
      const OwnerNote owner(lines_[at].owner.load(std::memory_order_relaxed));
      const ClaimNote claim(lines_[at].claim.load(std::memory_order_relaxed));
      const bool is_own = owner.used() && owner.attachment() == attachment_;
      if (is_own && !claim.active()) free(at, owner);
    }
  }

  // Frees the lines of a dead attachment that note no claim. True: it has none left. Whether it is
  // dead is asked after each look at a line: its id may have a living owner by then.
  template <class IsDead>
  bool clear_dead(std::uint32_t attachment, IsDead&& is_dead) noexcept {
    bool is_clear = true;
    for (std::size_t at = 0; at < kJournalLines; ++at) {
      const OwnerNote owner(lines_[at].owner.load(std::memory_order_acquire));
      if (!owner.used() || owner.attachment() != attachment) continue;
      const ClaimNote claim(lines_[at].claim.load(std::memory_order_acquire));
      if (claim.active() || !is_dead()) {
        is_clear = false;
      } else {
        free(at, owner);
      }
    }
    return is_clear;
  }

  // Nobody is attached but the caller, and no claim counts any more.
  void reset() noexcept {
    for (std::size_t at = 0; at < kJournalLines; ++at) {
      const OwnerNote owner(lines_[at].owner.load(std::memory_order_relaxed));
      lines_[at].owner.store(OwnerNote(0, owner.generation(), false).word(),
                             std::memory_order_relaxed);
      lines_[at].claim.store(ClaimNote::none(owner.generation()).word(), std::memory_order_relaxed);
    }
    state_->writers.store(0, std::memory_order_relaxed);
  }

  [[nodiscard]] bool has_claims() const noexcept {
    for (std::size_t at = 0; at < kJournalLines; ++at) {
      if (ClaimNote(lines_[at].claim.load(std::memory_order_acquire)).active()) return true;
    }
    return false;
  }

 private:
  friend class JournalLease;
  enum : std::uint8_t { kForeign, kIdle, kLent };

  // Threads start their search at different lines.
  [[nodiscard]] static std::size_t first_of_thread() noexcept {
    static std::atomic<std::size_t> threads{0};
    thread_local const std::size_t first = threads.fetch_add(1, std::memory_order_relaxed);
    return first % kJournalLines;
  }

  [[nodiscard]] bool take(std::size_t at) noexcept {
    std::uint32_t word = lines_[at].owner.load(std::memory_order_relaxed);
    const OwnerNote owner(word);
    if (owner.used()) return false;
    const auto generation = static_cast<std::uint16_t>(owner.generation() + 1);
    state_->writers.fetch_add(1, std::memory_order_relaxed);
    const OwnerNote own(attachment_, generation, true);
    if (!lines_[at].owner.compare_exchange_strong(word, own.word(),
                                                  std::memory_order_acq_rel)) {  // (1)
      state_->writers.fetch_sub(1, std::memory_order_relaxed);
      return false;
    }
    lines_[at].claim.store(ClaimNote::none(generation).word(), std::memory_order_release);
    lent_[at].store(kLent, std::memory_order_relaxed);
    return true;
  }

  [[nodiscard]] JournalLease lent(std::size_t at) noexcept {
    const OwnerNote owner(lines_[at].owner.load(std::memory_order_relaxed));
    return {this, at, owner.generation(), era_.load(std::memory_order_relaxed)};
  }

  void free(std::size_t at, OwnerNote owner) noexcept {
    std::uint32_t word = owner.word();
    const OwnerNote nobody(0, owner.generation(), false);
    if (lines_[at].owner.compare_exchange_strong(word, nobody.word(),
                                                 std::memory_order_acq_rel)) {  // (1)
      state_->writers.fetch_sub(1, std::memory_order_relaxed);
    }
  }

  void end_lease(std::size_t at, std::uint32_t era) noexcept {
    if (era == era_.load(std::memory_order_relaxed)) {
      lent_[at].store(kIdle, std::memory_order_release);  // (2)
    }
  }

  JournalLine<Atomics>* lines_;
  SharedState* state_;
  std::uint32_t attachment_ = 0;
  std::atomic<std::uint32_t> era_{0};
  std::array<std::atomic<std::uint8_t>, kJournalLines> lent_{};
};

inline JournalLease::~JournalLease() {
  if (pool_ != nullptr) pool_->end_lease(index_, era_);
}
inline JournalLine<Atomics>* JournalLease::line() const noexcept { return pool_->lines_ + index_; }

}  // namespace predawn
