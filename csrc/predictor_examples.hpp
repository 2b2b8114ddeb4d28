// Examples that wait for their outcome.
//
// What: `Waiting<T>`: a bounded first-in first-out line, all due so long after they came;
// `Examples`:
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

#include <bit>
#include <cstdint>
#include <vector>

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
