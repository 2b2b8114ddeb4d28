// Every set of instructions computes the layer that plain loops over doubles compute, at every
// width and number of rows, writes nothing else, and gives a row the same bits in any company.
#include "dense.hpp"

#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "expect.hpp"

namespace predawn {
namespace {

constexpr float kGuard = 12345.0f;

std::vector<Isa> supported() {
  std::vector<Isa> all;
  for (const Isa isa : {Isa::kPortable, Isa::kAvx2, Isa::kAvx512}) {
    if (is_supported(isa)) all.push_back(isa);
  }
  return all;
}

std::vector<float> random_floats(std::size_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::uniform_real_distribution<float> uniform(-1, 1);
  std::vector<float> floats(count);
  for (float& value : floats) value = uniform(random);
  return floats;
}

struct Layer {
  std::size_t rows;
  std::size_t depth;
  std::size_t columns;
  std::vector<float> x = random_floats(rows * depth, 1);
  std::vector<float> weights = random_floats(depth * columns, 2);
  std::vector<float> begin = random_floats(rows * columns, 3);

  // With a guard behind each row of the output.
  [[nodiscard]] std::vector<float> run(Isa isa, bool is_rectified) const {
    const std::size_t stride = columns + 1;
    std::vector<float> out(rows * stride, kGuard);
    for (std::size_t row = 0; row < rows; ++row) {
      std::copy_n(begin.data() + row * columns, columns, out.data() + row * stride);
    }
    const Panels panels(weights.data(), depth, columns);
    multiply(arithmetic(isa), {x.data(), depth}, panels, {out.data(), stride}, rows, is_rectified);
    return out;
  }

  [[nodiscard]] double expected(std::size_t row, std::size_t column) const {
    double sum = begin[row * columns + column];
    for (std::size_t i = 0; i < depth; ++i) {
      sum += double{x[row * depth + i]} * double{weights[i * columns + column]};
    }
    return sum;
  }
};

void test_layer(Isa isa, const Layer& layer, bool is_rectified) {
  const std::vector<float> out = layer.run(isa, is_rectified);
  double worst = 0;
  for (std::size_t row = 0; row < layer.rows; ++row) {
    const float* got = out.data() + row * (layer.columns + 1);
    for (std::size_t column = 0; column < layer.columns; ++column) {
      const double sum = layer.expected(row, column);
      worst = std::max(worst, std::abs(got[column] - (is_rectified ? std::max(sum, 0.0) : sum)));
    }
    EXPECT(got[layer.columns] == kGuard);
  }
  EXPECT(worst < 1e-6 * static_cast<double>(layer.depth + 4));
}

void test_shapes(Isa isa) {
  for (const std::size_t rows : {1, 2, 3, 5, 6, 7, 13}) {
    for (const std::size_t columns : {1, 15, 16, 17, 33, 64, 65, 130, 200}) {
      for (const std::size_t depth : {0, 1, 7, 96, 97, 200}) {
        test_layer(isa, {rows, depth, columns}, depth % 2 == 1);
      }
    }
  }
}

void test_a_row_stands_alone(Isa isa) {
  const Layer all{23, 130, 77};
  const std::vector<float> together = all.run(isa, false);
  for (std::size_t row = 0; row < all.rows; ++row) {
    Layer one{1, all.depth, all.columns};
    one.x.assign(all.x.data() + row * all.depth, all.x.data() + (row + 1) * all.depth);
    one.begin.assign(all.begin.data() + row * all.columns, all.begin.data() + (row + 1) * 77);
    const std::vector<float> alone = one.run(isa, false);
    EXPECT(std::equal(alone.begin(), alone.end(), together.begin() + static_cast<long>(row * 78)));
  }
}

void test_not_a_number_passes_the_rectifier(Isa isa) {
  Layer layer{3, 5, 20};
  layer.x[7] = std::numeric_limits<float>::quiet_NaN();
  const std::vector<float> out = layer.run(isa, true);
  EXPECT(!std::isnan(out[0]) && std::isnan(out[21]) && std::isnan(out[40]) && !std::isnan(out[42]));
}

void test_sums_and_dots(Isa isa) {
  const Arithmetic by = arithmetic(isa);
  for (std::size_t length = 0; length <= 70; ++length) {
    const std::vector<float> a = random_floats(length, 1);
    const std::vector<float> b = random_floats(length, 2);
    const std::vector<float> c = random_floats(length, 3);
    const float* parts[] = {a.data(), b.data()};
    std::vector<float> out(length + 1, kGuard);
    by.sum({parts, 2, 0.5f, c.data(), out.data(), length});
    double dot = 0;
    for (std::size_t j = 0; j < length; ++j) {
      EXPECT(std::abs(out[j] - (a[j] + b[j] + 0.5f * c[j])) < 1e-6f);
      dot += double{a[j]} * double{b[j]};
    }
    EXPECT(out[length] == kGuard);
    EXPECT(std::abs(by.dot(a.data(), b.data(), length) - dot) < 1e-5);
    by.sum({parts, 1, 0, nullptr, out.data(), length});
    EXPECT(std::equal(a.begin(), a.end(), out.begin()));
  }
}

void test_fused_sets_agree() {
  if (!is_supported(Isa::kAvx512) || !is_supported(Isa::kAvx2)) return;
  const Layer layer{9, 120, 90};
  EXPECT(layer.run(Isa::kAvx512, true) == layer.run(Isa::kAvx2, true));
}

}  // namespace
}  // namespace predawn

int main() {
  using namespace predawn;
  for (const Isa isa : supported()) {
    test_shapes(isa);
    test_a_row_stands_alone(isa);
    test_not_a_number_passes_the_rectifier(isa);
    test_sums_and_dots(isa);
  }
  test_fused_sets_agree();
  return testing::failures == 0 ? 0 : 1;
}
