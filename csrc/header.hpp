// The first pages of a store's mapping: what it says about itself, and what its users share.
//
// What: `TableShape` (what a caller asks for), `TableHeader` (fixed after creation, under a
//   checksum), `SharedState` (changes all the time), `AttachRecord`, `Preamble` (all of it, with
//   the journal).
// When not: entries (slot.hpp, set_line.hpp).
// Functions: none but the layout; layout.hpp fills and verifies it.
// Design: relative offsets only, so every process may map it anywhere. preamble | set lines |
// slots.
//   Words that different processes write sit on different cache lines.
// Memory: `kPreambleBytes`. Cost: no atomics but relaxed ones, except where a user says so.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "journal.hpp"
#include "rows.hpp"
#include "steering.hpp"

namespace predawn {

enum class IdKind : std::uint8_t { kInteger = 0, kString = 1 };

struct TableShape {
  std::uint64_t capacity = 0;  // entries at least
  std::uint32_t dim = 0;
  std::uint32_t parts = 0;
  Dtype dtype = Dtype::kFp16;
  IdKind id_kind = IdKind::kInteger;
  Placement placement = Placement::kHashed;
};

// 16 bytes choose sets, 16 bytes key the hash of string ids.
using Seed = std::array<std::uint8_t, 32>;

struct TableHeader {
  static constexpr std::uint64_t kMagic = 0x65726f74732d6470u;  // "pd-store"
  static constexpr std::uint32_t kFormat = 2;

  std::uint64_t magic;
  std::uint32_t format;
  std::uint32_t endian;       // 0x01020304 as this machine writes it
  std::uint64_t layout_hash;  // of sizes and offsets of every shared struct, see layout.hpp
  std::uint64_t file_bytes;
  std::uint64_t sets;
  std::uint32_t ways;
  std::uint32_t slots;
  std::uint32_t dim;
  std::uint32_t parts;
  Dtype dtype;
  IdKind id_kind;
  Placement placement;
  std::uint8_t reserved;
  std::uint32_t slot_bytes;
  std::uint64_t lines_at;
  std::uint64_t slots_at;
  std::int64_t created_ms;
  Seed seed;
  std::uint64_t checksum;  // of all bytes before it
};
static_assert(sizeof(TableHeader) == 128 && offsetof(TableHeader, checksum) == 120);

struct SharedState {
  // Line 0: rarely written.
  std::atomic<std::uint32_t> is_clean;        // closed by its last user
  std::atomic<std::uint32_t> snapshot_floor;  // older snapshots count as absent
  std::atomic<std::int64_t> longest_age_ms;   // any reader has accepted so far; 0: nobody read
  std::atomic<std::uint64_t> reaped;          // claims taken back from the dead
  std::atomic<std::uint32_t> writers;         // journal lines in use: the budget of a put
  std::atomic<std::uint32_t> joined;          // came and did not leave: living or dead
  std::array<std::uint8_t, 16> boot_id;       // of the host's run in which `is_clean` was written
  std::array<std::uint8_t, 16> reserved_bytes;
  // Line 1: once per key that makes the table grow or shrink.
  alignas(kLineBytes) std::atomic<std::int64_t> entries;
  // Line 2 and on: the eviction policy's.
  alignas(kLineBytes) Steering steering;
};

// One process (strictly: one attachment) on this store. Alive: its byte of the file is locked.
struct alignas(kLineBytes) AttachRecord {
  std::atomic<std::uint32_t> used;
  std::atomic<std::uint32_t> pid;  // as its own pid namespace counts
};

inline constexpr std::size_t kAttachments = 64;
inline constexpr std::size_t kPageBytes = 4096;

struct Preamble {
  TableHeader header;
  alignas(kPageBytes) SharedState state;
  alignas(kPageBytes) AttachRecord attachments[kAttachments];
  alignas(kPageBytes) Journal journal;
};
inline constexpr std::size_t kPreambleBytes = sizeof(Preamble);
static_assert(kPreambleBytes % kPageBytes == 0);

}  // namespace predawn
