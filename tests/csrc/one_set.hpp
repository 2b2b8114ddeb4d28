// A set in ordinary memory, for the tests of the headers that make up the protocol.
#pragma once

#include <array>
#include <cstring>

#include "set_write.hpp"

namespace predawn::testing {

inline constexpr std::size_t kRowBytes = 32;

// Rows say of which key and version they are, in every word.
struct Row {
  std::array<std::uint64_t, kRowBytes / 8> words{};

  Row() = default;
  Row(std::uint64_t key, std::uint64_t version) { words.fill(key << 40 | version); }
  [[nodiscard]] const std::byte* bytes() const {
    return reinterpret_cast<const std::byte*>(words.data());
  }
  [[nodiscard]] bool is_whole() const {
    for (const std::uint64_t word : words) {
      if (word != words[0]) return false;
    }
    return true;
  }
  [[nodiscard]] std::uint64_t key() const { return words[0] >> 40; }
  [[nodiscard]] std::uint64_t version() const { return words[0] & 0xffffffffffu; }
};

struct OneSet {
  static constexpr std::size_t kSlotBytes = slot_bytes(kRowBytes);
  SetLine<Atomics> line{};
  alignas(kLineBytes) std::array<std::byte, kSlots * kSlotBytes> slots{};
  JournalLine<Atomics> journal[4]{};
  unsigned budget = 16;

  [[nodiscard]] SetRef<Atomics> ref() { return {&line, slots.data(), kSlotBytes}; }
  [[nodiscard]] SetWord word() { return load_word(line); }
  [[nodiscard]] Tag tag(unsigned way) { return Tag(line.tags[way].load()); }
  [[nodiscard]] ClaimLog<Atomics> log(unsigned writer) { return {&journal[writer], 0, 0}; }
  [[nodiscard]] static std::uint32_t fingerprint(std::uint64_t key) { return key & 0x3u; }

  static Entry entry(std::uint64_t key, const Row& row) {
    Entry made;
    made.key = {key, 0};
    made.fingerprint = fingerprint(key);
    made.row = row.bytes();
    made.row_bytes = kRowBytes;
    return made;
  }
  static Choice choose_way(const Tags& tags, unsigned hand) {
    return choose(
        {.tags = tags, .hand = hand}, [](unsigned) { return false; }, [](unsigned) { return 0u; });
  }
  PutResult put(unsigned writer, std::uint64_t key, std::uint64_t version) {
    const Row row(key, version);
    return put_entry(ref(), entry(key, row), log(writer), budget, choose_way,
                     [](SlotAbout) { return 0u; });
  }
  ReadEnd get(std::uint64_t key, Row& row, Found& found) {
    return read_entry(ref(), Key{key, 0}, fingerprint(key), kRowBytes,
                      reinterpret_cast<std::byte*>(row.words.data()), found,
                      [](const Found&) { return true; });
  }
  RemoveEnd remove(std::uint64_t key) {
    return remove_entry(ref(), Key{key, 0}, fingerprint(key), budget);
  }
  // The version that is found, or 0.
  std::uint64_t version_of(std::uint64_t key) {
    Row row;
    Found found;
    if (get(key, row, found) != ReadEnd::kFound) return 0;
    return row.is_whole() && row.key() == key ? row.version() : UINT64_MAX;
  }
  // A writer that noted and claimed a free slot, and stopped. Returns the slot.
  unsigned stop_after_claim(unsigned writer) {
    const unsigned slot = detail::next_free(detail::free_slots(word(), load_tags(line)), 0);
    log(writer).note(slot);
    (void)exchange_word(line, word(), word().with_claim(slot));
    return slot;
  }
  // A writer that announced its change of `way` and stopped.
  void announce(unsigned way, unsigned slot) {
    (void)exchange_word(line, word(), word().with_pending(way, slot, word().hand()));
  }
};

}  // namespace predawn::testing
