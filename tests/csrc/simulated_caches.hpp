// Caches without rows: the store's eviction policy, and what it is held against.
//
// What: `Cache`; `PolicyCache` (csrc/policy.hpp in every set, steered or not); `GlobalLru`,
//   `GlobalSieve` (one list over all entries, as their authors wrote them); `SetLru`, `SetSieve`
//   (the same, exact, within sets of as many ways as the store's).
// Design: one thread, nothing expires. Fills of a key that is present change nothing but, in a
//   `PolicyCache`, its order, as in the store.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "policy.hpp"
#include "simulated_traffic.hpp"
#include "steering.hpp"

namespace predawn::simulation {

class Cache {
 public:
  Cache() = default;
  Cache(const Cache&) = delete;
  Cache& operator=(const Cache&) = delete;
  virtual ~Cache() = default;

  virtual bool read(std::uint32_t key) = 0;
  virtual void fill(std::uint32_t key, bool speculative) = 0;
  // What the policy steers by at the moment.
  [[nodiscard]] virtual SteeringDecision follows() const { return {}; }
};

[[nodiscard]] inline std::uint64_t sets_of(std::uint64_t capacity) {
  return (capacity + kWays - 1) / kWays;
}
[[nodiscard]] inline std::uint64_t set_of(std::uint32_t key, std::uint64_t seed,
                                          std::uint64_t sets) {
  const std::uint64_t hash = Random::mixed(key + (seed + 1) * 0x9e3779b97f4a7c15u) >> 32;
  return hash * sets >> 32;
}

// `fixed`: what all sets follow; none: what they learn.
class PolicyCache final : public Cache {
 public:
  PolicyCache(std::uint64_t capacity, std::uint64_t seed, std::optional<SteeringDecision> fixed)
      : leaders_(sets_of(capacity)), seed_(seed), fixed_(fixed), sets_(sets_of(capacity)) {}

  bool read(std::uint32_t key) override {
    const std::uint64_t at = set_of(key, seed_, sets_.size());
    Set& set = sets_[at];
    if (const unsigned way = set.find(key); way < kWays) {
      set.tags[way] = set.tags[way].with(Tag::kVisited | Tag::kDemanded);
      return true;
    }
    misses_.count(leaders_.group_of(at));
    if (++counted_ % kBatch == 0) steering_.record(std::exchange(misses_, MissTally{}));
    return false;
  }

  void fill(std::uint32_t key, bool speculative) override {
    const std::uint64_t at = set_of(key, seed_, sets_.size());
    Set& set = sets_[at];
    const std::uint32_t order = fills_++;
    if (const unsigned way = set.find(key); way < kWays) {
      set.orders[way] = order;
      return;
    }
    const SteeringDecision decision =
        fixed_.value_or(steering_.decision_for(leaders_.group_of(at)));
    const PolicyView view{.tags = set.tags,
                          .hand = set.hand,
                          .speculative = speculative,
                          .quota = decision.quota,
                          .rule = decision.rule};
    const Choice choice =
        choose(view, [](unsigned) { return false; }, [&](unsigned way) { return set.orders[way]; });
    set.carry_out(choice);
    set.keys[choice.way] = key;
    set.orders[choice.way] = order;
    set.tags[choice.way] = Tag(0, 0, 0, 0, speculative ? 0 : Tag::kDemanded);
  }

  [[nodiscard]] SteeringDecision follows() const override {
    return fixed_.value_or(steering_.decision_for(Group::kOutside));
  }

 private:
  static constexpr unsigned kBatch = 100;  // misses that readers report at once

  struct Set {
    std::array<Tag, kWays> tags{};
    std::array<std::uint32_t, kWays> keys{};
    std::array<std::uint32_t, kWays> orders{};
    unsigned hand = 0;

    [[nodiscard]] unsigned find(std::uint32_t key) const {
      for (unsigned way = 0; way < kWays; ++way) {
        if (keys[way] == key && tags[way].valid()) return way;
      }
      return kWays;
    }
    void carry_out(const Choice& choice) {
      hand = choice.hand;
      for (unsigned way = 0; way < kWays; ++way) {
        if ((choice.unvisit >> way & 1u) != 0) tags[way] = tags[way].without(Tag::kVisited);
        if ((choice.survive >> way & 1u) != 0) tags[way] = tags[way].with(Tag::kSurvived);
        if ((choice.renew >> way & 1u) != 0) tags[way] = tags[way].without(Tag::kSurvived);
      }
    }
  };

  Leaders leaders_;
  std::uint64_t seed_;
  std::optional<SteeringDecision> fixed_;
  std::vector<Set> sets_;
  Steering steering_{};
  MissTally misses_;
  std::uint64_t counted_ = 0;
  std::uint32_t fills_ = 0;
};

// Entries in one list, the newest (LRU: the latest read) first.
class ListCache : public Cache {
 public:
  ListCache(std::uint64_t capacity, std::uint64_t keys)
      : capacity_(capacity), end_(static_cast<std::uint32_t>(keys)), nodes_(keys + 1) {
    nodes_[end_] = {end_, end_, true, false};
  }

  bool read(std::uint32_t key) override {
    if (!nodes_[key].present) return false;
    mark(key);
    return true;
  }
  void fill(std::uint32_t key, bool) override {
    if (nodes_[key].present) return;
    if (size_ == capacity_) {
      unlink(victim());
    } else {
      ++size_;
    }
    push_front(key);
  }

 protected:
  struct Node {
    std::uint32_t next = 0;
    std::uint32_t previous = 0;
    bool present = false;
    bool visited = false;
  };

  virtual void mark(std::uint32_t key) = 0;
  virtual std::uint32_t victim() = 0;

  [[nodiscard]] Node& node(std::uint32_t key) { return nodes_[key]; }
  [[nodiscard]] std::uint32_t end() const { return end_; }
  [[nodiscard]] std::uint32_t last() const { return nodes_[end_].previous; }
  void unlink(std::uint32_t key) {
    Node& gone = nodes_[key];
    nodes_[gone.previous].next = gone.next;
    nodes_[gone.next].previous = gone.previous;
    gone.present = false;
  }
  void push_front(std::uint32_t key) {
    nodes_[key] = {nodes_[end_].next, end_, true, false};
    nodes_[nodes_[end_].next].previous = key;
    nodes_[end_].next = key;
  }

 private:
  std::uint64_t capacity_;
  std::uint64_t size_ = 0;
  std::uint32_t end_;
  std::vector<Node> nodes_;
};

class GlobalLru final : public ListCache {
  using ListCache::ListCache;
  void mark(std::uint32_t key) override {
    unlink(key);
    push_front(key);
  }
  std::uint32_t victim() override { return last(); }
};

// Zhang et al., "SIEVE is simpler than LRU", NSDI 2024, algorithm 1.
class GlobalSieve final : public ListCache {
 public:
  GlobalSieve(std::uint64_t capacity, std::uint64_t keys)
      : ListCache(capacity, keys), hand_(end()) {}

 private:
  void mark(std::uint32_t key) override { node(key).visited = true; }
  std::uint32_t victim() override {
    std::uint32_t at = hand_ == end() ? last() : hand_;
    while (node(at).visited) {
      node(at).visited = false;
      at = node(at).previous == end() ? last() : node(at).previous;
    }
    hand_ = node(at).previous;
    return at;
  }
  std::uint32_t hand_;
};

// Sets of `kWays` entries, the oldest (LRU: the longest unread) first.
class SetCache : public Cache {
 public:
  SetCache(std::uint64_t capacity, std::uint64_t seed) : seed_(seed), sets_(sets_of(capacity)) {}

  void fill(std::uint32_t key, bool) override {
    Set& set = of(key);
    if (set.find(key) < set.size) return;
    if (set.size == kWays) set.erase(victim(set));
    set.entries[set.size++] = {key, false};
  }

 protected:
  struct Entry {
    std::uint32_t key = 0;
    bool visited = false;
  };
  struct Set {
    std::array<Entry, kWays> entries{};
    unsigned size = 0;
    unsigned hand = 0;

    [[nodiscard]] unsigned find(std::uint32_t key) const {
      unsigned at = 0;
      while (at < size && entries[at].key != key) ++at;
      return at;
    }
    void erase(unsigned at) { std::move(&entries[at + 1], &entries[size--], &entries[at]); }
  };

  virtual unsigned victim(Set& set) = 0;
  [[nodiscard]] Set& of(std::uint32_t key) { return sets_[set_of(key, seed_, sets_.size())]; }

 private:
  std::uint64_t seed_;
  std::vector<Set> sets_;
};

class SetLru final : public SetCache {
 public:
  using SetCache::SetCache;
  bool read(std::uint32_t key) override {
    Set& set = of(key);
    const unsigned at = set.find(key);
    if (at == set.size) return false;
    std::rotate(&set.entries[at], &set.entries[at + 1], &set.entries[set.size]);
    return true;
  }

 private:
  unsigned victim(Set&) override { return 0; }
};

class SetSieve final : public SetCache {
 public:
  using SetCache::SetCache;
  bool read(std::uint32_t key) override {
    Set& set = of(key);
    const unsigned at = set.find(key);
    if (at < set.size) set.entries[at].visited = true;
    return at < set.size;
  }

 private:
  unsigned victim(Set& set) override {
    unsigned at = set.hand % kWays;
    while (set.entries[at].visited) {
      set.entries[at].visited = false;
      at = (at + 1) % kWays;
    }
    return set.hand = at;
  }
};

}  // namespace predawn::simulation
