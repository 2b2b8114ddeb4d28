// What a row gives back, in each format, and where its bytes end.
#include "rows.hpp"

#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "expect.hpp"

namespace predawn {
namespace {

constexpr Dtype kDtypes[] = {Dtype::kFp32, Dtype::kFp16, Dtype::kBf16, Dtype::kInt8};
constexpr std::byte kGuard{0xa5};

struct Stored {
  std::vector<std::byte> bytes;  // with 8 guards behind
  float scales[kScales] = {9, 9, 9, 9};
};

Stored stored(const RowFormat& format, const std::vector<float>& row) {
  Stored made{std::vector<std::byte>(format.padded_bytes() + 8, kGuard)};
  format.store(row.data(), made.bytes.data(), made.scales);
  return made;
}

std::vector<float> loaded(const RowFormat& format, const Stored& made, std::size_t parts) {
  std::vector<float> out(parts * format.dim() + 1, 77.0f);  // odd place, guard behind
  format.load(made.bytes.data(), made.scales, out.data(), parts);
  EXPECT(out.back() == 77.0f);
  out.pop_back();
  return out;
}

std::vector<float> through(const RowFormat& format, const std::vector<float>& row) {
  return loaded(format, stored(format, row), format.parts());
}

std::vector<float> random_row(std::size_t count, float most, unsigned seed) {
  std::mt19937 random(seed);
  std::uniform_real_distribution<float> uniform(-most, most);
  std::vector<float> row(count);
  for (float& value : row) value = uniform(random);
  return row;
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

bool all_nan(const float* values, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) {
    if (!std::isnan(values[i])) return false;
  }
  return true;
}

void test_names_lead_back_to_their_type() {
  for (const Dtype dtype : kDtypes) EXPECT(dtype_named(name_of(dtype)) == dtype);
  EXPECT(!dtype_named("fp64") && !dtype_named(""));
  EXPECT(most_parts(Dtype::kInt8) == 4 && most_parts(Dtype::kFp16) > 16);
}

void test_sizes_are_whole_words() {
  const RowFormat int8(Dtype::kInt8, 5, 3);
  EXPECT(int8.bytes() == 15 && int8.padded_bytes() == 16);
  EXPECT(int8.bytes(1) == 5 && int8.padded_bytes(1) == 8);
  const RowFormat fp16(Dtype::kFp16, 4, 2);
  EXPECT(fp16.bytes() == 16 && fp16.padded_bytes() == 16 && fp16.values() == 8);
  EXPECT(RowFormat(Dtype::kFp32, 3, 1).bytes() == 12);
  EXPECT(RowFormat(Dtype::kBf16, 3, 1).padded_bytes() == 8);
}

void test_padding_is_zeroed_and_nothing_behind_it_is_touched() {
  for (const Dtype dtype : kDtypes) {
    for (std::uint32_t dim = 1; dim <= 33; ++dim) {
      const RowFormat format(dtype, dim, 3);
      const Stored made = stored(format, random_row(format.values(), 1, dim));
      for (std::size_t i = format.bytes(); i < format.padded_bytes(); ++i) {
        EXPECT(made.bytes[i] == std::byte{0});
      }
      for (std::size_t i = format.padded_bytes(); i < made.bytes.size(); ++i) {
        EXPECT(made.bytes[i] == kGuard);
      }
    }
  }
}

void test_every_isa_makes_the_same_bytes() {
  for (const Dtype dtype : kDtypes) {
    for (std::uint32_t dim = 1; dim <= 130; ++dim) {
      const RowFormat portable(dtype, dim, 2, Isa::kPortable);
      const std::vector<float> row = random_row(portable.values(), 3, dim);
      const Stored expected = stored(portable, row);
      for (const Isa isa : {Isa::kAvx2, Isa::kAvx512, Isa::kNeon}) {
        if (!is_supported(isa)) continue;
        const RowFormat fast(dtype, dim, 2, isa);
        const Stored made = stored(fast, row);
        EXPECT(fast.isa() == isa && made.bytes == expected.bytes);
        EXPECT(std::memcmp(made.scales, expected.scales, sizeof made.scales) == 0);
        EXPECT(same_bits(loaded(fast, made, 2), loaded(portable, expected, 2)));
      }
    }
  }
}

void test_a_prefix_of_parts_is_a_prefix_of_the_row() {
  for (const Dtype dtype : kDtypes) {
    const RowFormat format(dtype, 7, 4);
    const Stored made = stored(format, random_row(format.values(), 2, 5));
    std::vector<float> whole = loaded(format, made, 4);
    for (std::size_t parts = 4; parts-- > 0;) {
      whole.resize(parts * 7);
      EXPECT(same_bits(loaded(format, made, parts), whole));
    }
  }
}

void test_fp32_keeps_every_bit() {
  std::vector<float> row;
  for (const std::uint32_t bits : {0x7f800001u, 0x80000000u, 0x00000001u, 0xffffffffu, 0x3f800000u})
    row.push_back(std::bit_cast<float>(bits));
  EXPECT(same_bits(through(RowFormat(Dtype::kFp32, 5, 1), row), row));
}

void test_absent_parts_stay_absent_in_every_format() {
  for (const Dtype dtype : kDtypes) {
    const RowFormat format(dtype, 20, 3);
    std::vector<float> row(60, 1.0f);
    for (std::size_t i = 20; i < 40; ++i) row[i] = NAN;
    const std::vector<float> out = through(format, row);
    EXPECT(out[0] == 1.0f && out[19] == 1.0f && out[40] == 1.0f && out[59] == 1.0f);
    EXPECT(all_nan(&out[20], 20));
  }
}

// A scale a part, so that a large part does not coarsen a small one.
void test_int8_is_off_by_half_a_step_at_most() {
  const RowFormat format(Dtype::kInt8, 64, 4);
  for (unsigned seed = 0; seed < 200; ++seed) {
    std::vector<float> row;
    for (const float most : {1e-30f, 1e-3f, 1.0f, 1e30f}) {
      for (const float value : random_row(64, most, seed)) row.push_back(value);
    }
    const Stored made = stored(format, row);
    const std::vector<float> out = loaded(format, made, 4);
    for (std::size_t i = 0; i < row.size(); ++i) {
      EXPECT(std::fabs(out[i] - row[i]) <= made.scales[i / 64] * 0.50002f);
    }
  }
}

void test_int8_keeps_whole_steps_and_the_largest_value() {
  const RowFormat format(Dtype::kInt8, 255, 1);
  std::vector<float> row;
  for (int i = -127; i <= 127; ++i) row.push_back(static_cast<float>(i) * 0.25f);
  EXPECT(same_bits(through(format, row), row));
}

void test_int8_without_values_to_speak_of_is_zeros() {
  const float least = 127 * std::numeric_limits<float>::min();
  const RowFormat format(Dtype::kInt8, 3, 2);
  const Stored made = stored(format, {-0.0f, std::nextafter(least, 0.0f), 1e-45f, 0, -least, 0});
  EXPECT(made.scales[0] == 0 && made.scales[1] == std::numeric_limits<float>::min());
  EXPECT(same_bits(loaded(format, made, 2), {0, 0, 0, 0, -least, 0}));
}

void test_int8_makes_nothing_up_for_what_it_cannot_hold() {
  const RowFormat format(Dtype::kInt8, 3, 2);
  for (const float wrong : {INFINITY, -INFINITY, NAN, -NAN}) {
    const std::vector<float> out = through(format, {1, wrong, 3, 127, 0, -127});
    EXPECT(all_nan(out.data(), 3));
    EXPECT(out[3] == 127 && out[4] == 0 && out[5] == -127);
  }
}

void test_int8_takes_the_largest_floats_without_overflow() {
  const RowFormat format(Dtype::kInt8, 2, 1);
  float value = std::numeric_limits<float>::max();
  for (int i = 0; i < 2000; ++i, value = std::nextafter(value, 0.0f)) {
    const std::vector<float> out = through(format, {value, -value});
    EXPECT(std::isfinite(out[0]) && out[0] == -out[1] && out[0] >= value * 0.999f);
  }
}

void test_scales_of_other_formats_are_zero() {
  for (const Dtype dtype : kDtypes) {
    const Stored made = stored(RowFormat(dtype, 2, 2), {1, 2, 3, 4});
    for (std::size_t i = dtype == Dtype::kInt8 ? 2 : 0; i < kScales; ++i) {
      EXPECT(std::bit_cast<std::uint32_t>(made.scales[i]) == 0);
    }
  }
}

}  // namespace
}  // namespace predawn

int main() {
  predawn::test_names_lead_back_to_their_type();
  predawn::test_sizes_are_whole_words();
  predawn::test_padding_is_zeroed_and_nothing_behind_it_is_touched();
  predawn::test_every_isa_makes_the_same_bytes();
  predawn::test_a_prefix_of_parts_is_a_prefix_of_the_row();
  predawn::test_fp32_keeps_every_bit();
  predawn::test_absent_parts_stay_absent_in_every_format();
  predawn::test_int8_is_off_by_half_a_step_at_most();
  predawn::test_int8_keeps_whole_steps_and_the_largest_value();
  predawn::test_int8_without_values_to_speak_of_is_zeros();
  predawn::test_int8_makes_nothing_up_for_what_it_cannot_hold();
  predawn::test_int8_takes_the_largest_floats_without_overflow();
  predawn::test_scales_of_other_formats_are_zero();
  return predawn::testing::failures == 0 ? 0 : 1;
}
