// The invariants of a table, walked: what every test asks for after it has finished.
//
// What: `walk`: the number of entries, and one sentence per broken invariant, about `kSentences` of
//   them at most.
// When not: the request path; the walk touches every entry.
// Functions: `walk(table, preamble)` may run beside readers and writers: a set is judged if its
// word
//   was the same before and after, and left out after `kCheckTries` looks in vain.
// Design: a set is sound if each valid tag names a slot of its own that is not claimed, with the
//   tag's ver, fingerprint and stamp, a key of this set that no other tag carries, and the
//   checksum of its contents; if each claimed slot is named by a journal line; if its hand is a
//   way. That leaves at least two slots free where nothing is claimed.
// Memory: a row and the sentences. Cost: one random read an entry.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "table.hpp"

namespace predawn {

inline constexpr std::size_t kSentences = 64;
inline constexpr unsigned kCheckTries = 16;

struct Findings {
  std::vector<std::string> broken;
  std::uint64_t entries = 0;
  std::uint64_t left_out = 0;  // sets that changed all the time
};

namespace detail {

class SetCheck {
 public:
  SetCheck(const Table& table, const Preamble& preamble)
      : table_(table), preamble_(preamble), row_(row_bytes()) {}

  // The entries of one set; broken invariants are appended to `findings`.
  void judge(std::uint64_t set_index, Findings& findings) {
    const Set set = table_.set(set_index);
    for (unsigned tries = 0; tries < kCheckTries; ++tries) {
      const SetWord word = load_word(*set.line);
      if (word.pending()) {
        help(set, word);  // its writer may be dead
        continue;
      }
      broken_.clear();
      const std::uint64_t entries = look(set_index, set, word);
      if (Atomics::reread(set.line->word) != word.word()) continue;
      findings.entries += entries;
      findings.broken.insert(findings.broken.end(), broken_.begin(), broken_.end());
      return;
    }
    ++findings.left_out;
  }

 private:
  [[nodiscard]] std::size_t row_bytes() const {
    return table_.row().padded_bytes(table_.row().parts());
  }

  void say(std::uint64_t set, unsigned way, const char* what) {
    broken_.push_back("set " + std::to_string(set) + " way " + std::to_string(way) + ": " + what);
  }

  std::uint64_t look(std::uint64_t index, const Set& set, SetWord word) {
    std::uint64_t entries = 0;
    std::uint32_t named = 0;
    Key keys[kWays];
    for (unsigned way = 0; way < kWays; ++way) {
      const Tag tag(set.line->tags[way].load(std::memory_order_acquire));
      if (!tag.valid()) continue;
      if (((named >> tag.slot()) & 1u) != 0) say(index, way, "names a slot that another way names");
      if (word.is_claimed(tag.slot())) say(index, way, "names a slot that is being filled");
      named |= 1u << tag.slot();
      keys[entries] = look_at_slot(index, way, *set.slot(tag.slot()), tag);
      if (std::find(keys, keys + entries, keys[entries]) != keys + entries) {
        say(index, way, "holds a key that another way holds");
      }
      ++entries;
    }
    look_at_claims(index, word);
    if (word.hand() >= kWays) say(index, word.hand(), "is the hand's, which points to no way");
    return entries;
  }

  Key look_at_slot(std::uint64_t index, unsigned way, const SlotHeader<Atomics>& slot, Tag tag) {
    const std::uint64_t seq = slot.seq.load(std::memory_order_acquire);
    const Key key{slot.key_lo.load(std::memory_order_relaxed),
                  slot.key_hi.load(std::memory_order_relaxed)};
    Found found;
    load_fields(slot, found);
    load_scales(slot, found);
    Atomics::load_words(row_of(&slot), row_.data(), row_.size());
    const std::uint32_t sum = slot_checksum(
        fields_of(key, found.written_at_ms, found.snapshot, found.about, found.scales),
        row_checksum(row_.data(), row_.size()));
    if ((seq & 1) != 0) say(index, way, "names a slot that is being written");
    if (!found.about.tag(tag.slot(), seq).same_but_hints(tag)) {
      say(index, way, "has a tag that is not its slot's");
    }
    const Place place = table_.place(key);
    if (place.set != index) say(index, way, "holds a key of another set");
    if (place.fingerprint != tag.fingerprint()) {
      say(index, way, "has a fingerprint that is not its key's");
    }
    if (sum != slot.checksum.load(std::memory_order_relaxed)) {
      say(index, way, "has contents that do not match their checksum");
    }
    return key;
  }

  void look_at_claims(std::uint64_t index, SetWord word) {
    for (unsigned slot = 0; slot < kSlots; ++slot) {
      if (!word.is_claimed(slot)) continue;
      const bool is_named = std::any_of(
          std::begin(preamble_.journal), std::end(preamble_.journal), [&](const auto& line) {
            return ClaimNote(line.claim.load(std::memory_order_acquire)).names(index, slot);
          });
      if (!is_named) {
        broken_.push_back("set " + std::to_string(index) + " slot " + std::to_string(slot) +
                          ": is claimed by nobody");
      }
    }
  }

  const Table& table_;
  const Preamble& preamble_;
  std::vector<std::byte> row_;
  std::vector<std::string> broken_;
};

}  // namespace detail

[[nodiscard]] inline Findings walk(const Table& table, const Preamble& preamble) {
  Findings findings;
  detail::SetCheck check(table, preamble);
  for (std::uint64_t set = 0; set < table.sets(); ++set) {
    check.judge(set, findings);
    if (findings.broken.size() >= kSentences) break;
  }
  return findings;
}

}  // namespace predawn
