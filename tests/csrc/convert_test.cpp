// Every set of conversions gives the portable one's bits, at every length, and writes nothing else;
// the portable one rounds as IEEE 754 says.
#include "convert.hpp"

#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "expect.hpp"

namespace predawn {
namespace {

constexpr std::size_t kLengthMax = 130;
const Converters kPortable = portable_converters();

std::vector<Isa> supported() {
  std::vector<Isa> all;
  for (const Isa isa : {Isa::kPortable, Isa::kAvx2, Isa::kAvx512, Isa::kNeon}) {
    if (is_supported(isa)) all.push_back(isa);
  }
  return all;
}

template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}

std::vector<std::uint16_t> every_16_bits() {
  std::vector<std::uint16_t> all(1 << 16);
  for (std::size_t i = 0; i < all.size(); ++i) all[i] = static_cast<std::uint16_t>(i);
  return all;
}

// Every exponent with mixed low bits, and what lies on and beside each edge between two halves and
// between two bf16 values.
std::vector<float> many_floats() {
  constexpr std::uint64_t kStride = 4093;  // a prime
  std::vector<float> floats;
  for (std::uint64_t bits = 0; bits < (std::uint64_t{1} << 32); bits += kStride) {
    floats.push_back(std::bit_cast<float>(static_cast<std::uint32_t>(bits)));
  }
  for (const std::uint16_t value : every_16_bits()) {
    const auto half = std::bit_cast<std::uint32_t>(float_of_half(value));
    const std::uint32_t bf16 = std::uint32_t{value} << 16;
    for (const std::uint32_t edge : {half, half + 0x1000, bf16, bf16 + 0x8000}) {
      for (const std::uint32_t bits : {edge - 1, edge, edge + 1}) {
        floats.push_back(std::bit_cast<float>(bits));
      }
    }
  }
  return floats;
}

template <class To, class From, class Convert>
std::vector<To> converted(const std::vector<From>& from, Convert convert) {
  std::vector<To> to(from.size());
  convert(from.data(), to.data(), from.size());
  return to;
}

void test_narrowing_agrees(const Converters& fast) {
  const std::vector<float> floats = many_floats();
  EXPECT(same_bits(converted<std::uint16_t>(floats, fast.to_half),
                   converted<std::uint16_t>(floats, kPortable.to_half)));
  EXPECT(same_bits(converted<std::uint16_t>(floats, fast.to_bf16),
                   converted<std::uint16_t>(floats, kPortable.to_bf16)));
}

void test_widening_agrees(const Converters& fast) {
  const std::vector<std::uint16_t> all = every_16_bits();
  EXPECT(
      same_bits(converted<float>(all, fast.from_half), converted<float>(all, kPortable.from_half)));
  EXPECT(
      same_bits(converted<float>(all, fast.from_bf16), converted<float>(all, kPortable.from_bf16)));
}

// Runs `convert(from, to, count)` of both on every length, into places that no vector is aligned
// to, between guards.
template <class To, class From, class One, class Other>
void same_at_every_length(const std::vector<From>& from, One one, Other other) {
  for (std::size_t count = 0; count <= kLengthMax; ++count) {
    for (std::size_t shift = 1; shift <= 3; shift += 2) {
      const To guard = static_cast<To>(77);
      std::vector<To> a(kLengthMax + 8, guard);
      std::vector<To> b = a;
      one(from.data() + shift, a.data() + shift, count);
      other(from.data() + shift, b.data() + shift, count);
      EXPECT(same_bits(a, b));
      EXPECT(a[shift - 1] == guard && a[shift + count] == guard);
    }
  }
}

std::vector<float> random_floats(std::size_t count, float most) {
  std::mt19937 random(7);
  std::uniform_real_distribution<float> uniform(-most, most);
  std::vector<float> floats(count);
  for (float& value : floats) value = uniform(random);
  return floats;
}

void test_lengths_and_places_agree(const Converters& fast) {
  const std::vector<float> floats = random_floats(kLengthMax + 8, 100.0f);
  std::vector<std::uint16_t> words(kLengthMax + 8);
  for (std::size_t i = 0; i < words.size(); ++i) words[i] = static_cast<std::uint16_t>(i * 503);
  same_at_every_length<std::uint16_t>(floats, fast.to_half, kPortable.to_half);
  same_at_every_length<std::uint16_t>(floats, fast.to_bf16, kPortable.to_bf16);
  same_at_every_length<float>(words, fast.from_half, kPortable.from_half);
  same_at_every_length<float>(words, fast.from_bf16, kPortable.from_bf16);
}

void test_int8_agrees(const Converters& fast) {
  constexpr float kInverse = 127.0f / 100.0f;
  const auto to = [](const Converters& converters) {
    return [&converters](const float* from, std::int8_t* out, std::size_t count) {
      converters.to_int8(from, kInverse, out, count);
    };
  };
  const auto from = [](const Converters& converters) {
    return [&converters](const std::int8_t* bytes, float* out, std::size_t count) {
      converters.from_int8(bytes, 0.1f, out, count);
    };
  };
  same_at_every_length<std::int8_t>(random_floats(kLengthMax + 8, 100.0f), to(fast), to(kPortable));
  const std::vector<float> many = random_floats(1 << 18, 100.0f);
  EXPECT(same_bits(converted<std::int8_t>(many, to(fast)),
                   converted<std::int8_t>(many, to(kPortable))));
  std::vector<std::int8_t> bytes(256);
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::int8_t>(i);
  same_at_every_length<float>(bytes, from(fast), from(kPortable));
  EXPECT(same_bits(converted<float>(bytes, from(fast)), converted<float>(bytes, from(kPortable))));
}

// Halves between whole numbers go to the even one; what lies just beside them does not.
void test_int8_ties_agree(const Converters& fast) {
  std::vector<float> edges;
  for (int i = -127; i < 127; ++i) {
    const float tie = static_cast<float>(i) + 0.5f;
    edges.insert(edges.end(), {tie, std::nextafter(tie, 1e3f), std::nextafter(tie, -1e3f)});
  }
  std::vector<std::int8_t> bytes(edges.size());
  fast.to_int8(edges.data(), 1.0f, bytes.data(), edges.size());
  for (std::size_t i = 0; i < edges.size(); ++i) {
    EXPECT(bytes[i] == static_cast<std::int8_t>(std::nearbyint(edges[i])));
  }
}

void test_largest_agrees(const Converters& fast) {
  for (std::size_t count = 0; count <= kLengthMax; ++count) {
    std::vector<float> floats = random_floats(count, 9.0f);
    EXPECT(fast.largest(floats.data(), count) == kPortable.largest(floats.data(), count));
    for (const float special : {-10.0f, -INFINITY, NAN}) {
      if (count == 0) break;
      floats[count * 7 % count] = 1;
      floats[count - 1] = special;
      EXPECT(fast.largest(floats.data(), count) ==
             (std::bit_cast<std::uint32_t>(special) & kSizeBits));
    }
  }
}

void test_half_rounds_to_the_nearest_and_ties_to_even() {
  for (std::uint32_t half = 0; half + 1 < 0x7c00; ++half) {
    const float low = float_of_half(static_cast<std::uint16_t>(half));
    const float high = float_of_half(static_cast<std::uint16_t>(half + 1));
    const float middle = low + (high - low) / 2;
    EXPECT(half_of_float(middle) == half + half % 2);
    EXPECT(half_of_float(std::nextafter(middle, high)) == half + 1);
    EXPECT(half_of_float(std::nextafter(middle, low)) == half);
  }
}

void test_bf16_rounds_to_the_nearest_and_ties_to_even() {
  for (std::uint32_t bf16 = 0; bf16 < 0x7f80; ++bf16) {
    const std::uint32_t bits = bf16 << 16;
    const auto rounded = [](std::uint32_t of) { return bf16_of_float(std::bit_cast<float>(of)); };
    EXPECT(rounded(bits + 0x8000) == bf16 + bf16 % 2);
    EXPECT(rounded(bits + 0x8001) == bf16 + 1);
    EXPECT(rounded(bits + 0x7fff) == bf16);
    EXPECT(rounded(0x80000000u | (bits + 0x8001)) == (0x8000 | (bf16 + 1)));
  }
}

void test_what_was_widened_narrows_to_itself() {
  for (const std::uint16_t value : every_16_bits()) {
    const float half = float_of_half(value);
    const float bf16 = float_of_bf16(value);
    if (!std::isnan(half)) EXPECT(half_of_float(half) == value);
    if (!std::isnan(bf16)) EXPECT(bf16_of_float(bf16) == value);
  }
}

void test_nan_keeps_its_sign_and_becomes_quiet() {
  const float signalling = std::bit_cast<float>(0xff800001u);
  EXPECT(half_of_float(signalling) == 0xfe00);
  EXPECT(bf16_of_float(signalling) == 0xffc0);
  EXPECT(bf16_of_float(std::bit_cast<float>(0x7fffffffu)) == 0x7fff);
  EXPECT(std::bit_cast<std::uint32_t>(float_of_half(0xfc01)) == 0xffc02000u);
}

void test_the_best_is_supported_and_has_a_name() {
  EXPECT(is_supported(best_isa()));
  EXPECT(is_supported(Isa::kPortable));
  EXPECT(std::strlen(name_of(best_isa())) > 0);
  EXPECT(std::strcmp(name_of(Isa::kPortable), "portable") == 0);
}

void test_all_agree() {
  for (const Isa isa : supported()) {
    const Converters fast = converters(isa);
    test_narrowing_agrees(fast);
    test_widening_agrees(fast);
    test_lengths_and_places_agree(fast);
    test_int8_agrees(fast);
    test_int8_ties_agree(fast);
    test_largest_agrees(fast);
    if (testing::failures != 0) std::fprintf(stderr, "by then: %s\n", name_of(isa));
  }
}

}  // namespace
}  // namespace predawn

int main() {
  predawn::test_half_rounds_to_the_nearest_and_ties_to_even();
  predawn::test_bf16_rounds_to_the_nearest_and_ties_to_even();
  predawn::test_what_was_widened_narrows_to_itself();
  predawn::test_nan_keeps_its_sign_and_becomes_quiet();
  predawn::test_the_best_is_supported_and_has_a_name();
  predawn::test_all_agree();
  return predawn::testing::failures == 0 ? 0 : 1;
}
