// What a request is served of its user's pairs: rows, ages and sources of all candidates at once.
//
// What: `PairUser`, whose pairs; `PairTables`; `read_pairs`, and `peek_pairs`, which looks only.
// When not: fills that are made of other users' pairs (the server puts them over what is absent).
// Functions: safe from any thread of any process; buffers belong to the caller. A row given as the
//   pair's own was written for this user and item, after the user's last invalidation, by one of
//   the versions asked for, at most `max_age_ms` ago; a fill for this user, with the same rules and
//   `fill_age_ms`.
// Design: first the instant of the user's invalidation, which bounds both ages: what was written in
//   its very millisecond is taken for older. Then all pairs in one batch. Only if one is absent is
//   the user's fill looked for: one row more, copied to all absent ones.
// Memory: 20 bytes a candidate. Cost: that of the batch, of one or two keys more, and a copy of
//   each absent row; no atomics of its own.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "cache.hpp"
#include "pair_keys.hpp"
#include "peek.hpp"

namespace predawn {

// Sources that are served here; numbers as everywhere (server/request.py).
inline constexpr std::uint8_t kSourceDirect = 0;
inline constexpr std::uint8_t kSourceDefault = 6;

struct PairUser {
  bool is_string = false;
  std::uint64_t number = 0;  // of an integer user
  std::string_view text;     // UTF-8, of a string user

  // The user's own key in `table`.
  [[nodiscard]] Key key_in(const Cache& table) const noexcept {
    return is_string ? table.key_of_string(text.data(), text.size()) : Key{number, 0};
  }

  // Of the pairs with `items`, in `table`.
  void pair_keys_in(const Cache& table, std::span<const std::uint64_t> items, Key* keys) const {
    if (is_string) {
      const SipKey secret = sip_key(table.header().seed.data() + sizeof(SipKey));
      pair_keys(secret, text.data(), text.size(), items, keys);
      return;
    }
    for (const std::uint64_t item : items) *keys++ = {number, item};
  }
};

// Of one id kind. A row of `fills` begins with what is served, of the width of a pair's row.
struct PairTables {
  Cache* pairs = nullptr;
  Cache* invalidated = nullptr;
  Cache* fills = nullptr;               // by user; null: none
  std::uint8_t level = kSourceDefault;  // the source that `fills` is
};

struct PairRules {
  std::int64_t now_ms = 0;
  std::int64_t max_age_ms = 0;
  std::int64_t fill_age_ms = 0;
  std::span<const std::uint32_t> versions;  // few; none: any will do

  [[nodiscard]] bool takes(std::uint32_t snapshot) const noexcept {
    return versions.empty() || std::ranges::find(versions, snapshot) != versions.end();
  }
};

// [n] each, rows [n, dim]; age -1: the default.
struct PairsOut {
  float* rows = nullptr;
  std::int64_t* ages = nullptr;
  std::uint8_t* sources = nullptr;
};

namespace detail {

enum class Look : std::uint8_t { kUse, kPeek };

// Age of the entry of one key, -1: none.
inline std::int64_t age_of(Cache& table, const Key& key, std::int64_t now_ms,
                           std::int64_t max_age_ms, Look look, float* row,
                           std::uint32_t& snapshot) {
  std::int64_t age = -1;
  const std::span<const Key> keys(&key, 1);
  if (look == Look::kPeek) {
    peek_many(table.table(), keys, now_ms, max_age_ms, &age, &snapshot);
  } else {
    table.get_many({keys, now_ms, max_age_ms, max_age_ms, 1, row, &age, &snapshot, nullptr});
  }
  return age;
}

// `rules` with ages that what was written before the user's invalidation does not have: below 0,
// nothing does.
inline PairRules since_invalidation(const PairTables& tables, const PairUser& user,
                                    const PairRules& rules, Look look) {
  float nothing = 0;
  std::uint32_t snapshot = 0;
  const std::int64_t longest = std::max(rules.max_age_ms, rules.fill_age_ms);
  const std::int64_t age = age_of(*tables.invalidated, user.key_in(*tables.invalidated),
                                  rules.now_ms, longest, look, &nothing, snapshot);
  if (age < 0) return rules;
  return {rules.now_ms, std::min(rules.max_age_ms, age - 1), std::min(rules.fill_age_ms, age - 1),
          rules.versions};
}

// Age of the user's fill, -1: there is none. `row`: of `fills`, null for a peek.
inline std::int64_t fill_age(const PairTables& tables, const PairUser& user, const PairRules& rules,
                             float* row) {
  if (tables.fills == nullptr || rules.fill_age_ms < 0) return -1;
  std::uint32_t snapshot = 0;
  const std::int64_t age =
      age_of(*tables.fills, user.key_in(*tables.fills), rules.now_ms, rules.fill_age_ms,
             row == nullptr ? Look::kPeek : Look::kUse, row, snapshot);
  return age >= 0 && rules.takes(snapshot) ? age : -1;
}

// Ages of the pairs, -1 where absent or of another version; their rows unless `rows` is null.
// Returns how many are there.
inline std::size_t exact(const PairTables& tables, const PairUser& user,
                         std::span<const std::uint64_t> items, const PairRules& rules, float* rows,
                         std::int64_t* ages) {
  const std::size_t n = items.size();
  if (rules.max_age_ms < 0) {
    std::fill_n(ages, n, -1);
    return 0;
  }
  const auto keys = std::make_unique_for_overwrite<Key[]>(n);
  const auto snapshots = std::make_unique_for_overwrite<std::uint32_t[]>(n);
  user.pair_keys_in(*tables.pairs, items, keys.get());
  const std::span<const Key> wanted(keys.get(), n);
  std::size_t found =
      rows == nullptr
          ? peek_many(tables.pairs->table(), wanted, rules.now_ms, rules.max_age_ms, ages,
                      snapshots.get())
          : tables.pairs->get_many({wanted, rules.now_ms, rules.max_age_ms, rules.max_age_ms, 1,
                                    rows, ages, snapshots.get(), nullptr});
  if (rules.versions.empty()) return found;
  for (std::size_t i = 0; i < n; ++i) {
    if (ages[i] < 0 || rules.takes(snapshots[i])) continue;
    ages[i] = -1;
    --found;
  }
  return found;
}

}  // namespace detail

// Returns the source of the absent candidates: the fill's, or the default's; that of the pairs
// themselves if none is absent. `default_row` [dim].
inline std::uint8_t read_pairs(const PairTables& tables, const PairUser& user,
                               std::span<const std::uint64_t> items, const PairRules& given,
                               const float* default_row, const PairsOut& out) {
  const PairRules rules = detail::since_invalidation(tables, user, given, detail::Look::kUse);
  const std::size_t found = detail::exact(tables, user, items, rules, out.rows, out.ages);
  std::fill_n(out.sources, items.size(), kSourceDirect);
  if (found == items.size()) return kSourceDirect;
  const std::size_t dim = tables.pairs->table().row().dim();
  std::vector<float> row(tables.fills == nullptr ? 0 : tables.fills->table().row().dim());
  const std::int64_t age = detail::fill_age(tables, user, rules, row.data());
  const float* served = age < 0 ? default_row : row.data();
  const std::uint8_t source = age < 0 ? kSourceDefault : tables.level;
  for (std::size_t i = 0; i < items.size(); ++i) {
    if (out.ages[i] >= 0) continue;
    std::copy_n(served, dim, out.rows + i * dim);
    out.ages[i] = age;
    out.sources[i] = source;
  }
  return source;
}

// Ages of the pairs themselves, -1 where absent; returns the source that an absent one would be
// served from. No use of anything.
inline std::uint8_t peek_pairs(const PairTables& tables, const PairUser& user,
                               std::span<const std::uint64_t> items, const PairRules& given,
                               std::int64_t* ages) {
  const PairRules rules = detail::since_invalidation(tables, user, given, detail::Look::kPeek);
  detail::exact(tables, user, items, rules, nullptr, ages);
  return detail::fill_age(tables, user, rules, nullptr) < 0 ? kSourceDefault : tables.level;
}

}  // namespace predawn
