// The shape that every native subject of the store suite has, so that Python can time them alike.
//
// What: `PREDAWN_READER(Map)` exports reader_create, reader_read and reader_destroy for a class
//   with `Map(entries, keys, rows)` and `read(keys, n, out)`; `Row`, one embedding.
// When not: several readers at a time in one library: their memory is released together.
// Functions: as exported; reader_create gives null when memory does not suffice.
// Design: a batch is one call of the library, so the call from Python (under 1 us) is paid once per
//   batch by the store and its peers alike. Rows have kFloats floats, fixed when it is compiled.
// Memory: the map's, on huge pages. Cost: the map's.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "huge_memory.hpp"

#ifndef PREDAWN_ROW_FLOATS
#  define PREDAWN_ROW_FLOATS 64
#endif

namespace predawn::bench {

inline constexpr std::size_t kFloats = PREDAWN_ROW_FLOATS;
using Row = std::array<float, kFloats>;

[[nodiscard]] inline Row row_at(const float* rows, std::size_t i) noexcept {
  Row row;
  std::memcpy(row.data(), rows + i * kFloats, sizeof row);
  return row;
}

}  // namespace predawn::bench

#define PREDAWN_READER(Map)                                                                   \
  extern "C" void* reader_create(std::uint64_t entries, const std::uint64_t* keys,            \
                                 const float* rows) {                                         \
    try {                                                                                     \
      return new Map(entries, keys, rows);                                                    \
    } catch (const std::bad_alloc&) {                                                         \
      return nullptr;                                                                         \
    }                                                                                         \
  }                                                                                           \
  extern "C" std::uint64_t reader_read(void* map, const std::uint64_t* keys, std::uint64_t n, \
                                       float* out) {                                          \
    return static_cast<Map*>(map)->read(keys, n, out);                                        \
  }                                                                                           \
  extern "C" void reader_destroy(void* map) {                                                 \
    delete static_cast<Map*>(map);                                                            \
    predawn::bench::chunks().release_all();                                                   \
  }
