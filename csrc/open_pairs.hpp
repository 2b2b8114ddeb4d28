// The pairs that a ledger has open: found by user and item, in order of time, and by user.
//
// What: `OpenPairs`: a bounded pool with an index over (user, item), a chain in the order of the
//   pairs' last instant and a chain per user.
// When not: from several threads; what an end means is the ledger's business (ledger.hpp).
// Functions: positions are 1 to `capacity`, kNone is none; a position is good until its pair is
//   closed. `now_ms` never goes back from one call to the next.
// Design: a pair names its user by the position in a pool of users, who are there as long as they
//   have a pair: a user without any is found out by one look.
// Memory: 56 bytes a pair, 32 a user, and their indices, touched as they are used. Cost: 10 to 60
//   ns an operation.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "open_index.hpp"

namespace predawn {

// A user as ledgers name him: an id, or the hash of a string.
struct LedgerUser {
  std::uint64_t key;
  std::uint8_t kind;
  [[nodiscard]] friend bool operator==(const LedgerUser&, const LedgerUser&) noexcept = default;
};

class OpenPairs {
 public:
  static constexpr std::uint32_t kNone = OpenIndex::kNone;

  struct Pair {
    std::uint64_t item;
    std::int64_t issued_ms;
    std::int64_t instant_ms;  // landed, or else issued
    std::uint32_t before;     // in the order of instants
    std::uint32_t after;      // also of the pool's free ones
    std::uint32_t user;
    std::uint32_t user_before;
    std::uint32_t user_after;
    std::uint32_t hash;
    std::uint8_t origin;
    bool has_landed;
  };
  static_assert(sizeof(Pair) == 56);

  struct User {
    LedgerUser id;
    std::uint32_t first;  // of his pairs; also the next of the pool's free ones
    std::uint32_t pairs;
    std::uint32_t hash;
  };

  OpenPairs(std::size_t capacity, std::uint64_t seed)
      : capacity_(capacity),
        seed_(seed),
        pair_index_(capacity),
        user_index_(capacity),
        pairs_(capacity + 1),
        users_(capacity + 1) {}

  [[nodiscard]] std::size_t size() const noexcept { return size_; }
  [[nodiscard]] std::size_t users() const noexcept { return users_open_; }
  [[nodiscard]] bool is_full() const noexcept { return size_ == capacity_; }
  [[nodiscard]] std::uint32_t oldest() const noexcept { return oldest_; }
  [[nodiscard]] const Pair& pair(std::uint32_t at) const noexcept { return pairs_[at]; }
  [[nodiscard]] const User& user(std::uint32_t at) const noexcept { return users_[at]; }

  [[nodiscard]] std::uint32_t find(LedgerUser user) const noexcept {
    return user_index_.find(hash_of(user), [&](std::uint32_t at) { return users_[at].id == user; });
  }
  [[nodiscard]] std::uint32_t find(std::uint32_t user, std::uint64_t item) const noexcept {
    return user == kNone ? kNone : find(user, item, hash_of(user, item));
  }

  // `what(i, position)` for each item that has an open pair with the user, who may be none; it may
  // close that pair.
  template <class What>
  void each(std::uint32_t user, std::span<const std::uint64_t> items, What what) {
    std::array<std::uint32_t, kAhead> hashes;
    for (std::size_t i = 0; i < items.size() && user != kNone; i += kAhead) {
      const std::size_t end = std::min(items.size(), i + kAhead);
      for (std::size_t j = i; j < end; ++j) {
        hashes[j - i] = hash_of(user, items[j]);
        pair_index_.prefetch(hashes[j - i]);
      }
      for (std::size_t j = i; j < end; ++j) {
        const std::uint32_t at = find(user, items[j], hashes[j - i]);
        if (at != kNone) what(j, at);
      }
      if (users_[user].pairs == 0) return;
    }
  }

  // It must not be open, and the pool not full.
  void open(LedgerUser id, std::uint64_t item, std::uint8_t origin, std::int64_t now_ms) {
    const std::uint32_t of = opened(id);
    User& user = users_[of];
    std::uint32_t at = free_pair_;
    if (at == kNone) at = ++pairs_made_;
    free_pair_ = pairs_[at].after;
    const std::uint32_t hash = hash_of(of, item);
    pairs_[at] = {item, now_ms, now_ms, kNone, kNone, of, kNone, user.first, hash, origin, false};
    if (user.first != kNone) pairs_[user.first].user_before = at;
    user.first = at;
    ++user.pairs;
    chain(at);
    pair_index_.insert(hash, at);
    ++size_;
  }

  void land(std::uint32_t at, std::int64_t now_ms) noexcept {
    unchain(pairs_[at]);
    pairs_[at].has_landed = true;
    pairs_[at].instant_ms = now_ms;
    chain(at);
  }

  void close(std::uint32_t at) noexcept {
    Pair& pair = pairs_[at];
    unchain(pair);
    pair_index_.erase(pair.hash, at);
    leave(pair);
    pair = {};
    pair.after = free_pair_;
    free_pair_ = at;
    --size_;
  }

  // The violated invariants (none: sound).
  [[nodiscard]] std::vector<std::string> check() const {
    std::uint64_t chained = 0, of_users = 0, found = 0, unordered = 0;
    std::uint32_t before = kNone;
    for (std::uint32_t at = oldest_; at != kNone && chained <= capacity_; at = pairs_[at].after) {
      const Pair& pair = pairs_[at];
      ++chained;
      found += find(pair.user, pair.item) == at && find(users_[pair.user].id) == pair.user;
      of_users += pair.user_before == kNone ? users_[pair.user].pairs : 0;
      unordered += pair.before != before;
      unordered += before != kNone && pairs_[before].instant_ms > pair.instant_ms;
      before = at;
    }
    std::vector<std::string> broken;
    if (chained != size_) broken.emplace_back("the chain has not all open pairs");
    if (found != size_) broken.emplace_back("an open pair is not found by its user and item");
    if (of_users != size_) broken.emplace_back("the users have not all open pairs");
    if (unordered != 0) broken.emplace_back("the chain is not in order of time");
    return broken;
  }

 private:
  static constexpr std::size_t kAhead = 16;  // lines asked for before they are needed

  [[nodiscard]] std::uint64_t mixed(std::uint64_t x) const noexcept {
    __extension__ using Wide = unsigned __int128;
    const Wide product = Wide{x ^ seed_} * 0x9e3779b97f4a7c15u;
    const std::uint64_t folded =
        static_cast<std::uint64_t>(product) ^ static_cast<std::uint64_t>(product >> 64);
    const Wide again = Wide{folded ^ (seed_ >> 32 | seed_ << 32)} * 0xd6e8feb86659fd93u;
    return static_cast<std::uint64_t>(again) ^ static_cast<std::uint64_t>(again >> 64);
  }
  [[nodiscard]] std::uint32_t hash_of(LedgerUser user) const noexcept {
    return static_cast<std::uint32_t>(mixed(user.key + user.kind * 0xa0761d6478bd642fu));
  }
  [[nodiscard]] std::uint32_t hash_of(std::uint32_t user, std::uint64_t item) const noexcept {
    return static_cast<std::uint32_t>(mixed(item + user * 0xa0761d6478bd642fu));
  }
  [[nodiscard]] std::uint32_t find(std::uint32_t user, std::uint64_t item,
                                   std::uint32_t hash) const noexcept {
    return pair_index_.find(
        hash, [&](std::uint32_t at) { return pairs_[at].item == item && pairs_[at].user == user; });
  }

  std::uint32_t opened(LedgerUser id) {
    const std::uint32_t known = find(id);
    if (known != kNone) return known;
    std::uint32_t at = free_user_;
    if (at == kNone) at = ++users_made_;
    free_user_ = users_[at].first;
    users_[at] = {id, kNone, 0, hash_of(id)};
    user_index_.insert(users_[at].hash, at);
    ++users_open_;
    return at;
  }

  void leave(const Pair& pair) noexcept {
    User& user = users_[pair.user];
    (pair.user_before == kNone ? user.first : pairs_[pair.user_before].user_after) =
        pair.user_after;
    if (pair.user_after != kNone) pairs_[pair.user_after].user_before = pair.user_before;
    if (--user.pairs != 0) return;
    user_index_.erase(user.hash, pair.user);
    user = {};
    user.first = free_user_;
    free_user_ = pair.user;
    --users_open_;
  }

  // The newest instant is last.
  void chain(std::uint32_t at) noexcept {
    pairs_[at].before = newest_;
    pairs_[at].after = kNone;
    (newest_ == kNone ? oldest_ : pairs_[newest_].after) = at;
    newest_ = at;
  }
  void unchain(const Pair& pair) noexcept {
    (pair.before == kNone ? oldest_ : pairs_[pair.before].after) = pair.after;
    (pair.after == kNone ? newest_ : pairs_[pair.after].before) = pair.before;
  }

  std::size_t capacity_;
  std::uint64_t seed_;
  OpenIndex pair_index_;
  OpenIndex user_index_;
  ZeroedArray<Pair> pairs_;
  ZeroedArray<User> users_;
  std::uint32_t free_pair_ = kNone;
  std::uint32_t free_user_ = kNone;
  std::uint32_t pairs_made_ = 0;
  std::uint32_t users_made_ = 0;
  std::uint32_t oldest_ = kNone;
  std::uint32_t newest_ = kNone;
  std::size_t size_ = 0;
  std::size_t users_open_ = 0;
};

}  // namespace predawn
