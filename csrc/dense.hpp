// Small dense layers: weights packed once, products of a few rows with them, by this machine's best
// instructions.
//
// What: `Panels` (packed weights [depth, columns]), `arithmetic(isa)`, `begin_at`, `multiply`.
// When not: hundreds of rows on several cores (torch), weights that change.
// Functions: `multiply` adds rows times weights to what `out` holds; the caller put the bias there.
//   What a row gives depends on nothing else (dense_portable.hpp).
// Design: the depth is taken 96 at a time, so that four panels of it (24 KiB) stay in the first
//   cache while all rows pass by. Sums wait in `out` between two times, which changes no bit.
// Memory: 4 bytes a weight, columns rounded up to 16. Cost: docs/benchmarks.md, `models`.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <memory>
#include <new>

#include "convert.hpp"
#include "dense_portable.hpp"
#include "dense_x86.hpp"

namespace predawn {

// Of an unsupported set of instructions: the portable one.
[[nodiscard]] inline Arithmetic arithmetic(Isa isa) noexcept {
#if defined(__x86_64__)
  if (is_supported(isa) && isa == Isa::kAvx512) return avx512_arithmetic();
  if (is_supported(isa) && isa == Isa::kAvx2 && has_fma()) return avx2_arithmetic();
#endif
  static_cast<void>(isa);
  return portable_arithmetic();
}

class Panels {
 public:
  // weights: [depth, columns], row by row.
  Panels(const float* weights, std::size_t depth, std::size_t columns)
      : depth_(depth), columns_(columns), packed_(allocate(count() * stride())) {
    for (std::size_t panel = 0; panel < count(); ++panel) pack(weights, panel);
  }

  [[nodiscard]] std::size_t depth() const noexcept { return depth_; }
  [[nodiscard]] std::size_t columns() const noexcept { return columns_; }
  [[nodiscard]] std::size_t count() const noexcept { return (columns_ + kPanel - 1) / kPanel; }
  // Floats from one panel to the next.
  [[nodiscard]] std::size_t stride() const noexcept { return depth_ * kPanel; }
  [[nodiscard]] const float* data() const noexcept { return packed_.get(); }
  [[nodiscard]] std::size_t bytes() const noexcept { return count() * stride() * sizeof(float); }

 private:
  static constexpr std::align_val_t kLine{64};
  struct Free {
    void operator()(float* memory) const noexcept { ::operator delete(memory, kLine); }
  };

  static float* allocate(std::size_t floats) {
    return static_cast<float*>(::operator new(std::max<std::size_t>(floats, 1) * 4, kLine));
  }

  void pack(const float* weights, std::size_t panel) noexcept {
    const std::size_t first = panel * kPanel;
    const std::size_t width = std::min(kPanel, columns_ - first);
    float* to = packed_.get() + panel * stride();
    for (std::size_t i = 0; i < depth_; ++i, to += kPanel) {
      std::fill_n(std::copy_n(weights + i * columns_ + first, width, to), kPanel - width, 0.0f);
    }
  }

  std::size_t depth_;
  std::size_t columns_;
  std::unique_ptr<float, Free> packed_;
};

// Rows of floats; `stride` floats from one to the next.
template <class T>
struct Strided {
  T* data;
  std::size_t stride;
};

// What `out` holds before a product: the bias in every row, or zeros.
inline void begin_at(const float* bias, std::size_t rows, std::size_t columns,
                     float* out) noexcept {
  for (std::size_t row = 0; row < rows; ++row, out += columns) {
    if (bias == nullptr) {
      std::fill_n(out, columns, 0.0f);
    } else {
      std::copy_n(bias, columns, out);
    }
  }
}

// out[rows, columns] += x[rows, depth] * panels, then the rectifier if asked for.
inline void multiply(const Arithmetic& by, Strided<const float> x, const Panels& panels,
                     Strided<float> out, std::size_t rows, bool is_rectified) noexcept {
  constexpr std::size_t kDepth = 96;
  std::size_t done = 0;
  do {
    const std::size_t depth = std::min(kDepth, panels.depth() - done);
    const bool is_last = done + depth == panels.depth();
    by.multiply({.x = x.data + done,
                 .x_stride = x.stride,
                 .panels = panels.data() + done * kPanel,
                 .panel_stride = panels.stride(),
                 .depth = depth,
                 .out = out.data,
                 .out_stride = out.stride,
                 .rows = rows,
                 .columns = panels.columns(),
                 .is_rectified = is_rectified && is_last});
    done += depth;
  } while (done < panels.depth());
}

}  // namespace predawn
