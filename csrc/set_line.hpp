// The directory of a set, one cache line, and where the slots of the set are.
//
// What: `SetLine`: the set's word and a tag per way; `SetRef`: a set of a mapping; `Tags`: a look
// at
//   all tags at once.
// When not: what the words mean (set_word.hpp, tag.hpp), reading and writing entries (set_read.hpp,
//   set_write.hpp).
// Functions: `match_hint` says which ways look as if they held a fingerprint; the caller loads the
//   tag itself before it believes it. `load_tags` is one relaxed look: good if the set's word is
//   the same afterwards.
// Design: the line is all that a miss reads. Untouched (zero) memory is a valid empty set.
// Memory: 64 bytes a set. Cost: `match_hint` four 16-byte compares on x86, or one of 64.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

#include "convert.hpp"
#include "set_word.hpp"
#include "slot.hpp"

#if defined(__x86_64__)
#  include <immintrin.h>
#endif

namespace predawn {

template <class A>
struct alignas(kLineBytes) SetLine {
  typename A::template Word<std::uint64_t> word;
  typename A::template Word<std::uint32_t> tags[kWays];
};
static_assert(sizeof(SetLine<StdAtomics>) == kLineBytes);

using Tags = std::array<Tag, kWays>;

template <class A>
struct SetRef {
  SetLine<A>* line;
  std::byte* slots;
  std::size_t slot_bytes;

  [[nodiscard]] SlotHeader<A>* slot(unsigned index) const noexcept {
    return reinterpret_cast<SlotHeader<A>*>(slots + index * slot_bytes);
  }
};

template <class A>
[[nodiscard]] inline Tags load_tags(const SetLine<A>& line) noexcept {
  Tags tags;
  for (unsigned way = 0; way < kWays; ++way) {
    tags[way] = Tag(line.tags[way].load(std::memory_order_relaxed));
  }
  return tags;
}

inline constexpr std::uint32_t kMatchMask = 0x0fff0000u | Tag::kValid;

[[nodiscard]] constexpr std::uint32_t match_word(std::uint32_t fingerprint) noexcept {
  return (fingerprint << 16) | Tag::kValid;
}

#if defined(__x86_64__)
// Bit w: way w. The vector loads may see a tag that is changing in either state.
[[nodiscard]] inline std::uint32_t vector_matches(const void* line,
                                                  std::uint32_t fingerprint) noexcept {
  const auto* lanes = static_cast<const __m128i*>(line);
  const __m128i mask = _mm_set1_epi32(static_cast<int>(kMatchMask));
  const __m128i wanted = _mm_set1_epi32(static_cast<int>(match_word(fingerprint)));
  const auto equal = [&](int i) {
    return _mm_cmpeq_epi32(_mm_and_si128(_mm_load_si128(lanes + i), mask), wanted);
  };
  const __m128i low = _mm_packs_epi32(equal(0), equal(1));
  const __m128i high = _mm_packs_epi32(equal(2), equal(3));
  const int all = _mm_movemask_epi8(_mm_packs_epi16(low, high));
  return static_cast<std::uint32_t>(all) >> 2;  // the first two lanes are the set's word
}

// The same in one compare. To be inlined into a function for AVX-512 (cache.hpp).
__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq"))) inline std::uint32_t
vector_matches_avx512(const void* line, std::uint32_t fingerprint) noexcept {
  const __m512i lanes = _mm512_load_si512(line);
  const __m512i mask = _mm512_set1_epi32(static_cast<int>(kMatchMask));
  const __m512i wanted = _mm512_set1_epi32(static_cast<int>(match_word(fingerprint)));
  const __mmask16 equal = _mm512_cmpeq_epi32_mask(_mm512_and_si512(lanes, mask), wanted);
  return static_cast<std::uint32_t>(equal) >> 2;
}
#endif

template <Isa kIsa = Isa::kPortable, class A>
[[nodiscard]] inline std::uint32_t match_hint(const SetLine<A>& line,
                                              std::uint32_t fingerprint) noexcept {
#if defined(__x86_64__)
  if constexpr (A::kVectorScan && kIsa == Isa::kAvx512) {
    return vector_matches_avx512(&line, fingerprint);
  } else if constexpr (A::kVectorScan) {
    return vector_matches(&line, fingerprint);
  }
#endif
  std::uint32_t mask = 0;
  for (unsigned way = 0; way < kWays; ++way) {
    const std::uint32_t tag = line.tags[way].load(std::memory_order_relaxed);
    mask |= ((tag & kMatchMask) == match_word(fingerprint) ? 1u : 0u) << way;
  }
  return mask;
}

}  // namespace predawn
