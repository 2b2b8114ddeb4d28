// What a ranker does after its first layer: crosses, hidden layers, a probability a task.
//
// What: `CrossNetwork`:
//     x_l+1 = x_0 * (U_l (V_l x_l) + c_l) + x_l      (DCN-v2, low rank; arXiv 2008.13535, eq. 3)
//     h_l+1 = max(W_l h_l + b_l, 0), h_0 = the last x;   the last layer's through 1 / (1 + e^-z)
// When not: the first layer (first_layer.hpp), gradients (torch).
// Functions: `run(first, rows, out)`; a row of `out` depends on its row of `first` alone, bit by
//   bit. Logits are cut at 60 and -60, so that no e^-z overflows; a NaN stays one.
// Design: 48 rows at a time go through all layers while they are in the cache.
// Memory: the packed weights; scratch of the thread, kept. Cost: 2 FLOP a weight and row at the
// rate
//   of dense.hpp, and about 5 ns a probability; no atomics.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <utility>
#include <vector>

#include "dense.hpp"

namespace predawn {

struct Cross {
  Panels v;  // [width, rank]
  Panels u;  // [rank, width]
  std::vector<float> bias;
};

struct Dense {
  Panels weights;
  std::vector<float> bias;
};

class CrossNetwork {
 public:
  // Widths fit one another: every v as wide as the first layer's depth; at least one layer.
  CrossNetwork(std::vector<Cross> crosses, std::vector<Dense> layers, Isa isa)
      : crosses_(std::move(crosses)), layers_(std::move(layers)), by_(arithmetic(isa)) {
    for (const Cross& cross : crosses_) widest_ = std::max(widest_, cross.v.columns());
    for (const Dense& layer : layers_) widest_ = std::max(widest_, layer.weights.columns());
    widest_ = std::max(widest_, width());
  }

  [[nodiscard]] std::size_t width() const noexcept { return layers_.front().weights.depth(); }
  [[nodiscard]] std::size_t tasks() const noexcept { return layers_.back().weights.columns(); }
  // Products a row.
  [[nodiscard]] std::size_t weights() const noexcept {
    std::size_t all = 0;
    for (const Cross& cross : crosses_) all += 2 * cross.v.depth() * cross.v.columns();
    for (const Dense& layer : layers_) all += layer.weights.depth() * layer.weights.columns();
    return all;
  }

  // first [rows, width], out [rows, tasks]. Throws only where the thread's scratch cannot grow.
  void run(const float* first, std::size_t rows, float* out) const {
    static thread_local std::vector<float> scratch;
    const std::size_t room = kRows * widest_;
    if (scratch.size() < 3 * room) scratch.resize(3 * room);
    float* const rooms[] = {scratch.data(), scratch.data() + room, scratch.data() + 2 * room};
    for (std::size_t row = 0; row < rows; row += kRows) {
      block(first + row * width(), std::min(kRows, rows - row), rooms, out + row * tasks());
    }
  }

 private:
  static constexpr std::size_t kRows = 48;
  static constexpr float kLogitMost = 60.0f;

  void block(const float* first, std::size_t rows, float* const* rooms, float* out) const noexcept {
    const float* x = first;
    float* now = rooms[0];
    float* next = rooms[1];
    for (const Cross& cross : crosses_) {
      cross_over(cross, first, x, rows, rooms[2], now);
      x = now;
      std::swap(now, next);
    }
    for (const Dense& layer : layers_) {
      const bool is_last = &layer == &layers_.back();
      float* to = is_last ? out : now;
      apply(layer.weights, layer.bias.data(), x, rows, to, !is_last);
      x = to;
      std::swap(now, next);
    }
    for (std::size_t i = 0; i < rows * tasks(); ++i) out[i] = probability(out[i]);
  }

  // `to` is neither `first` nor `x`.
  void cross_over(const Cross& cross, const float* first, const float* x, std::size_t rows,
                  float* low_rank, float* to) const noexcept {
    apply(cross.v, nullptr, x, rows, low_rank, false);
    apply(cross.u, cross.bias.data(), low_rank, rows, to, false);
    for (std::size_t i = 0; i < rows * width(); ++i) {
      const float product = first[i] * to[i];
      to[i] = product + x[i];
    }
  }

  void apply(const Panels& weights, const float* bias, const float* x, std::size_t rows, float* to,
             bool is_rectified) const noexcept {
    begin_at(bias, rows, weights.columns(), to);
    multiply(by_, {x, weights.depth()}, weights, {to, weights.columns()}, rows, is_rectified);
  }

  static float probability(float logit) noexcept {
    const float cut = logit > kLogitMost ? kLogitMost : (logit < -kLogitMost ? -kLogitMost : logit);
    return 1.0f / (1.0f + std::exp(-cut));
  }

  std::vector<Cross> crosses_;
  std::vector<Dense> layers_;
  Arithmetic by_;
  std::size_t widest_ = 0;
};

}  // namespace predawn
