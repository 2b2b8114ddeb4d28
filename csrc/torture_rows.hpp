// Rows that say in every lane whose they are and which change wrote them.
//
// What: `Written` (what a row says), `make_row`, `read_row`.
// When not: judging whether that value may be there (oracle.hpp).
// Functions: pure.
// Design: 64-bit lanes, two floats each, so rows are fp32 and keep every bit. Even lanes carry key,
//   snapshot and stamp; odd ones the time of writing and the origin, mixed with the former, so that
//   no two rows share a lane and a lane in another place is seen.
// Memory: none. Cost: a subtraction and a comparison a lane.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>

#include "oracle.hpp"

namespace predawn::torture {

inline constexpr std::uint32_t kDim = 16;
inline constexpr std::size_t kLanes = kDim / 2;
inline constexpr std::int64_t kNowMs = std::int64_t{1} << 40;  // when everything is read
inline constexpr std::uint32_t kProbe = 0xffff;                // "key" of the supervisor's puts
inline constexpr std::uint64_t kProbeId = std::uint64_t{1} << 63;

struct Written {
  std::uint32_t key = 0;    // 16 bits
  std::uint32_t epoch = 0;  // 16 bits
  Stamp stamp = 0;
  std::int64_t at_ms = 0;  // even: computed; odd: speculative

  [[nodiscard]] std::uint64_t value() const noexcept {
    return std::uint64_t{key} << 48 | std::uint64_t{epoch} << 32 | stamp;
  }
  [[nodiscard]] static Written of(std::uint64_t value, std::int64_t at_ms) noexcept {
    return {static_cast<std::uint32_t>(value >> 48),
            static_cast<std::uint32_t>(value >> 32) & 0xffff, static_cast<Stamp>(value), at_ms};
  }
  [[nodiscard]] std::uint8_t origin() const noexcept {
    return static_cast<std::uint8_t>(at_ms & 1);
  }
};

namespace detail {

inline constexpr std::uint64_t kStep = 0x9e3779b97f4a7c15u;
inline constexpr std::uint64_t kMix = 0xd6e8feb86659fd93u;

using Lanes = std::array<std::uint64_t, kLanes>;

[[nodiscard]] inline Lanes lanes_of(std::uint64_t value, std::uint64_t time) noexcept {
  Lanes lanes;
  for (std::size_t i = 0; i < kLanes; i += 2) {
    lanes[i] = value + i * kStep;
    lanes[i + 1] = time + value * kMix + i * kStep;
  }
  return lanes;
}

}  // namespace detail

inline void make_row(const Written& written, float* row) noexcept {
  const detail::Lanes lanes =
      detail::lanes_of(written.value(), static_cast<std::uint64_t>(written.at_ms));
  std::memcpy(row, lanes.data(), sizeof lanes);
}

struct RowRead {
  Written written;
  std::uint64_t odd_one = 0;  // what differs between the lanes; 0: nothing
};

[[nodiscard]] inline RowRead read_row(const float* row) noexcept {
  detail::Lanes lanes;
  std::memcpy(lanes.data(), row, sizeof lanes);
  const std::uint64_t value = lanes[0];
  const std::uint64_t time = lanes[1] - value * detail::kMix;
  const detail::Lanes expected = detail::lanes_of(value, time);
  std::uint64_t odd_one = 0;
  for (std::size_t i = 0; i < kLanes; ++i) odd_one |= lanes[i] ^ expected[i];
  return {Written::of(value, static_cast<std::int64_t>(time)), odd_one};
}

}  // namespace predawn::torture
