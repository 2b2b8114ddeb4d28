// What is remembered of a user: when he comes, and what his last lists held.
//
// What: `Users`: `find`, `list` (a request of a user: his list goes in), `entries` and `lists_of`.
// When not: what others are shown (predictor_items.hpp).
// Functions: one thread; instants ascend.
// Design: a user has a fixed place for `lists` lists and for kEntriesPerList items each. An item is
//   kept once, with a bit for each list that held it: bit 0 the newest. Of more items than there is
//   room for, those shown longest ago and scored lowest go.
//   Of the times: decayed counts of requests at several scales, of sessions, of candidates and of
//   fresh ones (in none of the lists that are remembered).
// Memory: about 200 bytes and 16 an entry; all at creation, but the system gives it when first
// used. Cost: about 10 ns an entry and a candidate.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>
#include <span>
#include <vector>

#include "predictor_decay.hpp"
#include "predictor_slots.hpp"

namespace predawn::predictor {

inline constexpr std::size_t kListsMost = 16;
inline constexpr std::size_t kEntriesPerList = 12;
inline constexpr std::int64_t kSessionGapMs = 1'800'000;

// An item that a user was shown. lists: bit j: in the j-th list from the newest. place: among the
// scores of the list that held it last, the best 0; rank: the same in eighths of that list.
struct Shown {
  std::uint64_t item;
  std::uint16_t lists;
  std::uint16_t place;
  std::uint8_t rank;
  std::uint8_t times;
  bool known;
};

struct ListNote {
  std::int64_t at_ms;
  std::uint32_t size;
};

// Decayed counts, as of last_ms. weekly, daily, lately: requests, with half-lives kWeekMs,
// kDailyMs, kLatelyMs; sessions, pauses between sessions and the sum of the logarithms of their
// seconds: kWeekMs; calls: requests, shown: their candidates, fresh: those new to him: kShownMs.
struct User {
  static constexpr float kWeekMs = 604'800e3f;
  static constexpr float kDailyMs = 86'400e3f;
  static constexpr float kLatelyMs = 7'200e3f;
  static constexpr float kShownMs = 172'800e3f;
  std::int64_t first_ms = 0;
  std::int64_t last_ms = 0;
  float weekly = 0;
  float daily = 0;
  float lately = 0;
  float sessions = 0;
  float pauses = 0;
  float log_pauses = 0;
  float calls = 0;
  float shown = 0;
  float fresh = 0;
  std::uint32_t fresh_ever = 0;
  std::uint16_t lists = 0;
  std::uint16_t entries = 0;
  std::array<ListNote, kListsMost> notes{};  // newest first
};

// A look-up of positions by item, for one call; positions are below 65,535.
class Positions {
 public:
  explicit Positions(std::size_t most) : cells_(std::bit_ceil(2 * most + 2), Cell{0, 0, 0}) {}

  void clear() noexcept { ++turn_; }
  void put(std::uint64_t item, std::uint16_t at) noexcept {
    std::size_t cell = mixed(item) & (cells_.size() - 1);
    while (cells_[cell].turn == turn_) cell = (cell + 1) & (cells_.size() - 1);
    cells_[cell] = {item, turn_, at};
  }
  // The position, or -1.
  [[nodiscard]] int find(std::uint64_t item) const noexcept {
    std::size_t cell = mixed(item) & (cells_.size() - 1);
    for (; cells_[cell].turn == turn_; cell = (cell + 1) & (cells_.size() - 1)) {
      if (cells_[cell].item == item) return cells_[cell].at;
    }
    return -1;
  }

 private:
  struct Cell {
    std::uint64_t item;
    std::uint32_t turn;
    std::uint16_t at;
  };
  std::vector<Cell> cells_;
  std::uint32_t turn_ = 1;
};

class Users {
 public:
  Users(std::size_t users, std::size_t lists, std::uint64_t seed)
      : slots_(users, seed),
        users_(zeroed<User>(slots_.size())),
        room_(std::max<std::size_t>(lists, 1) * kEntriesPerList),
        remembered_((1u << lists) - 1),
        shown_(zeroed<Shown>(slots_.size() * room_)),
        positions_(room_) {}

  [[nodiscard]] std::size_t size() const noexcept { return slots_.size(); }
  [[nodiscard]] std::size_t known() const noexcept { return slots_.used(); }
  [[nodiscard]] bool holds(std::uint32_t slot) const noexcept { return slots_.holds(slot); }
  [[nodiscard]] std::uint32_t find(Id id) const noexcept { return slots_.find(id); }
  [[nodiscard]] User& operator[](std::uint32_t slot) noexcept { return users_[slot]; }
  [[nodiscard]] Id id(std::uint32_t slot) const noexcept { return slots_.id(slot); }

  // The first slot in use from `slot` on, among a few.
  [[nodiscard]] std::uint32_t used_from(std::uint32_t slot) const noexcept {
    for (std::size_t i = 0; i < KeyedSlots::kWays; ++i) {
      const auto at = static_cast<std::uint32_t>((slot + i) & (size() - 1));
      if (holds(at)) return at;
    }
    return kNoSlot;
  }

  // The user's place; somebody else's, who came longest ago, if he is new and there is no room.
  std::uint32_t take(Id id, std::int64_t now_ms) {
    bool is_new = false;
    const auto worth = [&](std::uint32_t slot) { return users_[slot].last_ms; };
    const std::uint32_t slot = slots_.take(id, worth, is_new);
    if (is_new) users_[slot] = User{.first_ms = now_ms, .last_ms = now_ms};
    return slot;
  }

  [[nodiscard]] std::span<Shown> entries(std::uint32_t slot) noexcept {
    return {shown_.get() + slot * room_, users_[slot].entries};
  }

  // Where in `entries` items lie, for `position` until the next call. (An item put in the place of
  // another one since is not found.)
  void index(std::uint32_t slot) noexcept {
    positions_.clear();
    std::uint16_t at = 0;
    for (const Shown& each : entries(slot)) positions_.put(each.item, at++);
  }
  [[nodiscard]] int position(std::uint32_t slot, std::uint64_t item) noexcept {
    const int at = positions_.find(item);
    const bool is_there = at >= 0 && entries(slot)[static_cast<std::size_t>(at)].item == item;
    return is_there ? at : -1;
  }

  // The times of a request with `size` candidates of which `fresh` are new to him.
  void came(std::uint32_t slot, std::size_t size, std::size_t fresh, std::int64_t now_ms) noexcept {
    User& user = users_[slot];
    const std::int64_t gap = now_ms - user.last_ms;
    const bool is_first = user.calls == 0;
    const float week = left_after(gap, User::kWeekMs);
    const float paused = gap > kSessionGapMs ? 1.0f : 0.0f;
    user.weekly = user.weekly * week + 1;
    user.daily = user.daily * left_after(gap, User::kDailyMs) + 1;
    user.lately = user.lately * left_after(gap, User::kLatelyMs) + 1;
    user.sessions = user.sessions * week + (is_first ? 1.0f : paused);
    user.pauses = user.pauses * week + paused;
    user.log_pauses *= week;
    if (gap > kSessionGapMs) user.log_pauses += std::log(static_cast<float>(gap) / 1000);
    const float left = left_after(gap, User::kShownMs);
    user.calls = user.calls * left + 1;
    user.shown = user.shown * left + static_cast<float>(size);
    user.fresh = user.fresh * left + static_cast<float>(fresh);
    user.fresh_ever += static_cast<std::uint32_t>(fresh);
    user.last_ms = now_ms;
  }

  // Makes every list one older, for a new one of `size` items.
  void begin_list(std::uint32_t slot, std::size_t size, std::int64_t now_ms) noexcept {
    User& user = users_[slot];
    std::copy_backward(user.notes.begin(), user.notes.end() - 1, user.notes.end());
    user.notes[0] = {now_ms, static_cast<std::uint32_t>(size)};
    user.lists = static_cast<std::uint16_t>(std::min<std::size_t>(user.lists + 1u, kListsMost));
    std::uint16_t kept = 0;
    const std::span<Shown> all = entries(slot);
    for (const Shown& each : all) {
      const auto lists = static_cast<std::uint16_t>((each.lists << 1) & remembered_);
      if (lists == 0) continue;
      all[kept] = each;
      all[kept++].lists = lists;
    }
    user.entries = kept;
  }

  // Puts a new item into the newest list; of a full memory, in the place of who is worth least.
  void add(std::uint32_t slot, const Shown& entry) noexcept {
    User& user = users_[slot];
    Shown* const first = shown_.get() + slot * room_;
    if (user.entries < room_) {
      first[user.entries] = entry;
      positions_.put(entry.item, user.entries++);
      return;
    }
    Shown* const least = std::min_element(first, first + room_, is_worth_less);
    if (is_worth_less(*least, entry)) *least = entry;
  }

 private:
  template <class T>
  struct Free {
    void operator()(T* memory) const noexcept { std::free(memory); }
  };
  template <class T>
  using Zeroed = std::unique_ptr<T[], Free<T>>;

  // Memory that the system gives page by page, when it is written first.
  template <class T>
  static Zeroed<T> zeroed(std::size_t count) {
    auto* memory = static_cast<T*>(std::calloc(count, sizeof(T)));
    if (memory == nullptr) throw std::bad_alloc();
    return Zeroed<T>(memory);
  }

  static bool is_worth_less(const Shown& a, const Shown& b) noexcept {
    const int newest_a = std::countr_zero(a.lists);
    const int newest_b = std::countr_zero(b.lists);
    return newest_a != newest_b ? newest_a > newest_b : a.place > b.place;
  }

  KeyedSlots slots_;
  Zeroed<User> users_;
  std::size_t room_;
  unsigned remembered_;
  Zeroed<Shown> shown_;
  Positions positions_;
};

}  // namespace predawn::predictor
