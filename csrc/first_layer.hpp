// The first layer of a ranker, from where its inputs lie: gathered, widened, multiplied, in one.
//
// What: `FirstLayer`, what a snapshot decides; `Candidates`, what a batch brings; `run`:
//     out[r] = user_part[request of r] + projected[item of r]
//            + sum over pair models of source_part[model, source of r's pair]
//            + (taste[request of r] . vectors[vector of r]) match
//            + [vectors[vector of r] | pairs[r], 0 where missing | dense[r]] weights
//   then a rectifier if asked for. Every term but the user part may be absent.
// When not: hundreds of rows on several cores, or gradients (torch); the layers after this one
//   (dense.hpp).
// Functions: the caller has checked shapes, positions and sources. A pair whose source is
//   `missing` counts as zeros, whatever `pairs` holds: what a miss is worth, the learned vector
//   times its weights, is part of its row of `source_part`. A row of `out` depends on its request
//   and its candidate alone, bit by bit.
// Design: 48 rows at a time: table rows are asked for 6 rows before their turn, the sums begin in
//   `out`, what is to be multiplied is laid side by side in scratch, then one product with packed
//   weights adds it.
// Memory: scratch of the thread, 48 rows wide, kept. Cost: 2 * depth * columns FLOP a row at the
//   rate of dense.hpp; no atomics.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "convert.hpp"
#include "dense.hpp"
#include "stored_rows.hpp"

namespace predawn {

struct Candidates {
  std::span<const std::int64_t> offsets;  // of U requests: request u has rows offsets[u] to [u + 1]
  const float* user_part;                 // [U, columns]
  const float* taste;                     // [U, vectors' width]
  std::span<const std::int64_t> projected;  // [R] or none
  std::span<const std::int64_t> vectors;    // [R] or none
  const float* pairs;                       // [R, sum of pair widths]
  const std::uint8_t* pair_sources;         // [R, pair models]
  const float* dense;                       // [R, dense width]
  float* out;                               // [R, columns]

  [[nodiscard]] std::size_t rows() const noexcept {
    return static_cast<std::size_t>(offsets.back());
  }
};

struct FirstLayer {
  Panels weights;  // [vectors' width, if multiplied, + pair widths + dense width, columns]
  StoredRows projected;
  StoredRows vectors;
  bool has_vectors_multiplied = false;
  const float* match = nullptr;          // [columns]
  std::vector<std::size_t> pair_widths;  // one a pair model
  const float* source_part = nullptr;    // [pair models * sources, columns]
  std::size_t sources = 0;
  std::uint8_t missing = 0;
  std::size_t dense_width = 0;
  bool is_rectified = false;

  [[nodiscard]] std::size_t pairs_width() const noexcept {
    std::size_t all = 0;
    for (const std::size_t width : pair_widths) all += width;
    return all;
  }
  // Of the product that `weights` must fit.
  [[nodiscard]] std::size_t depth() const noexcept {
    return (has_vectors_multiplied ? vectors.width : 0) + pairs_width() + dense_width;
  }
};

namespace detail {

inline constexpr std::size_t kBlockRows = 48;
inline constexpr std::size_t kAheadRows = 6;

// A run over a batch: what `run` needs besides the two.
class FirstLayerRun {
 public:
  FirstLayerRun(const FirstLayer& layer, const Candidates& batch, Isa isa)
      : layer_(layer),
        batch_(batch),
        convert_(converters(isa)),
        arithmetic_(arithmetic(isa)),
        columns_(layer.weights.columns()),
        depth_(layer.depth()) {
    static thread_local std::vector<float> scratch;
    static thread_local std::vector<const float*> parts;
    const std::size_t block = kBlockRows * depth_;
    const std::size_t needed = block + columns_ + layer.vectors.width;
    if (scratch.size() < needed) scratch.resize(needed);
    if (parts.size() < layer.pair_widths.size() + 2) parts.resize(layer.pair_widths.size() + 2);
    inputs_ = scratch.data();
    projected_room_ = inputs_ + block;
    vector_room_ = projected_room_ + columns_;
    parts_ = parts.data();
  }

  void all() noexcept {
    const std::size_t rows = batch_.rows();
    for (std::size_t begin = 0; begin < rows; begin += kBlockRows) {
      block(begin, std::min(rows, begin + kBlockRows));
    }
  }

 private:
  void block(std::size_t begin, std::size_t end) noexcept {
    for (std::size_t row = begin; row < std::min(end, begin + kAheadRows); ++row) ask_for(row);
    for (std::size_t row = begin; row < end; ++row) {
      if (row + kAheadRows < end) ask_for(row + kAheadRows);
      while (static_cast<std::size_t>(batch_.offsets[request_ + 1]) <= row) ++request_;
      one(row, inputs_ + (row - begin) * depth_);
    }
    multiply(arithmetic_, {inputs_, depth_}, layer_.weights,
             {batch_.out + begin * columns_, columns_}, end - begin, layer_.is_rectified);
  }

  [[gnu::always_inline]] void ask_for(std::size_t row) const noexcept {
    if (!batch_.projected.empty()) layer_.projected.ask_for(batch_.projected[row]);
    if (!batch_.vectors.empty()) layer_.vectors.ask_for(batch_.vectors[row]);
  }

  // Begins the sums of a row, and lays out what it brings to the product.
  void one(std::size_t row, float* inputs) noexcept {
    std::size_t count = 0;
    parts_[count++] = batch_.user_part + request_ * columns_;
    if (!batch_.projected.empty()) {
      parts_[count++] = layer_.projected.at(batch_.projected[row], projected_room_, convert_);
    }
    const float* vector = nullptr;
    if (!batch_.vectors.empty()) {
      vector = layer_.vectors.at(batch_.vectors[row], vector_room_, convert_);
      if (layer_.has_vectors_multiplied) inputs = copied(vector, layer_.vectors.width, inputs);
    }
    const float* pairs = batch_.pairs + row * layer_.pairs_width();
    const std::size_t models = layer_.pair_widths.size();
    for (std::size_t model = 0; model < models; ++model) {
      const std::uint8_t source = batch_.pair_sources[row * models + model];
      const std::size_t width = layer_.pair_widths[model];
      parts_[count++] = layer_.source_part + (model * layer_.sources + source) * columns_;
      inputs = source == layer_.missing ? std::fill_n(inputs, width, 0.0f)
                                        : copied(pairs, width, inputs);
      pairs += width;
    }
    copied(batch_.dense + row * layer_.dense_width, layer_.dense_width, inputs);
    float factor = 0;
    if (layer_.match != nullptr) {
      const std::size_t width = layer_.vectors.width;
      factor = arithmetic_.dot(batch_.taste + request_ * width, vector, width);
    }
    arithmetic_.sum({parts_, count, factor, layer_.match, batch_.out + row * columns_, columns_});
  }

  static float* copied(const float* from, std::size_t width, float* to) noexcept {
    if (width != 0) std::memcpy(to, from, width * sizeof(float));
    return to + width;
  }

  const FirstLayer& layer_;
  const Candidates& batch_;
  const Converters convert_;
  const Arithmetic arithmetic_;
  const std::size_t columns_;
  const std::size_t depth_;
  std::size_t request_ = 0;
  float* inputs_ = nullptr;
  float* projected_room_ = nullptr;
  float* vector_room_ = nullptr;
  const float** parts_ = nullptr;
};

}  // namespace detail

// Throws only where the thread's scratch cannot grow.
inline void run(const FirstLayer& layer, const Candidates& batch, Isa isa) {
  detail::FirstLayerRun(layer, batch, isa).all();
}

}  // namespace predawn
