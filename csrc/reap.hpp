// Taking back the claim of a writer that has died.
//
// What: `reap_line`: one journal line of a dead writer.
// When not: writers that are merely stopped: their claims stay theirs.
// Functions: safe beside readers, writers and other reapers; a reaper that dies midway leaves
//   nothing to repair.
// Design: a note does not prove that the claim is the dead writer's own. It may have died before
//   its claim, or after its end, and a living writer may hold the slot now. So: if the slot is
//   not claimed, only the note goes; if a living writer's note names the slot, both stay for later;
//   else the claim is taken back by an exchange from the word that was read before the notes were.
//   A living holder's note names the slot from before its claim until after its end, so the
//   exchange cannot hit a claim of the living. The note is cleared by an exchange from the exact
//   word, which carries the line's generation: it never clears a note of the line's next owner.
//   (1) word.load(acquire) before the notes are read: who sees a claim sees its note, (4) of
//       set_write.hpp.
// Memory: none. Cost: a look at every journal line.
#pragma once

#include "journal.hpp"
#include "set_help.hpp"

namespace predawn {

inline constexpr unsigned kReapTries = 64;

enum class ReapEnd : std::uint8_t { kNothing, kReleased, kLater };

namespace detail {

template <class A>
void clear_note(JournalLine<A>& line, ClaimNote note) noexcept {
  std::uint64_t expected = note.word();
  line.claim.compare_exchange_strong(expected, ClaimNote::none(note.generation()).word(),
                                     std::memory_order_acq_rel);
}

}  // namespace detail

// `set_at(index) -> SetRef`; `is_living(index)`: whether the owner of that line may still run.
// kLater: a living writer names the same slot, or the set is too busy; ask again.
template <class A, class SetAt, class IsLiving>
ReapEnd reap_line(JournalLine<A>* lines, std::size_t count, std::size_t dead, SetAt&& set_at,
                  IsLiving&& is_living) noexcept {
  const ClaimNote note(lines[dead].claim.load(std::memory_order_acquire));
  // Asked after the note was read: another reaper may have cleared the line of the dead, and its
  // next owner have noted a claim of its own.
  if (!note.active() || is_living(dead)) return ReapEnd::kNothing;
  const SetRef<A> set = set_at(note.set());
  for (unsigned tries = 0; tries < kReapTries; ++tries) {
    const SetWord word = load_word(*set.line);  // (1)
    if (word.pending()) {
      help(set, word);
      continue;
    }
    if (!word.is_claimed(note.slot())) {
      detail::clear_note(lines[dead], note);
      return ReapEnd::kNothing;
    }
    for (std::size_t other = 0; other < count; ++other) {
      const ClaimNote named(lines[other].claim.load(std::memory_order_acquire));
      if (named.names(note.set(), note.slot()) && is_living(other)) return ReapEnd::kLater;
    }
    const SetWord released(word.word() + SetWord::release_of(note.slot()));
    if (!exchange_word(*set.line, word, released)) continue;
    detail::clear_note(lines[dead], note);
    return ReapEnd::kReleased;
  }
  return ReapEnd::kLater;
}

}  // namespace predawn
