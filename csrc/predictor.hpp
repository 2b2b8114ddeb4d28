// The chance that a user-item pair is asked for within its ttl, of all pairs that may be worth
// computing: what was shown to the user lately, and what is popular now.
//
// What: `Predictor`: `asked` (a request: learn), `propose` (a user's pairs, most likely first),
//   figures for reports.
// When not: what is in the store, budgets: the caller's.
// Functions: one thread. A clock that goes back stands still.
// Design: users (predictor_users.hpp, predictor_activity.hpp), items (predictor_items.hpp), a model
//   over both (predictor_pairs.hpp). Of all pairs that are scored, whether proposed or not, a
//   random sample waits for its outcome (predictor_examples.hpp): a request tells all that was
//   asked for, so outcomes are seen without computing anything, and what is computed selects
//   nothing. The sample's share follows the load, so that the line of those that wait is about half
//   full.
// Memory: all at creation (bounded by users, items, lists, popular). Cost: about 10 us a request of
//   ten candidates, `asked` and `propose` together.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
#include <span>
#include <vector>

#include "predictor_activity.hpp"
#include "predictor_examples.hpp"
#include "predictor_items.hpp"
#include "predictor_pairs.hpp"
#include "predictor_users.hpp"

namespace predawn::predictor {

struct Sizes {
  std::size_t users;
  std::size_t items;
  std::size_t lists;
  std::size_t popular;
  std::int64_t ttl_ms;
  std::uint64_t seed;
  std::size_t examples = 32'768;
};

struct Candidate {
  float chance;
  Origin origin;
  std::uint64_t item;
};

class Predictor {
 public:
  explicit Predictor(const Sizes& sizes)
      : ttl_ms_(sizes.ttl_ms),
        users_(sizes.users, sizes.lists, sizes.seed),
        items_(sizes.items, sizes.popular, sizes.seed + 1),
        activity_(sizes.ttl_ms),
        examples_(sizes.examples),
        visits_(sizes.examples / 4),
        pair_sampler_(sizes.examples, sizes.ttl_ms, sizes.seed + 2),
        visit_sampler_(sizes.examples / 4, sizes.ttl_ms, sizes.seed + 3) {
    own_.reserve(sizes.lists * kEntriesPerList);
    waits_.reserve(sizes.lists * kEntriesPerList);
    order_.reserve(kUsualCandidates);
    found_.reserve(sizes.popular + sizes.lists * kEntriesPerList);
  }

  void asked(Id id, std::span<const std::uint64_t> items, std::span<const float> scores,
             std::span<const std::uint8_t> known, std::int64_t at_ms) {
    const std::int64_t now_ms = advance(at_ms);
    const std::uint32_t slot = users_.take(id, now_ms);
    const std::uint64_t user_hash = hash_of(id);
    rank(scores);
    users_.begin_list(slot, items.size(), now_ms);
    users_.index(slot);
    std::size_t fresh = 0;
    for (std::size_t place = 0; place < items.size(); ++place) {
      const std::uint32_t i = order_[place];
      fresh += show(slot, items[i], place, items.size(), known[i] != 0, now_ms) ? 1 : 0;
      examples_.asked(pair_hash(user_hash, items[i]), now_ms);
    }
    users_.came(slot, items.size(), fresh, now_ms);
    activity_.came(items.size(), fresh);
    note_visits(slot, now_ms);
  }

  // Those of chance `least` or above, at most `limit`; good until the next call.
  std::span<const Candidate> propose(Id id, std::int64_t at_ms, float least, std::size_t limit) {
    return propose(id, at_ms, least, limit, least, {}, {});
  }

  // The same beside `missed`, each once, which are not among them: chances [missed], those of
  // chance `known` or above, -1 for the others.
  std::span<const Candidate> propose(Id id, std::int64_t at_ms, float least, std::size_t limit,
                                     float known, std::span<const std::uint64_t> missed,
                                     std::span<float> chances) {
    const std::int64_t now_ms = advance(at_ms);
    found_.clear();
    std::fill(chances.begin(), chances.end(), -1.0f);
    const std::uint32_t slot = users_.find(id);
    if (slot == kNoSlot) return found_;
    const std::uint64_t user_hash = hash_of(id);
    users_.index(slot);
    fair_ = fair(users_[slot]);
    draws_ = activity_.expected(activity_.features(users_[slot], now_ms));
    const std::span<const Popular> popular =
        items_.popular(now_ms, model_.sightings(), model_.missed());
    own_.assign(users_.entries(slot).size(), nullptr);
    waits_.assign(own_.size(), kNotMissed);
    forgotten_ = false;
    for (std::size_t i = 0; i < missed.size(); ++i) {
      const int at = users_.position(slot, missed[i]);
      if (at >= 0) {
        waits_[static_cast<std::size_t>(at)] = i;
      } else {
        forgotten_ = true;
      }
    }
    missed_ = missed;
    chances_ = chances;
    known_ = known;
    scan_popular(popular, slot, user_hash, least, now_ms);
    scan_shown(slot, user_hash, least, now_ms);
    const auto by_chance = [](const Candidate& a, const Candidate& b) {
      return a.chance != b.chance ? a.chance > b.chance : a.item < b.item;
    };
    const std::size_t kept = std::min(limit, found_.size());
    const auto end = found_.begin() + static_cast<std::ptrdiff_t>(kept);
    if (end != found_.end()) std::nth_element(found_.begin(), end, found_.end(), by_chance);
    std::sort(found_.begin(), end, by_chance);
    return std::span<const Candidate>(found_).first(kept);
  }

  // Fresh candidates that the user of the last `propose` is expected to be shown within the ttl.
  [[nodiscard]] float draws() const noexcept { return draws_; }
  [[nodiscard]] Reliability::Table reliability() const noexcept { return reliability_.recent(); }
  [[nodiscard]] const Users& users() const noexcept { return users_; }
  [[nodiscard]] const Items& items() const noexcept { return items_; }
  [[nodiscard]] const Examples& examples() const noexcept { return examples_; }
  [[nodiscard]] const Activity& activity() const noexcept { return activity_; }

 private:
  struct Visit {
    std::int64_t due_ms;
    ActivityFeatures features;
    Id user;
    std::uint32_t fresh_ever;
  };
  static constexpr std::size_t kDueAtOnce = 1024;
  static constexpr std::size_t kUsualCandidates = 4096;  // of a request; a longer one takes memory

  // Time, and the outcomes that are due by then.
  std::int64_t advance(std::int64_t at_ms) {
    now_ms_ = std::max(now_ms_, at_ms);
    for (std::size_t n = 0; n < kDueAtOnce && examples_.has_due(now_ms_); ++n) {
      const PairExample example = examples_.pop();
      reliability_.add(example.chance, example.came, example.weight, now_ms_);
      model_.learn(example);
    }
    for (std::size_t n = 0; n < kDueAtOnce && visits_.has_due(now_ms_); ++n) {
      const Visit& visit = visits_.front();
      const std::uint32_t slot = users_.find(visit.user);
      if (slot != kNoSlot) {
        activity_.learn(visit.features,
                        static_cast<float>(users_[slot].fresh_ever - visit.fresh_ever));
      }
      visits_.pop();
    }
    return now_ms_;
  }

  void rank(std::span<const float> scores) {
    order_.resize(scores.size());
    std::iota(order_.begin(), order_.end(), 0u);
    const auto worth = [&](std::uint32_t i) {
      return std::isnan(scores[i]) ? -std::numeric_limits<float>::infinity() : scores[i];
    };
    std::sort(order_.begin(), order_.end(), [&](std::uint32_t a, std::uint32_t b) {
      return worth(a) != worth(b) ? worth(a) > worth(b) : a < b;
    });
  }

  // Whether it is fresh.
  bool show(std::uint32_t slot, std::uint64_t item, std::size_t place, std::size_t size,
            bool is_known, std::int64_t now_ms) {
    const auto rank = static_cast<std::uint8_t>(place * PairModel::kRanks / size);
    const int at = users_.position(slot, item);
    if (at >= 0) {
      Shown& entry = users_.entries(slot)[static_cast<std::size_t>(at)];
      entry.times = static_cast<std::uint8_t>(
          std::min<unsigned>(entry.times + ((entry.lists & 1u) == 0 ? 1u : 0u), 255u));
      entry.lists |= 1u;
      entry.rank = rank;
      entry.place = static_cast<std::uint16_t>(std::min<std::size_t>(place, 65'535));
      entry.known = is_known;
      return false;
    }
    items_.sighted(item, now_ms);
    users_.add(slot, {.item = item,
                      .lists = 1,
                      .place = static_cast<std::uint16_t>(std::min<std::size_t>(place, 65'535)),
                      .rank = rank,
                      .times = 1,
                      .known = is_known});
    return true;
  }

  // Examples of how many candidates come: of this user, and of any.
  void note_visits(std::uint32_t slot, std::int64_t now_ms) {
    visit(slot, now_ms);
    const auto any = static_cast<std::uint32_t>(visit_sampler_.next() % users_.size());
    const std::uint32_t other = users_.used_from(any);
    if (other != kNoSlot) visit(other, now_ms);
  }

  void visit(std::uint32_t slot, std::int64_t now_ms) {
    if (!visit_sampler_.takes(now_ms) || visits_.is_full()) return;
    if (visit_sampler_.uniform() > static_cast<double>(fair(users_[slot]))) return;
    visits_.push({now_ms + ttl_ms_, activity_.features(users_[slot], now_ms), users_.id(slot),
                  users_[slot].fresh_ever});
  }

  void scan_popular(std::span<const Popular> popular, std::uint32_t slot, std::uint64_t user_hash,
                    float least, std::int64_t now_ms) {
    for (const Popular& each : popular) {
      const int at = users_.position(slot, each.item);
      if (at >= 0) {
        own_[static_cast<std::size_t>(at)] = &each;
        continue;
      }
      const float raw = PairModel::raw(draws_ * each.rate);
      if (raw < kLeastScored) continue;
      const float chance = model_.chance(raw, Origin::kPopular);
      if (forgotten_) {
        found_popular({chance, Origin::kPopular, each.item}, least);
      } else if (chance >= least) {
        found_.push_back({chance, Origin::kPopular, each.item});
      }
      if (pair_sampler_.takes(now_ms)) {
        PairFeatures features{};
        draw_from(each, features);
        wait(pair_hash(user_hash, each.item), features, raw, chance, Origin::kPopular, now_ms);
      }
    }
  }

  // Of what the user was shown, more than is remembered may be missed.
  void found_popular(const Candidate& found, float least) {
    const auto at = std::find(missed_.begin(), missed_.end(), found.item);
    if (at == missed_.end()) {
      if (found.chance >= least) found_.push_back(found);
    } else if (found.chance >= known_) {
      chances_[static_cast<std::size_t>(at - missed_.begin())] = found.chance;
    }
  }

  void draw_from(const Popular& popular, PairFeatures& features) const noexcept {
    features.sightings = popular.sightings;
    features.missed = popular.missed;
    features.draws = draws_ * popular.plain;
  }

  void scan_shown(std::uint32_t slot, std::uint64_t user_hash, float least, std::int64_t now_ms) {
    const User& user = users_[slot];
    const std::int64_t gap = now_ms - user.last_ms;
    for (std::size_t k = 0; k < user.lists; ++k) {
      const ListNote& note = user.notes[k];
      copies_[k] = {PairModel::copy_bucket(k, now_ms - note.at_ms, gap),
                    activity_.size() / static_cast<float>(std::max(note.size, 1u))};
      copied_[k] = copies_[k].count * model_.copied(copies_[k].bucket);
    }
    const auto repeater = static_cast<std::uint8_t>(
        std::min(7.0f, 8 * (user.shown - user.fresh + 4) / (user.shown + 10)));
    std::size_t at = 0;
    for (const Shown& shown : users_.entries(slot)) {
      const Popular* const popular = own_[at];
      const std::size_t missed_at = waits_[at++];
      PairFeatures features{};
      features.rank = shown.rank;
      features.times =
          static_cast<std::uint8_t>(std::min<std::size_t>(shown.times, PairModel::kTimes) - 1);
      features.repeater = repeater;
      float copies = 0;
      for (unsigned lists = shown.lists; lists != 0; lists &= lists - 1) {
        copies += copied_[static_cast<std::size_t>(std::countr_zero(lists))];
      }
      float intensity = copies * model_.copy_factor(features);
      if (popular != nullptr) intensity += draws_ * popular->rate;
      const float raw = PairModel::raw(intensity);
      if (raw < kLeastScored) continue;
      const bool is_missed = (shown.lists & 1u) != 0 && !shown.known;
      const Origin origin = is_missed ? Origin::kMissed : Origin::kShown;
      const float chance = model_.chance(raw, origin);
      if (missed_at != kNotMissed) {
        if (chance >= known_) chances_[missed_at] = chance;
      } else if (chance >= least) {
        found_.push_back({chance, origin, shown.item});
      }
      if (!pair_sampler_.takes(now_ms)) continue;
      if (popular != nullptr) draw_from(*popular, features);
      for (unsigned lists = shown.lists; lists != 0 && features.copies < PairFeatures::kCopies;
           lists &= lists - 1) {
        features.copy[features.copies++] =
            copies_[static_cast<std::size_t>(std::countr_zero(lists))];
      }
      wait(pair_hash(user_hash, shown.item), features, raw, chance, origin, now_ms);
    }
  }

  // The share of a user's examples that is learnt from, so that who asks all the time is no more
  // heard than others.
  [[nodiscard]] static float fair(const User& user) noexcept {
    return std::min(1.0f, kUsualRequests / std::max(user.lately, 1.0f));
  }

  void wait(std::uint64_t pair, const PairFeatures& features, float raw, float chance,
            Origin origin, std::int64_t now_ms) {
    if (fair_ < 1 && pair_sampler_.uniform() > static_cast<double>(fair_)) return;
    const float weight = pair_sampler_.weight() / fair_;
    examples_.push({pair, now_ms + ttl_ms_, features, raw, chance, weight, kNoSlot,
                    static_cast<std::uint8_t>(origin), false});
  }

  [[nodiscard]] static std::uint64_t hash_of(Id id) noexcept {
    return mixed(id.number ^ mixed(static_cast<std::uint64_t>(id.kind)));
  }
  [[nodiscard]] static std::uint64_t pair_hash(std::uint64_t user, std::uint64_t item) noexcept {
    return mixed(user ^ mixed(item));
  }

  static constexpr float kUsualRequests = 12;  // of a user, within about three hours
  static constexpr float kLeastScored = 0.005f;
  static constexpr std::size_t kNotMissed = ~std::size_t{0};

  std::int64_t ttl_ms_;
  Users users_;
  Items items_;
  Activity activity_;
  PairModel model_;
  Examples examples_;
  Waiting<Visit> visits_;
  Sampler pair_sampler_;
  Sampler visit_sampler_;
  Reliability reliability_;
  std::vector<std::uint32_t> order_;
  std::vector<const Popular*> own_;
  std::vector<std::size_t> waits_;  // by entry, where it is among missed_
  std::span<const std::uint64_t> missed_;
  std::span<float> chances_;
  float known_ = 0;
  bool forgotten_ = false;  // whether one of missed_ is no entry
  std::vector<Candidate> found_;
  std::array<CopyTerm, kListsMost> copies_{};
  std::array<float, kListsMost> copied_{};
  std::int64_t now_ms_ = 0;
  float draws_ = 0;
  float fair_ = 1;
};

}  // namespace predawn::predictor
