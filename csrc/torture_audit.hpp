// What is looked at while torturers are stopped, after they have been killed, and after a restart.
//
// What: `choose_keys`, `Audit`.
// When not: killing and stopping (bench/torture.py).
// Functions: `put_beside` while the named torturers are stopped; `stuck_sets` when all are dead;
//   `found` at any time. `plant_...` damage a store on purpose: they show that damage is found.
// Design: an attachment of its own, under the supervisor's number. Its own puts go to keys that
//   nobody else writes, chosen for the set that they have to go to.
// Memory: that of a torturer. Cost: a walk over the sets.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <numeric>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "torture.hpp"

namespace predawn::torture {

// Ids for all keys of the plan. `crowd` > 0: they all fall into so many sets; `twins`: with the
// same fingerprint, too.
inline void choose_keys(Oracle& oracle, const Table& table, std::uint32_t crowd, bool twins,
                        std::uint64_t seed) {
  Random random(seed);
  for (std::uint32_t key = 0; key < oracle.plan.keys; ++key) {
    for (;;) {
      const std::uint64_t id = random.next() & ~kProbeId;
      const Place place = table.place({id, ~id});
      if (crowd != 0 && place.set >= crowd) continue;
      if (twins && place.fingerprint != 0x5a5) continue;
      oracle.keys[key].id = id;
      break;
    }
  }
}

struct Beside {
  std::uint64_t claims = 0;  // that the stopped ones hold
  std::uint64_t puts = 0;    // into sets with such claims that succeeded
  std::uint64_t failed = 0;
};

class Audit {
 public:
  Audit(Oracle& oracle, const std::string& path, std::uint64_t seed)
      : oracle_(oracle),
        cache_(Cache::attach(path, {.huge_pages = false})),
        torturer_(oracle, *cache_, kSupervisor, seed),
        random_(seed) {}

  [[nodiscard]] Cache& cache() noexcept { return *cache_; }

  void close() {
    cache_->close();
    oracle_.workers[kSupervisor].attachment.store(0, std::memory_order_release);
  }

  // How many of all keys are there.
  [[nodiscard]] std::uint64_t found() {
    std::vector<std::uint32_t> keys(oracle_.plan.keys);
    std::iota(keys.begin(), keys.end(), 0u);
    std::uint64_t found = 0;
    for (std::size_t at = 0; at < keys.size(); at += kPart) {
      found += torturer_.read(std::span(keys).subspan(at, std::min(kPart, keys.size() - at)));
    }
    return found;
  }

  // Puts into the sets in which these torturers, who are stopped, hold a slot.
  [[nodiscard]] Beside put_beside(std::span<const std::uint32_t> stopped) {
    Beside beside;
    for (const std::uint32_t number : stopped) {
      const std::uint32_t attachment = oracle_.workers[number].attachment.load();
      if (attachment == 0) continue;
      for (const auto& line : cache_->segment().preamble().journal) {
        const OwnerNote owner(line.owner.load(std::memory_order_acquire));
        const ClaimNote claim(line.claim.load(std::memory_order_acquire));
        if (!owner.used() || owner.attachment() != attachment - 1 || !claim.active()) continue;
        if (!load_word(*cache_->table().set(claim.set()).line).is_claimed(claim.slot())) continue;
        ++beside.claims;
        put_in(claim.set(), number, beside);
      }
    }
    return beside;
  }

  // Sets that somebody who is dead still holds, or that take no put. All torturers are dead.
  [[nodiscard]] std::uint64_t stuck_sets() {
    (void)cache_->reap();
    std::uint64_t stuck = 0;
    for (std::uint64_t set = 0; set < cache_->table().sets(); ++set) {
      const bool is_held = word_of(set).claimed() != 0;
      const bool takes_put = probe(set);
      const SetWord word = word_of(set);
      if (is_held || !takes_put || word.pending() || word.claimed() != 0) ++stuck;
    }
    return stuck;
  }

  [[nodiscard]] std::uint64_t claimed_sets() const {
    std::uint64_t claimed = 0;
    for (std::uint64_t set = 0; set < cache_->table().sets(); ++set) {
      claimed += word_of(set).claimed() != 0 || word_of(set).pending() ? 1 : 0;
    }
    return claimed;
  }

  // Flips bits in the rows of some entries.
  void plant_torn() {
    change_rows([](float* row) { reinterpret_cast<unsigned char*>(row)[37] ^= 8; });
  }

  // Gives some entries the row of another key.
  void plant_wrong_key() {
    change_rows([](float* row) {
      Written written = read_row(row).written;
      written.key ^= 1;
      make_row(written, row);
    });
  }

  // Writes values that were overwritten long ago, or that nobody has written.
  void plant_stamp(bool is_old) {
    for (std::uint32_t key = oracle_.plan.shared; key < oracle_.plan.keys; ++key) {
      const KeyHistory& history = oracle_.keys[key];
      if (history.finished.load() < 2) continue;
      const Stamp stamp = is_old ? 1 : history.clock.load() + 1'000'000;
      put({key, oracle_.epoch.load(), stamp, 0}, oracle_.key(key));
    }
  }

  // A claim that no note knows of.
  void plant_stuck() {
    cache_->table().set(0).line->word.fetch_or(1u << 7, std::memory_order_acq_rel);
  }

 private:
  static constexpr std::size_t kPart = 256;
  static constexpr unsigned kPutTries = 4;
  static constexpr unsigned kPutsBeside = 4;

  [[nodiscard]] SetWord word_of(std::uint64_t set) const {
    return load_word(*cache_->table().set(set).line);
  }

  bool put(const Written& written, const Key& key) {
    std::array<float, kDim> row;
    make_row(written, row.data());
    const PutMeta meta{written.at_ms, written.epoch, written.origin()};
    return cache_->put_many(std::span(&key, 1), row.data(), meta) == 1;
  }

  // A put of a key of its own into that set.
  bool probe(std::uint64_t set) {
    Key key;
    do {
      const std::uint64_t id = random_.next() | kProbeId;
      key = {id, ~id};
    } while (cache_->table().place(key).set != set);
    return put({kProbe, oracle_.epoch.load(), 1, 0}, key);
  }

  // Others, who run, may make a put give up; again and again they do not.
  void put_in(std::uint64_t set, std::uint32_t number, Beside& beside) {
    for (unsigned i = 0; i < kPutsBeside; ++i) {
      unsigned tries = 0;
      while (tries < kPutTries && !probe(set)) ++tries;
      if (tries < kPutTries) {
        ++beside.puts;
      } else {
        ++beside.failed;
        oracle_.report({Wrong::kBlocked, number, 0, 0, set, word_of(set).word(), 0, 0});
      }
    }
  }

  template <class Change>
  void change_rows(Change change) {
    for (std::uint64_t set = 0; set < cache_->table().sets(); ++set) {
      const Set held = cache_->table().set(set);
      const Tag tag(held.line->tags[random_.below(kWays)].load(std::memory_order_acquire));
      if (tag.valid()) change(reinterpret_cast<float*>(row_of(held.slot(tag.slot()))));
    }
  }

  Oracle& oracle_;
  std::unique_ptr<Cache> cache_;
  Torturer torturer_;
  Random random_;
};

}  // namespace predawn::torture
