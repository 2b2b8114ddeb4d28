// What a core can do at most for a small layer: products that wait for nothing, numbers and rows
// that are only read.
#include <cstddef>
#include <cstdint>

namespace predawn::bench {
namespace {

#if defined(__AVX512F__)
constexpr std::size_t kLanes = 16;
#else
constexpr std::size_t kLanes = 8;
#endif
constexpr std::size_t kChains = 12;  // more than any core needs to hide the latency of one

using Lanes [[gnu::vector_size(kLanes * sizeof(float))]] = float;

using Words [[gnu::vector_size(kLanes * sizeof(std::uint32_t)), gnu::aligned(1), gnu::may_alias]] =
    std::uint32_t;
constexpr std::size_t kAhead = 16;  // rows asked for before they are read

float sum_of(const Lanes* vectors, std::size_t count) noexcept {
  float sum = 0;
  for (std::size_t i = 0; i < count; ++i) {
    for (std::size_t lane = 0; lane < kLanes; ++lane) sum += vectors[i][lane];
  }
  return sum;
}

}  // namespace
}  // namespace predawn::bench

extern "C" {

// At least `count` products, each added to a sum, from registers to registers.
float layers_multiply_adds(std::uint64_t count) {
  using namespace predawn::bench;
  Lanes sums[kChains] = {};
  const Lanes factor = Lanes{} + 0.999f;
  const Lanes term = Lanes{} + 0.001f;
  for (std::uint64_t done = 0; done < count; done += kChains * kLanes) {
    for (Lanes& sum : sums) sum = sum * factor + term;
  }
  return sum_of(sums, kChains);
}

// Reads `count` floats, of whole vectors, `times` times.
float layers_read(const float* from, std::uint64_t count, std::uint64_t times) {
  using namespace predawn::bench;
  Lanes sums[kChains] = {};
  const auto* vectors = reinterpret_cast<const Lanes*>(from);
  const std::uint64_t all = count / kLanes;
  for (std::uint64_t time = 0; time < times; ++time) {
    std::uint64_t i = 0;
    for (; i + kChains <= all; i += kChains) {
      for (std::size_t chain = 0; chain < kChains; ++chain) sums[chain] += vectors[i + chain];
    }
    for (; i < all; ++i) sums[0] += vectors[i];
    asm volatile("" : : : "memory");  // each time anew
  }
  return sum_of(sums, kChains);
}

// Reads the rows of `row_bytes`, whole vectors, that lie at `at` in `table`: asked for ahead, and
// added up as words.
std::uint32_t layers_read_rows(const std::uint8_t* table, const std::int64_t* at,
                               std::uint64_t count, std::uint64_t row_bytes) {
  using namespace predawn::bench;
  Words sum = {};
  for (std::uint64_t i = 0; i < count; ++i) {
    const std::uint8_t* next = table + at[i + kAhead < count ? i + kAhead : i] * row_bytes;
    for (std::uint64_t byte = 0; byte < row_bytes; byte += 64) __builtin_prefetch(next + byte);
    const std::uint8_t* row = table + at[i] * row_bytes;
    for (std::uint64_t byte = 0; byte < row_bytes; byte += sizeof(Words)) {
      sum += *reinterpret_cast<const Words*>(row + byte);
    }
  }
  std::uint32_t total = 0;
  for (std::size_t lane = 0; lane < kLanes; ++lane) total += sum[lane];
  return total;
}
}
