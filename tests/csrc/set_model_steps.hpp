// What the fibers of a scenario do, and what must hold of the answers. Included by set_model.hpp
// alone.
#pragma once

#include "set_model.hpp"

namespace predawn {

inline PutResult Model::put_once(unsigned line, std::uint16_t generation, unsigned key,
                                 unsigned number, bool is_demanded) {
  const std::uint64_t row[2] = {word_of(number, key), word_of(number, key)};
  Entry entry;
  entry.key = {key, 0};
  entry.fingerprint = fingerprint(key);
  entry.is_demanded = is_demanded;
  entry.row = reinterpret_cast<const std::byte*>(row);
  entry.row_bytes = kModelRow;
  const SetRef<M> at = set();
  const auto choose_way = [&](const Tags& tags, unsigned hand) {
    const PolicyView view{.tags = tags,
                          .hand = hand,
                          .speculative = !is_demanded,
                          .quota = options_.quota,
                          .rule = options_.rule};
    return choose(
        view, [](unsigned) { return false; },
        [&](unsigned way) { return at.slot(tags[way].slot())->order.load(); });
  };
  const ClaimLog<M> log{&words_.journal[line], generation, 0};
  return put_entry(at, entry, log, budget(), choose_way, [](SlotAbout) { return 0u; });
}

inline PutEnd Model::put(unsigned line, unsigned key, bool is_demanded) {
  const unsigned number = next_number(line);
  const unsigned before = ghosts_.successes;
  explorer_->note(std::uint64_t{number} << 16 | before);
  const auto generation = OwnerNote(words_.journal[line].owner.peek()).generation();
  const PutResult result = put_once(line, generation, key, number, is_demanded);
  check(result.end != PutEnd::kNoSlot, "a slot is left while writers are few");
  if (result.end == PutEnd::kBusy) {
    check(options_.budget != 0 || ghosts_.successes != before,
          "a put gives up only if another operation succeeded");
    check(ghosts_.order[number] == 0, "a put that gave up is not published");
  } else {
    check(ghosts_.order[number] != 0, "a finished put is published");
  }
  return result.end;
}

inline void Model::judge_row(unsigned key, const std::uint64_t* row, unsigned newest_before,
                             unsigned& seen) {
  check(row[0] == row[1], "a row that was read is not torn");
  check(row[0] >> 32 == key, "a row that was read is of its key");
  const unsigned order = ghosts_.order[static_cast<unsigned>(row[0]) % kModelPuts];
  check(order != 0, "a row that was read is published");
  check(order >= newest_before, "a row that was read is not older than at the call's start");
  check(order >= seen, "a row that was read is not older than the one read before");
  seen = order;
}

inline void Model::get(unsigned key, unsigned calls, bool marks) {
  unsigned seen = 0;
  for (unsigned call = 0; call < calls; ++call) {
    const unsigned newest_before = ghosts_.newest[key];
    const unsigned lost_before = ghosts_.lost[key];
    const bool was_there = way_of(key) != kNobody;
    explorer_->note(std::uint64_t{newest_before} << 40 | std::uint64_t{lost_before} << 16 |
                    std::uint64_t{seen} << 1 | (was_there ? 1u : 0u));
    std::uint64_t row[2] = {};
    Found found;
    const ReadEnd end =
        read_entry(set(), Key{key, 0}, fingerprint(key), kModelRow,
                   reinterpret_cast<std::byte*>(row), found, [](const Found&) { return true; });
    if (end == ReadEnd::kAbsent) {
      check(!was_there || ghosts_.lost[key] != lost_before, "an entry that stays is found");
    }
    if (end != ReadEnd::kFound) continue;
    judge_row(key, row, newest_before, seen);
    if (marks) mark_used(set(), found.way, found.tag, Tag::kVisited | Tag::kDemanded);
  }
}

inline void Model::scan(unsigned first_way, unsigned ways) {
  for (unsigned way = first_way; way < first_way + ways; ++way) {
    std::uint64_t row[2] = {};
    Key key;
    Found found;
    const auto before = ghosts_.newest;
    for (const auto order : before) explorer_->note(order);
    if (read_any(set(), way, kModelRow, reinterpret_cast<std::byte*>(row), key, found) !=
        ReadEnd::kFound) {
      continue;
    }
    unsigned seen = 0;
    judge_row(static_cast<unsigned>(key.lo), row, before[key.lo % kModelKeys], seen);
  }
}

inline void Model::remove(unsigned key) {
  const unsigned before = ghosts_.successes;
  const unsigned lost_before = ghosts_.lost[key];
  const bool was_there = way_of(key) != kNobody;
  explorer_->note(std::uint64_t{before} << 32 | lost_before << 1 | (was_there ? 1u : 0u));
  ghosts_.removing |= 1u << explorer_->running();
  const RemoveEnd end = remove_entry(set(), Key{key, 0}, fingerprint(key), budget());
  ghosts_.removing &= ~(1u << explorer_->running());
  if (end == RemoveEnd::kBusy) {
    check(options_.budget != 0 || ghosts_.successes != before,
          "a removal gives up only if another operation succeeded");
  } else if (was_there) {
    check(ghosts_.lost[key] != lost_before, "a removed entry has left the set");
  }
}

inline ReapEnd Model::reap(unsigned line) {
  explorer_->look();
  const bool lives = may_run(line);
  explorer_->note(lives ? 1 : 0);
  if (lives) return ReapEnd::kNothing;
  return reap_line(
      words_.journal, kModelLines, line, [this](std::uint64_t) { return set(); },
      [this](std::size_t other) {
        explorer_->look();
        const bool other_lives = may_run(static_cast<unsigned>(other));
        explorer_->note(other_lives ? 1 : 0);
        return other_lives;
      });
}

// Another writer leases the line of a dead one, once its note is clear.
inline void Model::take_over(unsigned line, unsigned key) {
  if (may_run(line)) return;
  const ClaimNote note(words_.journal[line].claim.load());
  if (note.active()) return;
  const auto generation = static_cast<std::uint16_t>(note.generation() + 1);
  words_.journal[line].claim.store(ClaimNote::none(generation).word());
  words_.journal[line].owner.store(OwnerNote(1, generation, true).word());
  ghosts_.writer_of[line] = explorer_->running();
  explorer_->note_shared(std::uint64_t{line} << 40 | 1);
  put(line, key);
}

// Many puts in one step of the schedule.
inline void Model::put_quietly(unsigned line, unsigned key, unsigned times) {
  explorer_->set_quiet(true);
  for (unsigned i = 0; i < times; ++i) put(line, key);
  explorer_->set_quiet(false);
}

}  // namespace predawn
