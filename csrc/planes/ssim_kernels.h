// Structural similarity and its gradient, row by row.
//
// With window means mx, my, and windowed second moments exx, eyy, exy (variance = exx - mx^2, ...):
//     S = A1 A2 / (B1 B2),  A1 = 2 mx my + C1,  A2 = 2 (exy - mx my) + C2,
//     B1 = mx^2 + my^2 + C1,  B2 = (exx - mx^2) + (eyy - my^2) + C2.
// The window is a separable Gaussian; at the borders the weights that fall outside are dropped and the rest
// renormalised, which keeps it separable: W = diag(1/norm) G, and its adjoint G diag(1/norm) is the plain Gaussian of
// the scaled map.
//     dS/dx = W^T(dS/dmx) + 2 x W^T(dS/dexx) + y W^T(dS/dexy).
#pragma once

#include "planes/kernels.h"
#include "support/simd.h"

namespace GM_ISA {

constexpr int kTaps = 2 * kSsimRadius + 1;

// Row pointers and weights of the taps around `row`: taps outside read the row itself with weight 0.
static inline float taps(const float* plane, int64_t row_stride, int rows, int row, const float* window,
                         const float** pointer, float* weight) {
  float total = 0.0f;
  for (int k = 0; k < kTaps; ++k) {
    const int r = row + k - kSsimRadius;
    const bool inside = r >= 0 && r < rows;
    pointer[k] = plane + (inside ? r : row) * row_stride;
    weight[k] = inside ? window[k] : 0.0f;
    total += weight[k];
  }
  return total;
}

// Along a row of the scratch, which is padded on both sides.
static inline void along_row(const float* in, const float* window, int columns, float* out) {
  for (int i = 0; i < columns; i += kLanes) {
    F value = mul(set(window[0]), load(in + i));
    for (int k = 1; k < kTaps; ++k) value = fma(set(window[k]), load(in + i + k), value);
    store(out + i, value);
  }
}

static inline void clear_sides(float* row, int columns) {
  for (int i = 0; i < kSsimRadius; ++i) row[i] = row[columns + kSsimRadius + i] = 0.0f;
}

static double ssim_row(const float* image, const float* target, int rows, int columns, int row, const float* window,
                       const float* column_scale, float* scratch, float* maps, int64_t map_stride) {
  const float *x_row[kTaps], *y_row[kTaps];
  float weight[kTaps];
  const float row_scale = 1.0f / taps(image, columns, rows, row, window, x_row, weight);
  taps(target, columns, rows, row, window, y_row, weight);
  const int width = columns + 2 * kSsimRadius + kPadding;
  float* const down = scratch;  // five rows: x, y, xx, yy, xy
  for (int i = 0; i < columns; i += kLanes) {
    F sx = set(0.0f), sy = sx, sxx = sx, syy = sx, sxy = sx;
    for (int k = 0; k < kTaps; ++k) {
      const F w = set(weight[k]), x = load_part(x_row[k] + i, columns - i), y = load_part(y_row[k] + i, columns - i);
      const F wx = mul(w, x), wy = mul(w, y);
      sx = add(sx, wx);
      sy = add(sy, wy);
      sxx = fma(wx, x, sxx);
      syy = fma(wy, y, syy);
      sxy = fma(wx, y, sxy);
    }
    float* const out = down + kSsimRadius + i;
    store(out, sx);
    store(out + width, sy);
    store(out + 2 * width, sxx);
    store(out + 3 * width, syy);
    store(out + 4 * width, sxy);
  }
  float* const across = scratch + 5 * width;
  for (int m = 0; m < 5; ++m) {
    clear_sides(down + m * width, columns);
    along_row(down + m * width, window, columns, across + m * width);
  }
  constexpr float C1 = 0.01f * 0.01f, C2 = 0.03f * 0.03f;
  const F one = set(1.0f), two = set(2.0f), c1 = set(C1), c2 = set(C2);
  float* const value = scratch;
  for (int i = 0; i < columns; i += kLanes) {
    const int n = columns - i;
    const F scale = mul(set(row_scale), load_part(column_scale + i, n));
    const float* const in = across + i;
    const F x = mul(load(in), scale), y = mul(load(in + width), scale);
    const F x2 = mul(x, x), y2 = mul(y, y), xy = mul(x, y);
    const F A1 = fma(two, xy, c1), A2 = fma(two, sub(mul(load(in + 4 * width), scale), xy), c2);
    const F B1 = add(add(x2, y2), c1);
    const F B2 = add(add(sub(mul(load(in + 2 * width), scale), x2), sub(mul(load(in + 3 * width), scale), y2)), c2);
    const F inverse_B1 = div(one, B1), inverse_B2 = div(one, B2), inverse = mul(inverse_B1, inverse_B2);
    const F S = mul(mul(A1, A2), inverse);
    store(value + i, S);
    const F mean = fma(mul(y, sub(A2, A1)), inverse, mul(mul(x, S), sub(inverse_B2, inverse_B1)));
    store_part(maps + i, mul(mul(two, scale), mean), n);
    store_part(maps + map_stride + i, sub(set(0.0f), mul(scale, mul(S, inverse_B2))), n);
    store_part(maps + 2 * map_stride + i, mul(mul(two, scale), mul(A1, inverse)), n);
  }
  double partial[8] = {0.0};
  int i = 0;
  for (; i + 8 <= columns; i += 8)
    for (int k = 0; k < 8; ++k) partial[k] += static_cast<double>(value[i + k]);
  for (; i < columns; ++i) partial[0] += static_cast<double>(value[i]);
  return ((partial[0] + partial[1]) + (partial[2] + partial[3])) +
         ((partial[4] + partial[5]) + (partial[6] + partial[7]));
}

static void ssim_gradient_row(const float* image, const float* target, int rows, int columns, int row,
                              const float* window, const float* maps, int64_t map_stride, int64_t map_row, float scale,
                              float* scratch, float* gradient) {
  const int width = columns + 2 * kSsimRadius + kPadding;
  for (int m = 0; m < 3; ++m) {
    const float* map_rows[kTaps];
    float weight[kTaps];
    taps(maps + m * map_stride, map_row, rows, row, window, map_rows, weight);
    for (int i = 0; i < columns; i += kLanes) {
      F value = set(0.0f);
      for (int k = 0; k < kTaps; ++k) value = fma(set(weight[k]), load_part(map_rows[k] + i, columns - i), value);
      store(scratch + kSsimRadius + i, value);
    }
    clear_sides(scratch, columns);
    along_row(scratch, window, columns, scratch + (m + 1) * width);
  }
  const int64_t at = static_cast<int64_t>(row) * columns;
  for (int i = 0; i < columns; i += kLanes) {
    const int n = columns - i;
    const F x = load_part(image + at + i, n), y = load_part(target + at + i, n);
    const float* const in = scratch + width + i;
    const F value = fma(add(x, x), load(in + width), fma(y, load(in + 2 * width), load(in)));
    store_part(gradient + at + i, mul(set(scale), value), n);
  }
}

}  // namespace GM_ISA
