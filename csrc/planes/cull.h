// Which Gaussians reach a plane.
#pragma once

#include "planes/kernels.h"
#include "support/simd.h"

namespace GM_ISA {

static void reach(const float* parameters, int64_t gaussians, int64_t first, int count, const float* normal, float cut,
                  float* position, float* half, float* bounds) {
  const float* row[kParameterRows];
  for (int start = 0; start < count; start += kBlock) {
    const int n = count - start < kBlock ? count - start : kBlock;
    for (int k = 0; k < kParameterRows; ++k) row[k] = parameters + k * gaussians + first + start;
    float x[kBlock], h[kBlock];  // local, so that the compiler knows they overlap nothing and vectorises
    for (int i = 0; i < n; ++i) {
      float y[3];
      const float variance = gm_variance_along(normal, row[kM00][i], row[kM01][i], row[kM02][i], row[kM11][i],
                                               row[kM12][i], row[kM22][i], y);
      // Rounding of n.m far from the origin must not lose a Gaussian: the exact test comes with the projection.
      h[i] = sqrtf(cut * variance) * 1.0001f + 1e-3f;
      x[i] = gm_dot(normal, row[kMeanX][i], row[kMeanY][i], row[kMeanZ][i]);
    }
    for (int i = 0; i < n; ++i) position[start + i] = x[i];
    for (int i = 0; i < n; ++i) half[start + i] = h[i];
  }
  constexpr int kParallel = 16;  // chains of minima, as many as a vector has lanes
  float low[kParallel], high[kParallel];
  for (int k = 0; k < kParallel; ++k) low[k] = INFINITY, high[k] = -INFINITY;
  for (int start = 0; start < count; start += kParallel) {
    const int n = count - start < kParallel ? count - start : kParallel;
    for (int k = 0; k < n; ++k) {
      low[k] = smaller(position[start + k] - half[start + k], low[k]);  // NaN never wins
      high[k] = larger(position[start + k] + half[start + k], high[k]);
    }
  }
  bounds[0] = low[0], bounds[1] = high[0];
  for (int k = 1; k < kParallel; ++k) {
    bounds[0] = smaller(low[k], bounds[0]);
    bounds[1] = larger(high[k], bounds[1]);
  }
}

static int cull(const float* position, const float* half, int count, float low, float high, int32_t* visible) {
  int found = 0;
  for (int start = 0; start < count; start += kBlock) {
    const int n = count - start < kBlock ? count - start : kBlock;
    uint8_t meets[kBlock];
    int any = 0;
    for (int i = 0; i < n; ++i) {
      const float x = position[start + i], h = half[start + i];
      meets[i] = static_cast<uint8_t>((x + h > low) & (x - h < high));
      any |= meets[i];
    }
    if (!any) continue;
    for (int i = 0; i < n; ++i) {
      visible[found] = start + i;
      found += meets[i];
    }
  }
  return found;
}

}  // namespace GM_ISA
