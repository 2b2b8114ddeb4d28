// The portable and the F16C conversions agree bit by bit, and round to the nearest even half.
#include "half.hpp"

#include <cmath>
#include <cstdint>
#include <vector>

#include "expect.hpp"

namespace predawn {
namespace {

// The two ways disagree on how many of these floats?
std::size_t disagreements(const std::vector<float>& floats) {
  std::vector<std::uint16_t> slow(floats.size());
  std::vector<std::uint16_t> fast(floats.size());
  HalfConverters::portable().to_half(floats.data(), slow.data(), floats.size());
  HalfConverters::chosen().to_half(floats.data(), fast.data(), floats.size());
  std::size_t count = 0;
  for (std::size_t i = 0; i < floats.size(); ++i) count += slow[i] != fast[i] ? 1 : 0;
  return count;
}

void test_float_to_half_agrees_over_all_exponents() {
  constexpr std::uint64_t kStride = 1021;  // a prime: every exponent, mixed low bits
  std::vector<float> floats;
  for (std::uint64_t bits = 0; bits < (std::uint64_t{1} << 32); bits += kStride) {
    floats.push_back(std::bit_cast<float>(static_cast<std::uint32_t>(bits)));
  }
  EXPECT(disagreements(floats) == 0);
}

void test_float_to_half_agrees_around_every_rounding_edge() {
  std::vector<float> floats;
  for (std::uint32_t half = 0; half < 0x7c00; ++half) {
    const float low = float_of_half(static_cast<std::uint16_t>(half));
    const float high =
        half + 1 < 0x7c00 ? float_of_half(static_cast<std::uint16_t>(half + 1)) : 65536.0f;
    const float middle = low + (high - low) / 2;
    for (const float edge :
         {low, middle, std::nextafter(middle, high), std::nextafter(middle, low)}) {
      floats.push_back(edge);
      floats.push_back(-edge);
    }
  }
  EXPECT(disagreements(floats) == 0);
}

void test_halfway_goes_to_even_and_beyond_goes_up() {
  for (std::uint32_t half = 0; half + 1 < 0x7c00; ++half) {
    const float low = float_of_half(static_cast<std::uint16_t>(half));
    const float high = float_of_half(static_cast<std::uint16_t>(half + 1));
    const float middle = low + (high - low) / 2;
    EXPECT(half_of_float(middle) == half + half % 2);
    EXPECT(half_of_float(std::nextafter(middle, high)) == half + 1);
    EXPECT(half_of_float(std::nextafter(middle, low)) == half);
  }
}

void test_half_to_float_agrees_on_every_half() {
  std::vector<std::uint16_t> halves(1 << 16);
  for (std::size_t i = 0; i < halves.size(); ++i) halves[i] = static_cast<std::uint16_t>(i);
  std::vector<float> slow(halves.size());
  std::vector<float> fast(halves.size());
  HalfConverters::portable().to_float(halves.data(), slow.data(), halves.size());
  HalfConverters::chosen().to_float(halves.data(), fast.data(), halves.size());
  for (std::size_t i = 0; i < halves.size(); ++i) {
    EXPECT(std::bit_cast<std::uint32_t>(slow[i]) == std::bit_cast<std::uint32_t>(fast[i]));
    if (!std::isnan(slow[i])) EXPECT(half_of_float(slow[i]) == halves[i]);
  }
}

void test_nan_keeps_its_sign_and_becomes_quiet() {
  const float signalling = std::bit_cast<float>(0xff800001u);
  EXPECT(half_of_float(signalling) == 0xfe00);
  EXPECT(disagreements({signalling, std::bit_cast<float>(0x7f802000u), signalling, signalling,
                        signalling, signalling, signalling, signalling, signalling}) == 0);
}

}  // namespace
}  // namespace predawn

int main() {
  predawn::test_float_to_half_agrees_over_all_exponents();
  predawn::test_float_to_half_agrees_around_every_rounding_edge();
  predawn::test_halfway_goes_to_even_and_beyond_goes_up();
  predawn::test_half_to_float_agrees_on_every_half();
  predawn::test_nan_keeps_its_sign_and_becomes_quiet();
  return predawn::testing::failures == 0 ? 0 : 1;
}
