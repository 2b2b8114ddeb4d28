// Where everything of a store lies, and whether a file's header may be believed.
//
// What: `Layout` and `layout_of` a shape; `make_header`; `check_header`.
// When not: what the entries hold (recovery.hpp).
// Functions: `layout_of` throws std::invalid_argument naming the field; `check_header` a StoreError
//   naming field, found, expected and what to do, the plainest reason first.
// Design: preamble | set lines | slots, the last two on page boundaries; big stores end at a whole
//   huge page. Nothing derived is taken from a file: it is computed anew from the shape and must
//   agree, so a header made up by anybody, checksum and all, leads nowhere but into the file.
// Memory: none. Cost: a microsecond.
#pragma once

#include <bit>
#include <concepts>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>

#include "checksum.hpp"
#include "header.hpp"
#include "mapping.hpp"
#include "set_line.hpp"
#include "store_error.hpp"

namespace predawn {

inline constexpr std::uint64_t kCapacityMost = std::uint64_t{1} << 36;
inline constexpr std::uint32_t kDimMost = 1u << 16;
inline constexpr std::uint32_t kPartsMost = 16;
inline constexpr std::uint32_t kEndian = 0x01020304u;

struct Layout {
  std::uint64_t sets = 0;
  std::size_t row_bytes = 0;
  std::size_t slot_bytes = 0;
  std::size_t lines_at = kPreambleBytes;
  std::size_t slots_at = 0;
  std::size_t file_bytes = 0;
};

namespace detail {

// Stores from this size on end at a whole huge page: at most an eighth more.
inline constexpr std::size_t kWholeHugeBytes = std::size_t{16} << 20;
static_assert(kCapacityMost * 2 * (kDimMost * kPartsMost * 4 + 2 * kLineBytes) < (1ull << 62));

constexpr std::size_t rounded_up(std::size_t bytes, std::size_t unit) noexcept {
  return (bytes + unit - 1) / unit * unit;
}

inline void check_range(const char* field, std::uint64_t value, std::uint64_t most) {
  if (value >= 1 && value <= most) return;
  throw std::invalid_argument(std::string(field) + ": " + std::to_string(value) +
                              " is not within 1.." + std::to_string(most));
}

inline std::uint32_t most_parts_of(Dtype dtype) noexcept {
  return static_cast<std::uint32_t>(std::min<std::size_t>(kPartsMost, most_parts(dtype)));
}

// Of all that two builds must agree on to share memory.
[[nodiscard]] constexpr std::uint64_t layout_hash() noexcept {
  const std::size_t facts[] = {kWays,
                               kSlots,
                               kFingerprintBits,
                               kStampBits,
                               kScales,
                               ClaimNote::kSetBits,
                               kAttachments,
                               kJournalLines,
                               Placer::kUserSets,
                               sizeof(Tag),
                               sizeof(SetWord),
                               sizeof(TableHeader),
                               sizeof(SharedState),
                               offsetof(SharedState, boot_id),
                               offsetof(SharedState, entries),
                               offsetof(SharedState, steering),
                               sizeof(Steering),
                               sizeof(AttachRecord),
                               sizeof(JournalLine<Atomics>),
                               offsetof(JournalLine<Atomics>, owner),
                               sizeof(SetLine<Atomics>),
                               offsetof(SetLine<Atomics>, tags),
                               sizeof(SlotHeader<Atomics>),
                               offsetof(SlotHeader<Atomics>, key_lo),
                               offsetof(SlotHeader<Atomics>, written_at_ms),
                               offsetof(SlotHeader<Atomics>, snapshot),
                               offsetof(SlotHeader<Atomics>, about),
                               offsetof(SlotHeader<Atomics>, order),
                               offsetof(SlotHeader<Atomics>, checksum),
                               offsetof(SlotHeader<Atomics>, scales),
                               offsetof(Preamble, state),
                               offsetof(Preamble, attachments),
                               offsetof(Preamble, journal),
                               sizeof(Preamble)};
  std::uint64_t hash = 0xcbf29ce484222325u;  // FNV-1a over whole numbers
  for (const std::size_t fact : facts) hash = (hash ^ fact) * 0x100000001b3u;
  return hash;
}

inline std::uint64_t header_checksum(const TableHeader& header) noexcept {
  return fold_bytes(reinterpret_cast<const std::byte*>(&header), offsetof(TableHeader, checksum));
}

}  // namespace detail

[[nodiscard]] inline Layout layout_of(const TableShape& shape) {
  detail::check_range("capacity", shape.capacity, kCapacityMost);
  detail::check_range("dim", shape.dim, kDimMost);
  detail::check_range("dtype", std::uint64_t{static_cast<std::uint8_t>(shape.dtype)} + 1,
                      kDtypeNames.size());
  detail::check_range("parts", shape.parts, detail::most_parts_of(shape.dtype));
  Layout layout;
  layout.row_bytes = RowFormat(shape.dtype, shape.dim, shape.parts).bytes();
  layout.sets = (shape.capacity + kWays - 1) / kWays;
  layout.slot_bytes = slot_bytes(layout.row_bytes);
  const std::size_t lines = layout.sets * sizeof(SetLine<Atomics>);
  layout.slots_at = detail::rounded_up(layout.lines_at + lines, kPageBytes);
  const std::size_t end = layout.slots_at + layout.sets * kSlots * layout.slot_bytes;
  layout.file_bytes =
      detail::rounded_up(end, end < detail::kWholeHugeBytes ? kPageBytes : kHugePageBytes);
  return layout;
}

// The shape that a header speaks of; its capacity is that of its sets.
[[nodiscard]] inline TableShape shape_of(const TableHeader& header) noexcept {
  return {header.sets * kWays, header.dim,     header.parts,
          header.dtype,        header.id_kind, header.placement};
}

[[nodiscard]] inline TableHeader make_header(const TableShape& shape, const Seed& seed,
                                             std::int64_t created_ms) {
  const Layout layout = layout_of(shape);
  TableHeader header{};
  header.magic = TableHeader::kMagic;
  header.format = TableHeader::kFormat;
  header.endian = kEndian;
  header.layout_hash = detail::layout_hash();
  header.file_bytes = layout.file_bytes;
  header.sets = layout.sets;
  header.ways = kWays;
  header.slots = kSlots;
  header.dim = shape.dim;
  header.parts = shape.parts;
  header.dtype = shape.dtype;
  header.id_kind = shape.id_kind;
  header.placement = shape.placement;
  header.slot_bytes = static_cast<std::uint32_t>(layout.slot_bytes);
  header.lines_at = layout.lines_at;
  header.slots_at = layout.slots_at;
  header.created_ms = created_ms;
  header.seed = seed;
  header.checksum = detail::header_checksum(header);
  return header;
}

namespace detail {

inline constexpr const char* kRemake = "remove the file and create it anew";
inline constexpr const char* kDamaged = "the file is damaged: remove it and create it anew";

inline void expect_field(const std::string& path, const char* field, std::uint64_t found,
                         std::uint64_t expected, const char* remedy = kDamaged) {
  if (found != expected) {
    refuse(path, {field, std::to_string(found), std::to_string(expected), remedy});
  }
}

inline void expect_within(const std::string& path, const char* field, std::uint64_t found,
                          std::uint64_t least, std::uint64_t most) {
  if (found < least || found > most) {
    refuse(path, {field, std::to_string(found),
                  std::to_string(least) + " to " + std::to_string(most), kDamaged});
  }
}

// A store at all, of this kind of machine, of this version.
inline void check_origin(const TableHeader& header, const std::string& path) {
  if (header.magic == __builtin_bswap64(TableHeader::kMagic)) {
    refuse(path, {"the byte order", "another machine's", "this one's", kRemake});
  }
  if (header.magic != TableHeader::kMagic) {
    refuse(path,
           {"the magic number", std::to_string(header.magic), std::to_string(TableHeader::kMagic),
            "this is no store: give another path, or remove the file if it may go"});
  }
  expect_field(path, "the format version", header.format, TableHeader::kFormat,
               "another version of predawn made it: use that, or remove the file and create it "
               "anew");
  expect_field(path, "the byte order mark", header.endian, kEndian, kDamaged);
}

inline void check_shape(const TableHeader& header, const std::string& path) {
  expect_field(path, "ways", header.ways, kWays);
  expect_field(path, "slots", header.slots, kSlots);
  expect_within(path, "sets", header.sets, 1, (kCapacityMost + kWays - 1) / kWays);
  expect_within(path, "dim", header.dim, 1, kDimMost);
  expect_within(path, "dtype", static_cast<std::uint8_t>(header.dtype), 0, kDtypeNames.size() - 1);
  expect_within(path, "parts", header.parts, 1, most_parts_of(header.dtype));
  expect_within(path, "id_kind", static_cast<std::uint8_t>(header.id_kind), 0, 1);
  expect_within(path, "placement", static_cast<std::uint8_t>(header.placement), 0, 1);
  expect_field(path, "the reserved byte", header.reserved, 0);
}

}  // namespace detail

// `header`: the first bytes of a file of `size` bytes, zeros beyond its end.
[[nodiscard]] inline Layout check_header(const TableHeader& header, std::uint64_t size,
                                         const std::string& path) {
  if (size < sizeof header && (size < sizeof header.magic || header.magic == TableHeader::kMagic)) {
    refuse(path, {"the file's size", std::to_string(size) + " bytes",
                  "at least " + std::to_string(kPreambleBytes),
                  "it is truncated, or no store: remove it and create it anew"});
  }
  detail::check_origin(header, path);
  detail::expect_field(path, "the header's checksum", header.checksum,
                       detail::header_checksum(header));
  detail::expect_field(path, "the layout hash", header.layout_hash, detail::layout_hash(),
                       "another build of predawn made it: use that, or remove the file and create "
                       "it anew");
  detail::check_shape(header, path);
  TableShape shape = shape_of(header);
  shape.capacity = std::min(shape.capacity, kCapacityMost);  // rounded up to whole sets
  const Layout layout = layout_of(shape);
  detail::expect_field(path, "slot_bytes", header.slot_bytes, layout.slot_bytes);
  detail::expect_field(path, "lines_at", header.lines_at, layout.lines_at);
  detail::expect_field(path, "slots_at", header.slots_at, layout.slots_at);
  detail::expect_field(path, "file_bytes", header.file_bytes, layout.file_bytes);
  if (size != layout.file_bytes) {
    refuse(path, {"the file's size",
                  (size < layout.file_bytes ? "truncated: " : "too large: ") +
                      std::to_string(size) + " bytes",
                  std::to_string(layout.file_bytes), detail::kRemake});
  }
  return layout;
}

}  // namespace predawn
