// How likely a fresh candidate is each item: what many users are shown now.
//
// What: `Items`: `sighted` for each candidate that its user had not seen lately; `popular`, the
//   items most likely to be the next, with their rate per fresh candidate.
// When not: a user's own repeats (predictor_shown.hpp).
// Functions: one thread; instants ascend.
// Design: an item lives for a while and is drawn at a steady rate while it does. Its rate is the
//   sightings after the first over the fresh candidates of all users since then (both fading), with
//   a gamma prior; a fast count of the same pulls it where it has seen enough. It may be dead:
//   P(alive) after s candidates without it follows from its rate and the hazard of a death, as in
//   the Pareto/NBD model (Schmittlein, Morrison, Colombo 1987). A learnt factor by number of
//   sightings and one by expected sightings missed correct all that.
//   The list is kept by insertion: an item whose rate passes the least of the list goes in; order
//   and rates are renewed now and then.
// Memory: 45 bytes an item, all at creation. Cost: about 50 ns a sighting; the list 40 ns an item
//   whenever renewed.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>
#include <vector>

#include "predictor_decay.hpp"
#include "predictor_factors.hpp"
#include "predictor_slots.hpp"

namespace predawn::predictor {

// An item of the list. plain: chance to be the next fresh candidate of anybody; rate: the same
// times its learnt factors.
struct Popular {
  std::uint64_t item = 0;
  float plain = 0;
  float rate = 0;
  std::uint32_t slot = 0;
  std::uint8_t sightings = 0;  // bucket
  std::uint8_t missed = 0;     // bucket
};

class Items {
 public:
  static constexpr std::size_t kSightingBuckets = 12;
  static constexpr std::size_t kMissedBuckets = 12;

  Items(std::size_t items, std::size_t popular, std::uint64_t seed)
      : slots_(items, seed), items_(slots_.size()), most_(popular) {
    list_.reserve(most_);
  }

  [[nodiscard]] std::size_t known() const noexcept { return slots_.used(); }
  [[nodiscard]] std::size_t size() const noexcept { return slots_.size(); }

  void sighted(std::uint64_t id, std::int64_t now_ms) {
    ++draws_;
    slow_.add(1, now_ms, kSlowMs);
    fast_.add(1, now_ms, kFastMs);
    bool is_new = false;
    const auto worth = [&](std::uint32_t slot) { return items_[slot].last_ms; };
    const std::uint32_t slot = slots_.take({id, Kind::kInteger}, worth, is_new);
    Item& item = items_[slot];
    if (is_new) {
      if (item.is_listed) unlist(slot);
      item = {.born_ms = now_ms, .slow_at_birth = slow_.at(now_ms, kSlowMs)};
    } else {
      const std::int64_t elapsed = now_ms - item.last_ms;
      item.slow = item.slow * left_after(elapsed, kSlowMs) + 1;
      item.fast = item.fast * left_after(elapsed, kFastMs) + 1;
    }
    item.last_ms = now_ms;
    item.last_draw = draws_;
    if (!item.is_listed) offer(id, slot, now_ms);
  }

  // Most likely first, as of the last renewal: kRenewMs and kRenewDraws ago at least.
  [[nodiscard]] std::span<const Popular> popular(std::int64_t now_ms, const Factors& by_sightings,
                                                 const Factors& by_missed) {
    if (now_ms - renewed_ms_ >= kRenewMs && draws_ - renewed_at_ >= kRenewDraws) {
      renew(now_ms, by_sightings, by_missed);
    }
    return list_;
  }

  // The entry of an item as it is now.
  [[nodiscard]] Popular look(std::uint64_t id, std::uint32_t slot, std::int64_t now_ms) const {
    const Item& item = items_[slot];
    const float gone = left_after(now_ms - item.last_ms, kSlowMs);
    const float slow = slow_.at(now_ms, kSlowMs);
    const float since_birth =
        slow - item.slow_at_birth * left_after(now_ms - item.born_ms, kSlowMs);
    const float steady = (item.slow * gone + kPriorSightings) / (since_birth + kPriorDraws);
    const float fast_gone = left_after(now_ms - item.last_ms, kFastMs);
    const float fast_draws = std::min(fast_.at(now_ms, kFastMs), since_birth + kPriorDraws);
    const float rate =
        (item.fast * fast_gone + kSteadyWeight) / (fast_draws + kSteadyWeight / steady);
    const float since = static_cast<float>(draws_ - item.last_draw);
    const float missed = rate * since;
    const float plain = rate * alive(rate, since, now_ms);
    return {id, plain, plain, slot, bucket(item.slow * gone, 1.5f), bucket(missed, 2.5f)};
  }

 private:
  struct Item {
    std::int64_t born_ms = 0;
    std::int64_t last_ms = 0;
    std::uint32_t last_draw = 0;
    float slow_at_birth = 0;
    float slow = 0;
    float fast = 0;
    bool is_listed = false;
  };
  static constexpr float kHourMs = 3'600'000;
  static constexpr float kSlowMs = 36 * kHourMs;
  static constexpr float kFastMs = 2 * kHourMs;
  static constexpr float kLifeMs = 24 * kHourMs;
  static constexpr float kPriorSightings = 0.5f;
  static constexpr float kPriorDraws = 700;
  static constexpr float kSteadyWeight = 30;  // sightings
  static constexpr std::int64_t kRenewMs = 30'000;
  static constexpr std::uint32_t kRenewDraws = 128;

  [[nodiscard]] static std::uint8_t bucket(float value, float steps) noexcept {
    return static_cast<std::uint8_t>(std::min(steps * std::log2(1 + value), 11.0f));
  }

  // That the item can still be drawn, `since` fresh candidates after it was.
  [[nodiscard]] float alive(float rate, float since, std::int64_t now_ms) const noexcept {
    const float draws_per_life = fast_.at(now_ms, kFastMs) * kLifeMs * 0.6931f / kFastMs;
    const float hazard = 1.0f / std::max(draws_per_life, 1.0f);
    const float unseen = std::exp(-(rate + hazard) * since);
    return unseen / (unseen + hazard / (rate + hazard) * (1 - unseen));
  }

  void unlist(std::uint32_t slot) {
    items_[slot].is_listed = false;
    const auto same = [&](const Popular& each) { return each.slot == slot; };
    const auto at = std::find_if(list_.begin(), list_.end(), same);
    if (at != list_.end()) list_.erase(at);
    replaced_ = std::min(replaced_, list_.size());
  }

  // The list is sorted up to replaced_; what came since the renewal is behind.
  void offer(std::uint64_t id, std::uint32_t slot, std::int64_t now_ms) {
    const Popular entry = look(id, slot, now_ms);
    if (list_.size() < most_) {
      list_.push_back(entry);
    } else {
      if (replaced_ == 0) return;
      Popular& least = list_[replaced_ - 1];
      if (entry.rate <= least.rate) return;
      items_[least.slot].is_listed = false;
      least = entry;
      --replaced_;
    }
    items_[slot].is_listed = true;
  }

  void renew(std::int64_t now_ms, const Factors& by_sightings, const Factors& by_missed) {
    for (Popular& each : list_) {
      each = look(each.item, each.slot, now_ms);
      each.rate *= std::exp(by_sightings.log(each.sightings) + by_missed.log(each.missed));
    }
    std::sort(list_.begin(), list_.end(),
              [](const Popular& a, const Popular& b) { return a.rate > b.rate; });
    replaced_ = list_.size();
    renewed_ms_ = now_ms;
    renewed_at_ = draws_;
  }

  KeyedSlots slots_;
  std::vector<Item> items_;
  std::vector<Popular> list_;
  std::size_t most_;
  std::size_t replaced_ = 0;
  std::uint32_t draws_ = 0;
  std::uint32_t renewed_at_ = 0;
  std::int64_t renewed_ms_ = 0;
  Decayed slow_;
  Decayed fast_;
};

}  // namespace predawn::predictor
