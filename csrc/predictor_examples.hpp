// Examples that wait for their outcome.
//
// What: `Sampler`: which are taken; `Waiting<T>`: a bounded first-in first-out line, all due so
// long after they came; `Examples`:
//   such a line of pairs, found again by pair.
// When not: outcomes of everything: a sample is enough, and whether a pair is in it must not depend
//   on what is done with it.
// Functions: `push` (false: full, not taken), `asked` (the pair has come in time), `pop_due`. One
//   thread; instants ascend.
// Design: a ring, and for pairs a hash table of chains through it. An outcome is learnt when its
// ttl
//   is over, both kinds alike: who came early must not count before who never comes.
// Memory: all at creation. Cost: about 20 ns a look.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <vector>

#include "predictor_decay.hpp"
#include "predictor_slots.hpp"

namespace predawn::predictor {

template <class T>
class Waiting {
 public:
  explicit Waiting(std::size_t capacity) : ring_(std::bit_ceil(capacity)) {}

  [[nodiscard]] std::size_t size() const noexcept { return end_ - begin_; }
  [[nodiscard]] std::size_t capacity() const noexcept { return ring_.size(); }
  [[nodiscard]] bool is_full() const noexcept { return size() == ring_.size(); }
  [[nodiscard]] bool has_due(std::int64_t now_ms) const noexcept {
    return size() != 0 && ring_[begin_ & (ring_.size() - 1)].due_ms <= now_ms;
  }
  [[nodiscard]] T& front() noexcept { return ring_[begin_ & (ring_.size() - 1)]; }
  [[nodiscard]] T& at(std::uint32_t place) noexcept { return ring_[place]; }
  [[nodiscard]] std::uint32_t front_place() const noexcept {
    return static_cast<std::uint32_t>(begin_ & (ring_.size() - 1));
  }
  std::uint32_t push(const T& example) noexcept {
    const auto place = static_cast<std::uint32_t>(end_++ & (ring_.size() - 1));
    ring_[place] = example;
    return place;
  }
  void pop() noexcept { ++begin_; }

 private:
  std::vector<T> ring_;
  std::size_t begin_ = 0;
  std::size_t end_ = 0;
};

// Which of a stream are taken, so that a line of those that wait is about half full: a random
// share, by how many came lately. Whoever is not taken costs a decrement.
class Sampler {
 public:
  Sampler(std::size_t room, std::int64_t wait_ms, std::uint64_t seed)
      : wanted_(static_cast<float>(room) / 2),
        wait_ms_(static_cast<float>(wait_ms)),
        random_(mixed(seed)) {}

  // How many each that is taken stands for.
  [[nodiscard]] float weight() const noexcept { return 1 / share_; }

  [[nodiscard]] bool takes(std::int64_t now_ms) noexcept {
    ++came_;
    if (--skip_ > 0) return false;
    steer(now_ms);
    const double skip = std::log(uniform()) / std::log1p(-static_cast<double>(share_));
    skip_ = 1 + static_cast<std::int64_t>(std::min(skip, 1e6));
    return true;
  }

  [[nodiscard]] std::uint64_t next() noexcept { return mixed(random_ += 0x9e3779b97f4a7c15u); }
  // Between 0 and 1, both excluded.
  [[nodiscard]] double uniform() noexcept {
    return (static_cast<double>(next() >> 11) + 0.5) * 0x1p-53;
  }

 private:
  static constexpr float kMostShare = 1.0f;

  // What came since the beginning, or of late, tells what comes while an example waits.
  void steer(std::int64_t now_ms) noexcept {
    if (began_ms_ < 0) began_ms_ = now_ms;
    const float half_life = wait_ms_ / 4;
    rate_.add(static_cast<float>(came_), now_ms, half_life);
    came_ = 0;
    const float seen = 1 - left_after(now_ms - began_ms_, half_life);
    const float observed_ms = std::max(seen, 0.005f) * half_life * 1.442695f;
    const float in_a_wait = rate_.at(now_ms, half_life) / observed_ms * wait_ms_;
    share_ = std::clamp(wanted_ / std::max(in_a_wait, 1.0f), 1e-6f, kMostShare);
  }

  float wanted_;
  float wait_ms_;
  std::uint64_t random_;
  float share_ = kMostShare;
  std::int64_t skip_ = 1;
  std::int64_t began_ms_ = -1;
  std::uint64_t came_ = 0;
  Decayed rate_;
};

// A part of a pair's intensity: how often it is expected to be copied from one list.
struct CopyTerm {
  std::uint16_t bucket;
  float count;
};

// What a pair's chance was made of. draws: expected fresh draws of the pair, before the factors.
struct PairFeatures {
  static constexpr std::size_t kCopies = 4;
  float draws = 0;
  std::uint8_t sightings = 0;
  std::uint8_t missed = 0;
  std::uint8_t copies = 0;
  std::uint8_t rank = 0;
  std::uint8_t times = 0;
  std::uint8_t repeater = 0;
  CopyTerm copy[kCopies] = {};
};

struct PairExample {
  std::uint64_t pair;
  std::int64_t due_ms;
  PairFeatures features;
  float raw;     // chance before calibration
  float chance;  // as said
  float weight;
  std::uint32_t next;
  std::uint8_t origin;
  bool came;
};

class Examples {
 public:
  explicit Examples(std::size_t capacity)
      : line_(capacity), heads_(2 * line_.capacity(), kNoSlot) {}

  [[nodiscard]] std::size_t size() const noexcept { return line_.size(); }
  [[nodiscard]] std::size_t capacity() const noexcept { return line_.capacity(); }
  [[nodiscard]] std::uint64_t refused() const noexcept { return refused_; }

  bool push(PairExample example) noexcept {
    if (line_.is_full()) {
      ++refused_;
      return false;
    }
    std::uint32_t& head = heads_[cell(example.pair)];
    example.next = head;
    head = line_.push(example);
    return true;
  }

  void asked(std::uint64_t pair, std::int64_t now_ms) noexcept {
    for (std::uint32_t at = heads_[cell(pair)]; at != kNoSlot; at = line_.at(at).next) {
      PairExample& each = line_.at(at);
      if (each.pair == pair && now_ms <= each.due_ms) each.came = true;
    }
  }

  [[nodiscard]] bool has_due(std::int64_t now_ms) const noexcept { return line_.has_due(now_ms); }

  // The oldest; call only with one.
  PairExample pop() noexcept {
    const std::uint32_t place = line_.front_place();
    const PairExample example = line_.front();
    std::uint32_t* link = &heads_[cell(example.pair)];
    while (*link != place) link = &line_.at(*link).next;
    *link = example.next;
    line_.pop();
    return example;
  }

 private:
  [[nodiscard]] std::size_t cell(std::uint64_t pair) const noexcept {
    return mixed(pair) & (heads_.size() - 1);
  }

  Waiting<PairExample> line_;
  std::vector<std::uint32_t> heads_;
  std::uint64_t refused_ = 0;
};

}  // namespace predawn::predictor
