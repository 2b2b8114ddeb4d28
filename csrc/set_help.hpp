// Finishing the change that a set's word announces, whoever announced it.
//
// What: `help`; `finish`; `load_word`; `remove_way` (announce and finish a removal).
// When not: deciding what to change (set_write.hpp).
// Functions: safe from any thread of any process. One call of `help` is one attempt: when it
//   failed, somebody else changed the word, or a hint of the tag.
// Design: the tag to be written follows from the set's word and the slot alone, so every helper
//   computes the same. It takes effect at the compare-exchange of the tag.
//   (1) word.load(acquire) / compare_exchange(acq_rel) of the word: everything a writer did before
//       it announced its change is seen by who helps.
//   (2) A::reread(word): the slot and the tag that were read belong to this change.
//   (3) the tag's compare_exchange(release) pairs with tag.load(acquire) in set_read.hpp.
//   Known limit: a helper that sleeps between (2) and (3) while its way comes back to the very same
//   word (same slot, same fingerprint, ver gone round by 256) publishes a stale tag. Its ver does
//   not match its slot, so readers see nothing there, and writers treat such a tag as empty.
// Memory: none. Cost: two compare-exchanges.
#pragma once

#include "set_line.hpp"

namespace predawn {

template <class A>
[[nodiscard]] SetWord load_word(const SetLine<A>& line) noexcept {
  return SetWord(line.word.load(std::memory_order_acquire));  // (1)
}

template <class A>
[[nodiscard]] bool exchange_word(SetLine<A>& line, SetWord from, SetWord to) noexcept {
  std::uint64_t expected = from.word();
  return line.word.compare_exchange_strong(expected, to.word(), std::memory_order_acq_rel);  // (1)
}

template <class A>
void help(const SetRef<A>& set, SetWord word) noexcept {
  const unsigned slot = word.slot();
  auto& held = set.line->tags[word.way()];
  Tag wanted;
  if (word.publishes()) {
    const SlotHeader<A>* filled = set.slot(slot);
    const std::uint64_t seq = filled->seq.load(std::memory_order_relaxed);
    wanted = SlotAbout(filled->about.load(std::memory_order_relaxed)).tag(slot, seq);
  }
  const Tag now(held.load(std::memory_order_relaxed));
  if (!word.publishes()) wanted = now.without(Tag::kValid);
  if (A::reread(set.line->word) != word.word()) return;  // (2)
  if (!now.same_but_hints(wanted)) {
    std::uint32_t expected = now.word();
    if (!held.compare_exchange_strong(expected, wanted.word(), std::memory_order_acq_rel)) {  // (3)
      return;
    }
  }
  (void)exchange_word(*set.line, word, word.finished());
}

// Helps until what `announced` announces is done. The word alone does not say so by changing: a
// writer that gives up may release its claim meanwhile.
template <class A>
void finish(const SetRef<A>& set, SetWord announced) noexcept {
  for (SetWord now = announced; now.announces_as(announced); now = load_word(*set.line)) {
    help(set, now);
  }
}

// Announces the removal of `way`, whose tag was `tag` when the word was `word`, and finishes it.
// False: the word has changed, nothing was announced.
template <class A>
bool remove_way(const SetRef<A>& set, SetWord word, unsigned way, Tag tag) noexcept {
  const SetWord announced = word.with_pending(way, tag.slot(), word.hand());
  if (!exchange_word(*set.line, word, announced)) return false;
  finish(set, announced);
  return true;
}

}  // namespace predawn
