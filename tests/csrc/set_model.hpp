// One set or two in the explorer's hands: the real protocol code, and what must hold of it.
//
// What: `Model` owns the shared words and judges every write to them; its operations (`put`,
//   `get`, `remove`, `reap`) call the protocol headers and judge what comes back.
// Design: every put has a number of its own, written into both words of its row. The judge sees
//   each write as it happens, so it knows when an entry is published (a tag names it) or lost, who
//   holds which claim, and in which order the puts of a key were published. Properties:
//   see the texts given to `check`; they are cache.md's.
#pragma once

#include <array>
#include <cstring>
#include <vector>

#include "explorer.hpp"
#include "reap.hpp"
#include "set_write.hpp"

namespace predawn {

using M = ModelAtomics;

inline constexpr std::size_t kModelRow = 16;
inline constexpr std::size_t kModelSlot = slot_bytes(kModelRow);
inline constexpr unsigned kModelLines = 6;
inline constexpr unsigned kModelKeys = 64;
inline constexpr unsigned kModelPutsPerLine = 1024;
inline constexpr unsigned kModelPuts = kModelPutsPerLine * (kModelLines + 1);

struct ModelWords {
  SetLine<M> line;
  alignas(kLineBytes) std::byte slots[kSlots * kModelSlot];
  JournalLine<M> journal[kModelLines];
};

// What the judge knows. Copied back at the start of every schedule.
struct Ghosts {
  std::array<std::uint16_t, kModelPuts> order{};  // of a put among those of its key; 0: unpublished
  std::array<std::uint16_t, kModelKeys> newest{};  // order of the key's newest publication
  std::array<std::uint16_t, kModelKeys> lost{};    // how often the key left the set
  std::array<int, kSlots> claimer{};
  std::array<int, kModelLines> writer_of{};           // fiber that leases a line
  std::array<std::uint16_t, kModelLines + 1> puts{};  // started by a line; the last: prefilled
  unsigned removing = 0;                              // fibers inside `remove`, a bit each
  bool is_wanted_removal = false;  // the pending one: not made by a put that needs a slot
  unsigned successes = 0;          // puts and removals that took effect
};

struct ModelOptions {
  unsigned writers = 2;           // for the budget: 4 * writers + 4
  unsigned budget = 0;            // if not 0: so few that puts give up early
  std::uint32_t fingerprint = 0;  // of all keys if not 0: they collide
  Rule rule = Rule::kClock;
  unsigned quota = 1;
  bool is_strict = true;  // no late change of a tag may succeed
};

class Model {
 public:
  explicit Model(ModelOptions options) : options_(options) {
    std::memset(static_cast<void*>(&words_), 0, sizeof words_);
    ghosts_.claimer.fill(kNobody);
    for (unsigned line = 0; line < kModelLines; ++line) {
      ghosts_.writer_of[line] = static_cast<int>(line);
    }
  }

  // Before `start`: what the set holds at the beginning.
  void start_seq(std::uint64_t seq);
  void prefill(unsigned key, std::uint32_t hints);
  void add(std::function<void()> body, bool may_end = false) {
    scenario_.fibers.push_back({std::move(body), may_end});
  }
  Explorer& start(std::size_t states_log2);

  // Operations, for fibers. `line`: the journal line leased.
  PutEnd put(unsigned line, unsigned key, bool is_demanded = true);
  void get(unsigned key, unsigned calls, bool marks = true);
  void scan(unsigned first_way, unsigned ways);
  void remove(unsigned key);
  ReapEnd reap(unsigned line);
  void take_over(unsigned line, unsigned key);
  void put_quietly(unsigned line, unsigned key, unsigned times);

 private:
  [[nodiscard]] SetRef<M> set() noexcept { return {&words_.line, words_.slots, kModelSlot}; }
  [[nodiscard]] SetWord word() const noexcept { return SetWord(words_.line.word.peek()); }
  [[nodiscard]] Tag tag(unsigned way) const noexcept { return Tag(words_.line.tags[way].peek()); }
  [[nodiscard]] std::uint32_t fingerprint(unsigned key) const noexcept {
    return options_.fingerprint != 0 ? options_.fingerprint : key;
  }
  [[nodiscard]] SlotHeader<M>* slot(unsigned index) noexcept { return set().slot(index); }
  [[nodiscard]] std::uint64_t row_word(unsigned index, std::size_t at) noexcept {
    return reinterpret_cast<M::Word<std::uint64_t>*>(row_of(slot(index)) + at * 8)->peek();
  }
  // Whether the tag names its slot's present, complete writing.
  [[nodiscard]] bool is_live(Tag tag) noexcept {
    const std::uint64_t seq = slot(tag.slot())->seq.peek();
    return tag.valid() && (seq & 1) == 0 && Tag::ver_of(seq) == tag.ver();
  }
  [[nodiscard]] int way_of(unsigned key) noexcept;
  [[nodiscard]] bool may_run(unsigned line) const noexcept {
    const int fiber = ghosts_.writer_of[line];
    return fiber >= static_cast<int>(scenario_.fibers.size()) || !explorer_->is_dead(fiber);
  }
  [[nodiscard]] unsigned next_number(unsigned line) noexcept {
    return line * kModelPutsPerLine + 1 + ghosts_.puts[line]++;
  }
  [[nodiscard]] unsigned budget() const noexcept {
    return options_.budget != 0 ? options_.budget : 4 * options_.writers + 4;
  }
  [[nodiscard]] static std::uint64_t word_of(unsigned put, unsigned key) noexcept {
    return std::uint64_t{put} | std::uint64_t{key} << 32;
  }

  void wrote(const void* at, std::uint64_t old, std::uint64_t now);
  void wrote_word(SetWord old, SetWord now);
  void wrote_tag(unsigned way, Tag old, Tag now);
  void published(unsigned way, Tag now);
  void finish();
  void reset() {
    words_ = image_;
    ghosts_ = image_ghosts_;
  }
  PutResult put_once(unsigned line, std::uint16_t generation, unsigned key, unsigned number,
                     bool is_demanded);
  void judge_row(unsigned key, const std::uint64_t* row, unsigned newest_before, unsigned& seen);
  void check(bool holds, const char* property) { explorer_->check(holds, property); }

  ModelOptions options_;
  ModelWords words_, image_;
  Ghosts ghosts_, image_ghosts_;
  Scenario scenario_;
  std::unique_ptr<Explorer> explorer_;
  unsigned filled_ = 0;
};

inline void Model::start_seq(std::uint64_t seq) {
  for (unsigned i = 0; i < kSlots; ++i) {
    new (slot(i)) SlotHeader<M>{};
    std::memcpy(static_cast<void*>(&slot(i)->seq), &seq, sizeof seq);
  }
}

inline int Model::way_of(unsigned key) noexcept {
  for (unsigned way = 0; way < kWays; ++way) {
    if (is_live(tag(way)) && slot(tag(way).slot())->key_lo.peek() == key) {
      return static_cast<int>(way);
    }
  }
  return kNobody;
}

// Written as it would lie there after a put, without one: in way and slot `filled_`.
inline void Model::prefill(unsigned key, std::uint32_t hints) {
  const unsigned at = filled_++;
  const unsigned number = next_number(kModelLines);
  const std::uint64_t seq = slot(at)->seq.peek() + 2;
  const SlotAbout about(fingerprint(key), 0, hints, 0);
  const std::uint64_t row[2] = {word_of(number, key), word_of(number, key)};
  const std::uint64_t head[2] = {seq, key};
  std::memcpy(static_cast<void*>(slot(at)), head, sizeof head);
  const std::uint32_t rest[2] = {about.word(), at};
  std::memcpy(static_cast<void*>(&slot(at)->about), rest, sizeof rest);
  std::memcpy(row_of(slot(at)), row, sizeof row);
  const std::uint32_t tag = about.tag(at, seq).word();
  std::memcpy(static_cast<void*>(&words_.line.tags[at]), &tag, sizeof tag);
  ghosts_.order[number] = ++ghosts_.newest[key];
}

inline Explorer& Model::start(std::size_t states_log2) {
  image_ = words_;
  image_ghosts_ = ghosts_;
  scenario_.words = &words_;
  scenario_.bytes = sizeof words_;
  scenario_.reset = [this] { reset(); };
  scenario_.wrote = [this](const void* at, std::uint64_t old, std::uint64_t now) {
    wrote(at, old, now);
  };
  scenario_.finish = [this] { finish(); };
  explorer_ = std::make_unique<Explorer>(scenario_, states_log2);
  return *explorer_;
}

}  // namespace predawn

#include "set_model_judge.hpp"
#include "set_model_steps.hpp"
