// Which Gaussians a plane sees, and their footprints on it.
#pragma once

#include "kernels.h"
#include "simd.h"

namespace GM_ISA {

static void reach(const float* parameters, int64_t gaussians, int64_t first, int count, const float* normal, float cut,
                  float* position, float* half, float* bounds) {
  constexpr int kBlock = 64;
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
  constexpr int kBlock = 64;
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

static int project(const float* parameters, int64_t gaussians, int64_t first, const int32_t* visible, int count,
                   const PlaneSamples& samples, float cut, Projected* out) {
  constexpr int kBlock = 64;
  const GmPlane plane = samples.plane;
  const float rows = static_cast<float>(samples.rows), columns = static_cast<float>(samples.columns);
  const float* base = parameters + first;
  int kept = 0;
  for (int start = 0; start < count; start += kBlock) {
    const int n = count - start < kBlock ? count - start : kBlock;
    float in[kParameterRows][kBlock];
    for (int k = 0; k < kParameterRows; ++k)
      for (int i = 0; i < n; ++i) in[k][i] = base[k * gaussians + visible[start + i]];
    for (int k = 0; k < kParameterRows; ++k)
      for (int i = n; i < kBlock; ++i) in[k][i] = 0.0f;
    float s[kBlock], t[kBlock], ks[kBlock], kt[kBlock], distance[kBlock], precision[kBlock];
    float A[kBlock], shear[kBlock], D[kBlock], top[kBlock], bottom[kBlock], left[kBlock], right[kBlock];
    int valid[kBlock];
    for (int i = 0; i < kBlock; ++i) {
      const GmFootprint f = gm_project(plane, in[kMeanX][i], in[kMeanY][i], in[kMeanZ][i], in[kM00][i], in[kM01][i],
                                       in[kM02][i], in[kM11][i], in[kM12][i], in[kM22][i]);
      s[i] = f.s, t[i] = f.t, ks[i] = f.ks, kt[i] = f.kt, distance[i] = f.distance, precision[i] = f.precision;
      A[i] = f.A, shear[i] = f.shear, D[i] = f.D;
      valid[i] = gm_valid(f, in[kColour][i], in[kAmplitude][i]);
      top[i] = left[i] = 1e9f;
      bottom[i] = right[i] = -1e9f;
    }
    for (int q = 0; q < samples.sample_count; ++q) {
      const float offset = samples.offsets[q];
      for (int i = 0; i < kBlock; ++i) {
        const float d = distance[i] - offset, rest = cut - d * d * precision[i];
        const float positive = rest > 0.0f ? rest : 0.0f, miss = rest > 0.0f ? 0.0f : 2e9f;
        const float half_rows = sqrtf(positive / D[i]);
        const float half_columns = sqrtf(positive * (1.0f / A[i] + shear[i] * shear[i] / D[i]));
        const float s0 = s[i] - ks[i] * d, t0 = t[i] - kt[i] * d;
        top[i] = smaller(top[i], t0 - half_rows + miss);
        bottom[i] = larger(bottom[i], t0 + half_rows - miss);
        left[i] = smaller(left[i], s0 - half_columns + miss);
        right[i] = larger(right[i], s0 + half_columns - miss);
      }
    }
    for (int i = 0; i < n; ++i) {
      const bool meets = valid[i] && top[i] <= rows - 1.0f && bottom[i] >= 0.0f && left[i] <= columns - 1.0f &&
                         right[i] >= 0.0f && top[i] <= bottom[i];
      if (!meets) continue;
      // One row to spare on either side: the loops over rows find the exact span per sample.
      const int first_row = static_cast<int>(larger(top[i], 0.0f));
      const int last_row = static_cast<int>(smaller(bottom[i] + 1.0f, rows - 1.0f));
      Projected& p = out[kept++];
      p.footprint = GmFootprint{s[i], t[i], ks[i], kt[i], distance[i], precision[i], A[i], shear[i], D[i]};
      p.colour = in[kColour][i];
      p.amplitude = in[kAmplitude][i];
      p.gaussian = static_cast<int32_t>(first) + visible[start + i];
      p.first_row = first_row;
      p.last_row = last_row;
    }
  }
  return kept;
}

}  // namespace GM_ISA
