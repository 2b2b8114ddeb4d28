// Which entry of a full set makes room for a newcomer, and what the set forgets meanwhile.
//
// What: `choose`, the whole policy of a set, from its tags; `Rule`, `Cause`, `Choice`;
//   `stamp_shift`, `stamp_of`: the coarse time that tags carry.
// When not: which rule and quota a set follows (steering.hpp); doing as chosen (set_write.hpp).
// Functions: pure. `is_expired(way)` reads the slot: called for at most 2 ways, whose stamps hint
//   it. `order_of(way)` is the slot's `order`: called for speculative ways, only if one has to go.
// Design: first an invalid way, then an expired one, then the class rule, then the hand.
//   Class rule: entries that no request has asked for yet live first-in-first-out in a quota of
//   ways. A speculative newcomer takes a demanded entry only while the set holds fewer of its kind
//   than the quota; a demanded newcomer takes the oldest speculative one while it holds more.
//   Hand: goes over the demanded entries, from the way it points to, round and round.
//   - CLOCK takes the first entry that it finds unread for the second time (`survived`: once so
//     far). Where it finds one read, it forgets that; the entry starts anew, but in every third
//     way it has been found unread once. So an entry lasts two rounds of the hand after it was
//     written, and one to three, about two on average, after it was read: nearly LRU.
//   - SIEVE takes the first entry that was not read since the hand last passed it, but skips those
//     that it has spared in this pass (`survived`): newcomers are looked at sooner, entries that
//     proved themselves later. A pass ends when all have survived. A newcomer lies where the hand
//     has just been, so the order in which the hand meets the rest is that of their arrival:
//     SIEVE's queue without a queue.
//   Stamps: 4 bits that count units of 2^shift ms, of which the longest age that a reader accepts
//   lasts at least 2 and less than 4. An entry that looks 4 units old or more is verified against
//   its slot: so it is found from at most 2 longest ages on, until 15 units (more than 3.7 longest
//   ages), from when its stamp looks young again for at most 5 units; and so on. When a reader
//   accepts a longer age than any before, stamps written earlier count other units: wrong hints,
//   so a verification too many or a find too late, never a wrong victim.
// Memory: none. Cost: about 50 ns; no atomics.
#pragma once

#include <array>
#include <bit>
#include <cstdint>

#include "tag.hpp"

namespace predawn {

enum class Rule : std::uint8_t { kClock = 0, kSieve = 1 };

// Why the chosen way makes room.
enum class Cause : std::uint8_t {
  kNone,               // it holds nothing
  kExpired,            // too old for every reader so far
  kQuota,              // the oldest speculative entry, for a speculative one
  kSpeculative,        // the oldest speculative entry, for a demanded one
  kHand,               // a demanded entry, for a demanded one
  kHandBySpeculative,  // a demanded entry, for a speculative one within its quota
};
inline constexpr std::size_t kCauses = 6;

struct PolicyView {
  std::array<Tag, kWays> tags{};
  unsigned hand = 0;         // 0..15 as the set's word holds it
  bool speculative = false;  // the newcomer
  unsigned quota = 1;        // ways for speculative entries, 1..8
  Rule rule = Rule::kClock;
  std::uint32_t now_stamp = 0;  // 0..15
  bool any_reader = false;      // somebody has read: an age is known
};

// `unvisit`, `survive`, `renew`: a bit per way. Never that of `way`.
struct Choice {
  unsigned way = 0;
  unsigned hand = 0;
  std::uint32_t unvisit = 0;  // whose visited bit to clear
  std::uint32_t survive = 0;  // whose survived bit to set
  std::uint32_t renew = 0;    // whose survived bit to clear
  Cause cause = Cause::kNone;
};

inline constexpr std::uint32_t kExpiredUnits = 4;
inline constexpr unsigned kVerificationsMax = 2;

// log2 of the unit of stamps in ms: 2 units <= longest_age_ms < 4 units (0: less than 2 ms, or
// nobody has read).
[[nodiscard]] constexpr unsigned stamp_shift(std::int64_t longest_age_ms) noexcept {
  if (longest_age_ms < 2) return 0;
  return static_cast<unsigned>(std::bit_width(static_cast<std::uint64_t>(longest_age_ms))) - 2;
}

[[nodiscard]] constexpr std::uint32_t stamp_of(std::int64_t written_at_ms,
                                               unsigned shift) noexcept {
  return static_cast<std::uint32_t>(static_cast<std::uint64_t>(written_at_ms >> shift) & 0xfu);
}

namespace policy {

// The ways of a set by what their tags say, a bit per way.
struct Ways {
  std::uint32_t valid = 0;
  std::uint32_t visited = 0;
  std::uint32_t survived = 0;
  std::uint32_t demanded = 0;
  std::uint32_t old = 0;  // by their stamps

  explicit constexpr Ways(const PolicyView& view) noexcept {
    for (unsigned way = 0; way < kWays; ++way) {
      const Tag tag = view.tags[way];
      const std::uint32_t units = (view.now_stamp - tag.stamp()) & 0xfu;
      valid |= std::uint32_t{tag.valid()} << way;
      visited |= std::uint32_t{tag.visited()} << way;
      survived |= std::uint32_t{tag.survived()} << way;
      demanded |= std::uint32_t{tag.demanded()} << way;
      old |= std::uint32_t{view.any_reader && units >= kExpiredUnits} << way;
    }
    visited &= valid, survived &= valid, demanded &= valid, old &= valid;
  }
  [[nodiscard]] constexpr std::uint32_t speculative() const noexcept { return valid & ~demanded; }
};

inline constexpr std::uint32_t kAllWays = (1u << kWays) - 1;
inline constexpr std::uint32_t kAgedWays = 0x92492492u & kAllWays;  // 1, 4, 7, 10, 13

[[nodiscard]] constexpr unsigned after(unsigned way) noexcept {
  return way + 1 < kWays ? way + 1 : 0;
}

// The first of `ways` (not none) from `hand` on, round the set.
[[nodiscard]] constexpr unsigned next(std::uint32_t ways, unsigned hand) noexcept {
  const std::uint32_t ahead = ways & ~((1u << hand) - 1);
  return static_cast<unsigned>(std::countr_zero(ahead != 0 ? ahead : ways));
}

// Those of `ways` that lie from `hand` up to `end`, round the set; `end` itself left out.
[[nodiscard]] constexpr std::uint32_t passed(std::uint32_t ways, unsigned hand,
                                             unsigned end) noexcept {
  const std::uint32_t below_end = (1u << end) - 1;
  const std::uint32_t below_hand = (1u << hand) - 1;
  return ways & (end >= hand ? below_end & ~below_hand : below_end | (kAllWays & ~below_hand));
}

template <class IsExpired>
[[nodiscard]] unsigned find_expired(std::uint32_t old, unsigned hand, IsExpired& is_expired) {
  for (unsigned tries = 0; old != 0 && tries < kVerificationsMax; ++tries) {
    const unsigned way = next(old, hand);
    if (is_expired(way)) return way;
    old &= ~(1u << way);
  }
  return kWays;
}

// The one of `ways` (not none) that was written first.
template <class OrderOf>
[[nodiscard]] unsigned find_oldest(std::uint32_t ways, OrderOf& order_of) {
  unsigned oldest = static_cast<unsigned>(std::countr_zero(ways));
  std::uint32_t oldest_order = order_of(oldest);
  for (std::uint32_t rest = ways & (ways - 1); rest != 0; rest &= rest - 1) {
    const unsigned way = static_cast<unsigned>(std::countr_zero(rest));
    const std::uint32_t order = order_of(way);
    if (static_cast<std::int32_t>(order - oldest_order) >= 0) continue;
    oldest = way;
    oldest_order = order;
  }
  return oldest;
}

// The last of `ways` (not none) from `hand` on, round the set.
[[nodiscard]] constexpr unsigned last(std::uint32_t ways, unsigned hand) noexcept {
  const std::uint32_t behind = ways & ((1u << hand) - 1);
  return static_cast<unsigned>(std::bit_width(behind != 0 ? behind : ways)) - 1;
}

// Both take from `ways.demanded`, which is not empty.
[[nodiscard]] constexpr Choice clock(const Ways& ways, unsigned hand) noexcept {
  const std::uint32_t unread = ways.demanded & ~ways.visited;
  if (const std::uint32_t due = unread & ways.survived; due != 0) {
    const unsigned way = next(due, hand);
    const std::uint32_t seen = passed(ways.demanded, hand, way);
    const std::uint32_t read = seen & ways.visited;
    return {.way = way,
            .hand = after(way),
            .unvisit = read,
            .survive = ((seen & unread) | (read & kAgedWays)) & ~ways.survived,
            .renew = read & ways.survived & ~kAgedWays};
  }
  // Nobody's time is up before the hand has been once round.
  const std::uint32_t due = unread | (ways.demanded & kAgedWays);
  const unsigned way = next(due != 0 ? due : ways.demanded, hand);
  const std::uint32_t others = ways.demanded & ~(1u << way);
  const std::uint32_t spared = due != 0 ? due | passed(ways.demanded, hand, way) : kAllWays;
  return {.way = way,
          .hand = after(way),
          .unvisit = others & ways.visited,
          .survive = others & spared & ~ways.survived,
          .renew = others & ways.survived & ~spared};
}

[[nodiscard]] constexpr Choice sieve_next_pass(const Ways& ways, unsigned hand) noexcept {
  const std::uint32_t fresh = ways.demanded & ~ways.survived;  // all read: they survive this pass
  const unsigned start = fresh != 0 ? after(last(fresh, hand)) : hand;
  const std::uint32_t unread = ways.demanded & (fresh | ~ways.visited);
  const unsigned way = next(unread != 0 ? unread : ways.demanded, start);
  const std::uint32_t others = ways.demanded & ~(1u << way);
  const std::uint32_t spared = unread != 0 ? passed(ways.demanded, start, way) : 0;
  return {.way = way,
          .hand = after(way),
          .unvisit = others & (unread != 0 ? fresh | spared : kAllWays),
          .renew = others & ways.survived & ~spared};
}

[[nodiscard]] constexpr Choice sieve(const Ways& ways, unsigned hand) noexcept {
  const std::uint32_t fresh = ways.demanded & ~ways.survived;
  const std::uint32_t unread = fresh & ~ways.visited;
  if (unread == 0) return sieve_next_pass(ways, hand);
  const unsigned way = next(unread, hand);
  const std::uint32_t spared = passed(fresh, hand, way);
  return {.way = way, .hand = after(way), .unvisit = spared, .survive = spared};
}

}  // namespace policy

template <class IsExpired, class OrderOf>
[[nodiscard]] Choice choose(const PolicyView& view, IsExpired is_expired, OrderOf order_of) {
  const policy::Ways ways(view);
  const unsigned hand = view.hand < kWays ? view.hand : 0;
  const auto take = [&](unsigned way, Cause cause) {
    return Choice{.way = way, .hand = hand, .cause = cause};
  };
  if (const std::uint32_t empty = policy::kAllWays & ~ways.valid; empty != 0) {
    return take(policy::next(empty, hand), Cause::kNone);
  }
  if (const unsigned way = policy::find_expired(ways.old, hand, is_expired); way < kWays) {
    return take(way, Cause::kExpired);
  }
  const std::uint32_t speculative = ways.speculative();
  const auto count = static_cast<unsigned>(std::popcount(speculative));
  const bool is_over_quota = count + (view.speculative ? 1u : 0u) > view.quota;
  if (speculative != 0 && (is_over_quota || ways.demanded == 0)) {
    const Cause cause = view.speculative ? Cause::kQuota : Cause::kSpeculative;
    return take(policy::find_oldest(speculative, order_of), cause);
  }
  Choice choice = view.rule == Rule::kClock ? policy::clock(ways, hand) : policy::sieve(ways, hand);
  choice.cause = view.speculative ? Cause::kHandBySpeculative : Cause::kHand;
  return choice;
}

}  // namespace predawn
