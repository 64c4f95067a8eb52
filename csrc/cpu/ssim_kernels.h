// Structural similarity and its gradient, row by row.
//
// With window means mx, my, and windowed second moments exx, eyy, exy (variance = exx - mx^2, ...):
//     S = A1 A2 / (B1 B2),  A1 = 2 mx my + C1,  A2 = 2 (exy - mx my) + C2,
//     B1 = mx^2 + my^2 + C1,  B2 = (exx - mx^2) + (eyy - my^2) + C2.
// The window is a separable Gaussian; at the borders the weights that fall outside are dropped and the rest renormalised,
// which keeps it separable: W = diag(1/norm) G, and its adjoint G diag(1/norm) is the plain Gaussian of the scaled map.
//     dS/dx = W^T(dS/dmx) + 2 x W^T(dS/dexx) + y W^T(dS/dexy).
#pragma once

#include "kernels.h"

namespace GM_ISA {

constexpr int kTaps = 2 * kSsimRadius + 1;

#if defined(_MSC_VER)
#define GM_RESTRICT __restrict
#else
#define GM_RESTRICT __restrict__
#endif

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

static inline void along_row(const float* GM_RESTRICT in, const float* GM_RESTRICT window, int columns,
                             float* GM_RESTRICT out) {
  for (int i = 0; i < columns; ++i) {
    float value = 0.0f;
    for (int k = 0; k < kTaps; ++k) value += window[k] * in[i + k];
    out[i] = value;
  }
}

static double ssim_row(const float* image, const float* target, int rows, int columns, int row, const float* window,
                       const float* column_scale, float* scratch, float* maps, int64_t map_stride) {
  const float *x_row[kTaps], *y_row[kTaps];
  float weight[kTaps];
  const float row_scale = 1.0f / taps(image, columns, rows, row, window, x_row, weight);
  taps(target, columns, rows, row, window, y_row, weight);
  const int width = columns + 2 * kSsimRadius + kPadding;
  float* const down[5] = {scratch, scratch + width, scratch + 2 * width, scratch + 3 * width, scratch + 4 * width};
  for (int m = 0; m < 5; ++m)
    for (int i = 0; i < kSsimRadius; ++i) down[m][i] = down[m][columns + kSsimRadius + i] = 0.0f;
  float *const GM_RESTRICT mx = down[0] + kSsimRadius, *const GM_RESTRICT my = down[1] + kSsimRadius;
  float *const GM_RESTRICT exx = down[2] + kSsimRadius, *const GM_RESTRICT eyy = down[3] + kSsimRadius;
  float* const GM_RESTRICT exy = down[4] + kSsimRadius;
  for (int i = 0; i < columns; ++i) {
    float sx = 0.0f, sy = 0.0f, sxx = 0.0f, syy = 0.0f, sxy = 0.0f;
    for (int k = 0; k < kTaps; ++k) {
      const float x = x_row[k][i], y = y_row[k][i], wx = weight[k] * x, wy = weight[k] * y;
      sx += wx;
      sy += wy;
      sxx += wx * x;
      syy += wy * y;
      sxy += wx * y;
    }
    mx[i] = sx;
    my[i] = sy;
    exx[i] = sxx;
    eyy[i] = syy;
    exy[i] = sxy;
  }
  float* const across = scratch + 5 * width;
  for (int m = 0; m < 5; ++m) along_row(down[m], window, columns, across + m * width);
  const float *const GM_RESTRICT ax = across, *const GM_RESTRICT ay = across + width;
  const float *const GM_RESTRICT axx = across + 2 * width, *const GM_RESTRICT ayy = across + 3 * width;
  const float* const GM_RESTRICT axy = across + 4 * width;
  float *const GM_RESTRICT d_mean = maps, *const GM_RESTRICT d_xx = maps + map_stride;
  float *const GM_RESTRICT d_xy = maps + 2 * map_stride, *const GM_RESTRICT value = scratch;
  constexpr float C1 = 0.01f * 0.01f, C2 = 0.03f * 0.03f;
  for (int i = 0; i < columns; ++i) {
    const float scale = row_scale * column_scale[i];
    const float x = ax[i] * scale, y = ay[i] * scale;
    const float A1 = 2.0f * x * y + C1, A2 = 2.0f * (axy[i] * scale - x * y) + C2;
    const float B1 = x * x + y * y + C1, B2 = (axx[i] * scale - x * x) + (ayy[i] * scale - y * y) + C2;
    const float inverse_B1 = 1.0f / B1, inverse_B2 = 1.0f / B2, inverse = inverse_B1 * inverse_B2;
    const float S = A1 * A2 * inverse;
    value[i] = S;
    d_mean[i] = scale * (2.0f * y * (A2 - A1) * inverse + 2.0f * x * S * (inverse_B2 - inverse_B1));
    d_xx[i] = -scale * S * inverse_B2;
    d_xy[i] = scale * 2.0f * A1 * inverse;
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
    float* const GM_RESTRICT down = scratch;
    for (int i = 0; i < kSsimRadius; ++i) down[i] = down[columns + kSsimRadius + i] = 0.0f;
    for (int i = 0; i < columns; ++i) {
      float value = 0.0f;
      for (int k = 0; k < kTaps; ++k) value += weight[k] * map_rows[k][i];
      down[i + kSsimRadius] = value;
    }
    along_row(scratch, window, columns, scratch + (m + 1) * width);
  }
  const float* const GM_RESTRICT x = image + static_cast<int64_t>(row) * columns;
  const float* const GM_RESTRICT y = target + static_cast<int64_t>(row) * columns;
  const float *const GM_RESTRICT mean = scratch + width, *const GM_RESTRICT xx = scratch + 2 * width;
  const float* const GM_RESTRICT xy = scratch + 3 * width;
  float* const GM_RESTRICT out = gradient + static_cast<int64_t>(row) * columns;
  for (int i = 0; i < columns; ++i) out[i] = scale * (mean[i] + 2.0f * x[i] * xx[i] + y[i] * xy[i]);
}

}  // namespace GM_ISA
