// What must hold of a set at every write and at the end. Included by set_model.hpp alone.
#pragma once

#include "set_model.hpp"

namespace predawn {

inline void Model::wrote(const void* at, std::uint64_t old, std::uint64_t now) {
  const auto* place = static_cast<const std::byte*>(at);
  if (at == &words_.line.word) return wrote_word(SetWord(old), SetWord(now));
  if (place < words_.slots) {
    const auto way = static_cast<const M::Word<std::uint32_t>*>(at) - words_.line.tags;
    return wrote_tag(static_cast<unsigned>(way), Tag(static_cast<std::uint32_t>(old)),
                     Tag(static_cast<std::uint32_t>(now)));
  }
  if (place < words_.slots + sizeof words_.slots) {
    const auto index = static_cast<std::size_t>(place - words_.slots) / kModelSlot;
    check(ghosts_.claimer[index] == explorer_->running(), "only its claimer writes a slot");
  }
}

inline void Model::wrote_word(SetWord old, SetWord now) {
  check(now.version() == old.version() + 1, "every change of the word counts its version");
  if (now.pending() && !old.pending() && !now.publishes()) {
    const int fiber = explorer_->running();
    ghosts_.is_wanted_removal = fiber != kNobody && (ghosts_.removing >> fiber & 1) != 0;
  }
  for (unsigned index = 0; index < kSlots; ++index) {
    int& claimer = ghosts_.claimer[index];
    if (old.is_claimed(index) == now.is_claimed(index)) continue;
    explorer_->note_shared(index * 64 + static_cast<unsigned>(explorer_->running() + 1));
    if (now.is_claimed(index)) {
      check(claimer == kNobody, "a slot is claimed by one writer only");
      for (unsigned way = 0; way < kWays; ++way) {
        check(!(is_live(tag(way)) && tag(way).slot() == index), "a claimed slot was free");
      }
      claimer = explorer_->running();
      continue;
    }
    if (old.pending() && !now.pending() && old.slot() == index) {
      check(!options_.is_strict || (tag(old.way()).valid() && tag(old.way()).slot() == index),
            "a finished publication has its tag");
    } else {
      check(claimer == explorer_->running() || claimer == kNobody || explorer_->is_dead(claimer),
            "a claim is released by its writer, or after its death");
    }
    claimer = kNobody;
  }
  if (old.pending() && !now.pending() && !old.publishes() && options_.is_strict) {
    check(!tag(old.way()).valid(), "a finished removal has cleared its tag");
  }
}

inline void Model::wrote_tag(unsigned way, Tag old, Tag now) {
  if (now.same_but_hints(old)) return;
  const SetWord at = word();
  const bool is_due = at.pending() && at.way() == way &&
                      (now.valid() ? at.publishes() && at.slot() == now.slot() : !at.publishes());
  check(is_due || !options_.is_strict, "a tag changes only as the word announces");
  const bool had = is_live(old);
  const unsigned lost = had ? static_cast<unsigned>(slot(old.slot())->key_lo.peek()) : kModelKeys;
  if (now.valid() && (is_live(now) || options_.is_strict)) published(way, now);
  if (now.valid() || ghosts_.is_wanted_removal) ++ghosts_.successes;
  const bool overwrites = is_live(now) && slot(now.slot())->key_lo.peek() == lost;
  if (had && !overwrites && lost < kModelKeys) ++ghosts_.lost[lost];
  explorer_->note_shared(std::uint64_t{now.word()} << 8 | lost);
}

inline void Model::published(unsigned way, Tag now) {
  const SlotHeader<M>* at = slot(now.slot());
  const std::uint64_t first = row_word(now.slot(), 0);
  const auto number = static_cast<unsigned>(first) % kModelPuts;
  const auto key = static_cast<unsigned>(first >> 32) % kModelKeys;
  check(is_live(now) && number != 0, "a published slot is complete");
  check(first == row_word(now.slot(), 1), "a published row is not torn");
  check(at->key_lo.peek() == key && now.fingerprint() == fingerprint(key),
        "a published row is of its key");
  check(ghosts_.order[number] == 0 || !options_.is_strict, "a put is published once");
  for (unsigned other = 0; other < kWays; ++other) {
    check(other == way || !is_live(tag(other)) || slot(tag(other).slot())->key_lo.peek() != key,
          "no two tags are of one key");
  }
  if (ghosts_.order[number] == 0) ghosts_.order[number] = ++ghosts_.newest[key];
  explorer_->note_shared(std::uint64_t{number} << 32 | ghosts_.order[number]);
}

// Everybody has ended, or never runs again. The dead are reaped; then a put must succeed.
inline void Model::finish() {
  for (unsigned round = 0; round < kModelLines; ++round) {
    for (unsigned line = 0; line < kModelLines; ++line) {
      if (!may_run(line)) reap(line);
    }
  }
  for (unsigned index = 0; index < kSlots; ++index) {
    bool is_named = false;
    for (unsigned line = 0; line < kModelLines; ++line) {
      const int fiber = ghosts_.writer_of[line];
      const bool is_stopped = fiber < static_cast<int>(scenario_.fibers.size()) &&
                              !explorer_->has_ended(fiber) && may_run(line);
      is_named |= is_stopped && ClaimNote(words_.journal[line].claim.peek()).names(0, index);
    }
    check(!word().is_claimed(index) || is_named,
          "no claim is left but one named by a stopped writer");
  }
  ghosts_.writer_of[kModelLines - 1] = INT32_MAX;
  const unsigned probe = next_number(kModelLines - 1);
  const PutResult result = put_once(kModelLines - 1, 0, kModelKeys - 1, probe, true);
  check(result.end == PutEnd::kInserted, "a put succeeds beside stopped writers");
  check(ghosts_.order[probe] != 0, "a finished put is published");
  std::uint32_t named = word().claimed();
  for (unsigned way = 0; way < kWays; ++way) {
    if (!tag(way).valid() || (!options_.is_strict && !is_live(tag(way)))) continue;
    check(is_live(tag(way)), "a tag names its slot's present writing");
    check((named >> tag(way).slot() & 1) == 0, "a slot is claimed, or named by one tag");
    named |= 1u << tag(way).slot();
  }
}

}  // namespace predawn
