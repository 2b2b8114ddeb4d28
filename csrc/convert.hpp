// Which instructions convert rows on this machine.
//
// What: `Isa` (a set of conversions), `name_of`, `is_supported`, `best_isa`, `converters`.
// When not: what a conversion means (convert_portable.hpp).
// Functions: `best_isa` is the fastest that this CPU and its system support; `converters` gives the
//   functions of a supported one. All of them give the same bits.
// Design: asked once, where a row format is made; a call through a pointer a row afterwards.
// Memory: none. Cost: none to speak of.
#pragma once

#include <cstdint>
#include <initializer_list>

#include "convert_neon.hpp"
#include "convert_portable.hpp"
#include "convert_x86.hpp"

namespace predawn {

enum class Isa : std::uint8_t { kPortable = 0, kAvx2 = 1, kAvx512 = 2, kNeon = 3 };

[[nodiscard]] constexpr const char* name_of(Isa isa) noexcept {
  switch (isa) {
    case Isa::kAvx2:
      return "avx2+f16c";
    case Isa::kAvx512:
      return "avx512";
    case Isa::kNeon:
      return "neon";
    case Isa::kPortable:
      break;
  }
  return "portable";
}

[[nodiscard]] inline bool is_supported(Isa isa) noexcept {
#if defined(__x86_64__)
  if (isa == Isa::kAvx512) return has_avx512();
  if (isa == Isa::kAvx2) return has_avx2();
#elif defined(__aarch64__)
  if (isa == Isa::kNeon) return true;
#endif
  return isa == Isa::kPortable;
}

[[nodiscard]] inline Isa best_isa() noexcept {
  for (const Isa isa : {Isa::kNeon, Isa::kAvx512, Isa::kAvx2}) {
    if (is_supported(isa)) return isa;
  }
  return Isa::kPortable;
}

// Of an unsupported one: the portable ones, which are the same but slower.
[[nodiscard]] inline Converters converters(Isa isa) noexcept {
  if (!is_supported(isa)) return portable_converters();
#if defined(__x86_64__)
  if (isa == Isa::kAvx512) return avx512_converters();
  if (isa == Isa::kAvx2) return avx2_converters();
#elif defined(__aarch64__)
  if (isa == Isa::kNeon) return neon_converters();
#endif
  return portable_converters();
}

}  // namespace predawn
