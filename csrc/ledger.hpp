// What became of every pair that was computed ahead.
//
// What: `Ledger`: pairs of a user and an item, from `issue` (given to the engine) over `land`
//   (readable) to exactly one end: used, wasted, evicted, failed, void, replaced or forgotten.
// When not: the embeddings themselves (cache.hpp), or a ledger shared by threads.
// Functions: one batch of one user a call; instants are milliseconds of one clock, and a clock that
//   goes back is taken for standing still.
// Design: counts over a bounded set of open pairs (open_pairs.hpp). A full one forgets the oldest.
//   An end closes the pair: what is read again later is no longer an account of its computing.
// Memory: 100 to 150 bytes an open pair, touched as it is used. Cost: 10 to 60 ns a pair; 1 ns a
//   pair that is asked for by a user who has none open.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "open_pairs.hpp"

namespace predawn {

enum class Outcome : std::uint8_t {
  kUsed = 0,  // read by a request after it had landed
  kWasted,    // its ttl passed, nobody had read it
  kEvicted,   // gone from the store before anybody read it
  kFailed,    // not computed, or not fit to be kept
  kVoid,      // its user was invalidated meanwhile
  kReplaced,  // issued again before its end
  kForgotten  // the ledger was full
};

class Ledger {
 public:
  static constexpr std::size_t kOrigins = 4;
  static constexpr std::size_t kOutcomes = 7;
  static constexpr std::size_t kSources = 16;
  static constexpr std::uint8_t kDirect = 0;
  using PerOrigin = std::array<std::uint64_t, kOrigins>;
  using Outcomes = std::array<std::array<std::uint64_t, kOutcomes>, kOrigins>;
  using PerSource = std::array<std::uint64_t, kSources>;

  // capacity: open pairs; seed: secret, of the index.
  Ledger(std::size_t capacity, std::int64_t ttl_ms, std::uint64_t seed)
      : ttl_ms_(ttl_ms), pairs_(capacity, seed) {}

  void issue(LedgerUser user, std::span<const std::uint64_t> items,
             std::span<const std::uint8_t> origins, std::int64_t now_ms) {
    advance(now_ms);
    for (std::size_t i = 0; i < items.size(); ++i) {
      const std::uint32_t known = pairs_.find(pairs_.find(user), items[i]);
      if (known != OpenPairs::kNone) end(known, Outcome::kReplaced);
      if (pairs_.is_full()) end(pairs_.oldest(), Outcome::kForgotten);
      pairs_.open(user, items[i], origins[i], now_ms_);
      ++issued_[origins[i]];
    }
  }

  // How many were open and had not landed.
  std::size_t land(LedgerUser user, std::span<const std::uint64_t> items, std::int64_t now_ms) {
    advance(now_ms);
    std::size_t count = 0;
    pairs_.each(pairs_.find(user), items, [&](std::size_t, std::uint32_t at) {
      if (pairs_.pair(at).has_landed) return;
      pairs_.land(at, now_ms_);
      ++landed_[pairs_.pair(at).origin];
      ++count;
    });
    return count;
  }

  // How many were open and had not landed.
  std::size_t fail(LedgerUser user, std::span<const std::uint64_t> items, std::int64_t now_ms) {
    advance(now_ms);
    std::size_t count = 0;
    pairs_.each(pairs_.find(user), items, [&](std::size_t, std::uint32_t at) {
      if (pairs_.pair(at).has_landed) return;
      end(at, Outcome::kFailed);
      ++count;
    });
    return count;
  }

  // A request has read `items` between `read_ms` and now, each from its source. Returns of how many
  // open pairs that was the first use; the first so many of `lead_ms` (since issued) and `age_ms`
  // (since landed) are theirs.
  std::size_t ask(LedgerUser user, std::span<const std::uint64_t> items,
                  std::span<const std::uint8_t> sources, std::int64_t read_ms, std::int64_t now_ms,
                  std::span<std::int64_t> lead_ms, std::span<std::int64_t> age_ms) {
    advance(now_ms);
    for (const std::uint8_t source : sources) ++asked_[source];
    std::size_t used = 0;
    pairs_.each(pairs_.find(user), items, [&](std::size_t i, std::uint32_t at) {
      const OpenPairs::Pair& pair = pairs_.pair(at);
      if (!pair.has_landed) {
        late_ += sources[i] != kDirect;
      } else if (sources[i] == kDirect) {
        lead_ms[used] = now_ms_ - pair.issued_ms;
        age_ms[used++] = now_ms_ - pair.instant_ms;
        end(at, Outcome::kUsed);
      } else if (is_due(pair)) {
        end(at, Outcome::kWasted);
      } else if (pair.instant_ms < read_ms) {  // else it may have landed after the request's read
        end(at, Outcome::kEvicted);
      }
    });
    return used;
  }

  // Ends all open pairs of a user; how many.
  std::size_t invalidate(LedgerUser user) {
    due_ = 0;
    const std::uint32_t of = pairs_.find(user);
    const std::size_t count = of == OpenPairs::kNone ? 0 : pairs_.user(of).pairs;
    for (std::size_t i = 0; i < count; ++i) end(pairs_.user(of).first, Outcome::kVoid);
    return count;
  }

  // Pairs whose ttl has passed unread, oldest first, as many as there is room for; `settle` has to
  // follow before anything else. What was never landed has failed by then, without a word.
  std::size_t due(std::int64_t now_ms, std::span<std::uint64_t> users,
                  std::span<std::uint8_t> kinds, std::span<std::uint64_t> items) {
    advance(now_ms);
    std::uint32_t at = pairs_.oldest();
    while (at != OpenPairs::kNone && due_ < users.size() && is_due(pairs_.pair(at))) {
      const OpenPairs::Pair& pair = pairs_.pair(at);
      const std::uint32_t next = pair.after;
      if (pair.has_landed) {
        users[due_] = pairs_.user(pair.user).id.key;
        kinds[due_] = pairs_.user(pair.user).id.kind;
        items[due_++] = pair.item;
      } else {
        end(at, Outcome::kFailed);
      }
      at = next;
    }
    return due_;
  }

  // Of how many pairs `settle` has to say where they are.
  [[nodiscard]] std::size_t to_settle() const noexcept { return due_; }

  // Ends the pairs that `due` has named: wasted where `there` is not 0, else evicted.
  void settle(std::span<const std::uint8_t> there) {
    for (const std::uint8_t is_there : there) {
      end(pairs_.oldest(), is_there != 0 ? Outcome::kWasted : Outcome::kEvicted);
    }
    due_ = 0;
  }

  [[nodiscard]] bool is_open(LedgerUser user) const noexcept {
    return pairs_.find(user) != OpenPairs::kNone;
  }
  [[nodiscard]] std::size_t open() const noexcept { return pairs_.size(); }
  [[nodiscard]] std::size_t open_users() const noexcept { return pairs_.users(); }
  [[nodiscard]] const Outcomes& outcomes() const noexcept { return outcomes_; }
  [[nodiscard]] const PerOrigin& issued() const noexcept { return issued_; }
  [[nodiscard]] const PerOrigin& landed() const noexcept { return landed_; }
  // Of each origin, landed and open.
  [[nodiscard]] PerOrigin unread() const noexcept {
    PerOrigin count = landed_;
    for (std::size_t origin = 0; origin < kOrigins; ++origin)
      count[origin] -= landed_ended_[origin];
    return count;
  }
  [[nodiscard]] const PerSource& asked() const noexcept { return asked_; }
  // Pairs asked for in vain while they were being computed.
  [[nodiscard]] std::uint64_t late() const noexcept { return late_; }

  // The violated invariants (none: sound).
  [[nodiscard]] std::vector<std::string> check() const {
    std::vector<std::string> broken = pairs_.check();
    PerOrigin open{};
    PerOrigin landed{};
    for (std::uint32_t at = pairs_.oldest(); at != OpenPairs::kNone && broken.empty();
         at = pairs_.pair(at).after) {
      ++open[pairs_.pair(at).origin];
      landed[pairs_.pair(at).origin] += pairs_.pair(at).has_landed;
    }
    for (std::size_t origin = 0; origin < kOrigins && broken.empty(); ++origin) {
      std::uint64_t ended = 0;
      for (const std::uint64_t count : outcomes_[origin]) ended += count;
      const std::string of = " of origin " + std::to_string(origin);
      if (issued_[origin] != ended + open[origin]) {
        broken.push_back("issued" + of + ": " + std::to_string(issued_[origin]) + ", ended " +
                         std::to_string(ended) + ", open " + std::to_string(open[origin]));
      }
      if (unread()[origin] != landed[origin]) broken.push_back("landed and open" + of);
    }
    return broken;
  }

 private:
  void advance(std::int64_t now_ms) noexcept {
    now_ms_ = std::max(now_ms_, now_ms);
    due_ = 0;
  }
  [[nodiscard]] bool is_due(const OpenPairs::Pair& pair) const noexcept {
    return now_ms_ - pair.instant_ms > ttl_ms_;
  }

  void end(std::uint32_t at, Outcome outcome) noexcept {
    const OpenPairs::Pair& pair = pairs_.pair(at);
    ++outcomes_[pair.origin][static_cast<std::size_t>(outcome)];
    landed_ended_[pair.origin] += pair.has_landed;
    pairs_.close(at);
  }

  std::int64_t ttl_ms_;
  OpenPairs pairs_;
  std::size_t due_ = 0;
  std::int64_t now_ms_ = 0;
  Outcomes outcomes_{};
  PerOrigin issued_{};
  PerOrigin landed_{};
  PerOrigin landed_ended_{};
  PerSource asked_{};
  std::uint64_t late_ = 0;
};

}  // namespace predawn
