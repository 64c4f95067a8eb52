// The medium: values and gradients of the volume between its voxels, for CPU and CUDA.
//
// The volume is a medium whose extinction sigma(x) is the mean of table[v(y)] (1/mm; v interpolated linearly) over the
// box of one voxel round x, times a factor of the gradient's magnitude where that is asked for, and with the albedo of
// the colour transfer function. Isosurfaces of v are uneven with the period of a voxel, which light at a low angle
// shows as rings; the mean over just one voxel has no such period. It costs no further voxels: a ray meets the tissue
// of a random place in the box (stochastic filtering: Pharr et al. 2024), which is right on average, and colour and
// gradient of a collision are those of that place.
#pragma once

#include "paths/scene_math.h"

GM_FUNCTION float gm_lerp(float a, float b, float t) { return a + t * (b - a); }

// The voxel below a coordinate and the part beyond it.
GM_FUNCTION int gm_trace_below(float at, int size, float* part) {
  const int last = size - 2, i = (int)at, below = i < 0 ? 0 : (i > last ? last : i);
  const float f = at - (float)below;
  *part = f < 0.0f ? 0.0f : (f > 1.0f ? 1.0f : f);
  return below;
}

// Voxel below each coordinate and the part beyond it; returns the voxel's index.
GM_FUNCTION long long gm_trace_voxel(const GmTraceScene& s, const float* at, float* part) {
#if defined(GM_TRACE_AVX2)
  const __m128 p = _mm_set_ps(0.0f, at[2], at[1], at[0]);
  const __m128i two = _mm_set1_epi32(2), size = _mm_loadu_si128(reinterpret_cast<const __m128i*>(s.size));
  const __m128i i = _mm_min_epi32(_mm_max_epi32(_mm_cvttps_epi32(p), _mm_setzero_si128()), _mm_sub_epi32(size, two));
  const __m128 f = _mm_sub_ps(p, _mm_cvtepi32_ps(i));
  const int base[3] = {_mm_cvtsi128_si32(i), _mm_extract_epi32(i, 1), _mm_extract_epi32(i, 2)};
  const __m128 within = _mm_min_ps(_mm_max_ps(f, _mm_setzero_ps()), _mm_set1_ps(1.0f));
  part[0] = _mm_cvtss_f32(within);
  part[1] = _mm_cvtss_f32(_mm_shuffle_ps(within, within, 1));
  part[2] = _mm_cvtss_f32(_mm_shuffle_ps(within, within, 2));
#else
  int base[3];
  for (int a = 0; a < 3; ++a) base[a] = gm_trace_below(at[a], s.size[a], part + a);
#endif
  return ((long long)base[2] * s.size[1] + base[1]) * s.size[0] + base[0];
}

template <typename Value>
GM_FUNCTION float gm_trace_sample(const GmTraceScene& s, const Value* values, const float* at) {
  float f[3];
  const Value* const v = values + gm_trace_voxel(s, at, f);
  const Value* const w = v + (long long)s.size[0] * s.size[1];
  const int row = s.size[0];
  const float a =
      gm_lerp(gm_lerp((float)v[0], (float)v[1], f[0]), gm_lerp((float)v[row], (float)v[row + 1], f[0]), f[1]);
  const float b =
      gm_lerp(gm_lerp((float)w[0], (float)w[1], f[0]), gm_lerp((float)w[row], (float)w[row + 1], f[0]), f[1]);
  return gm_lerp(a, b, f[2]);
}

#if defined(GM_TRACE_AVX2)
// The eight voxels as one vector: pairs along i of both rows of both slices.
GM_FUNCTION float gm_trace_sample(const GmTraceScene& s, const unsigned short* values, const float* at) {
  float f[3];
  const unsigned short* const v = values + gm_trace_voxel(s, at, f);
  const unsigned short* const w = v + (long long)s.size[0] * s.size[1];
  int pairs[4];
  memcpy(pairs, v, 4);
  memcpy(pairs + 1, v + s.size[0], 4);
  memcpy(pairs + 2, w, 4);
  memcpy(pairs + 3, w + s.size[0], 4);
  const __m256 all = _mm256_cvtepi32_ps(_mm256_cvtepu16_epi32(_mm_set_epi32(pairs[3], pairs[2], pairs[1], pairs[0])));
  const __m128 low = _mm256_castps256_ps128(all), high = _mm256_extractf128_ps(all, 1);
  const __m128 rows = _mm_add_ps(low, _mm_mul_ps(_mm_set1_ps(f[2]), _mm_sub_ps(high, low)));
  const __m128 pair = _mm_add_ps(rows, _mm_mul_ps(_mm_set1_ps(f[1]), _mm_sub_ps(_mm_movehl_ps(rows, rows), rows)));
  const float a = _mm_cvtss_f32(pair), b = _mm_cvtss_f32(_mm_shuffle_ps(pair, pair, 1));
  return gm_lerp(a, b, f[0]);
}
#endif

GM_FUNCTION int gm_trace_level(const GmTraceScene& s, const GmTraceVolume& v, const float* at) {
  return (int)(gm_trace_sample(s, v.values, at) * s.value_scale + 0.5f);
}

// What the gradient there leaves of the extinction.
GM_FUNCTION float gm_trace_factor(const GmTraceScene& s, const GmTraceVolume& v, const float* at) {
  return v.table[4 * s.levels + (int)(gm_trace_sample(s, v.gradients, at) + 0.5f)];
}

GM_FUNCTION float gm_trace_extinction(const GmTraceScene& s, const GmTraceVolume& v, const float* at) {
  const float extinction = v.table[gm_trace_level(s, v, at)];
  return v.gradients && extinction > 0.0f ? extinction * gm_trace_factor(s, v, at) : extinction;
}

// Weights of the four voxels round a place for a cubic B-spline, and their derivatives by the place, which is `f`
// beyond voxel i, the second of the four. Beyond the volume, whose last voxel is `last`, values go on along a straight
// line: those voxels' weights are the inner ones'.
GM_FUNCTION void gm_trace_spline(float f, int i, int last, float* weights, float* slopes) {
  const float g = 1.0f - f;
  float w[4] = {g * g * g * (1.0f / 6.0f), 2.0f / 3.0f - 0.5f * f * f * (1.0f + g),
                2.0f / 3.0f - 0.5f * g * g * (1.0f + f), f * f * f * (1.0f / 6.0f)};
  float d[4] = {-0.5f * g * g, 0.5f * f * (3.0f * f - 4.0f), 0.5f * g * (4.0f - 3.0f * g), 0.5f * f * f};
  if (i == 0) {
    w[1] += 2.0f * w[0], w[2] -= w[0], w[0] = 0.0f;
    d[1] += 2.0f * d[0], d[2] -= d[0], d[0] = 0.0f;
  }
  if (i + 1 == last) {
    w[2] += 2.0f * w[3], w[1] -= w[3], w[3] = 0.0f;
    d[2] += 2.0f * d[3], d[1] -= d[3], d[3] = 0.0f;
  }
  for (int n = 0; n < 4; ++n) weights[n] = w[n], slopes[n] = d[n];
}

// Voxels beyond the volume have no weight; others are read in their place.
GM_FUNCTION int gm_trace_inside(int i, int size) { return i < 0 ? 0 : (i >= size ? size - 1 : i); }

GM_FUNCTION const unsigned short* gm_trace_row(const GmTraceScene& s, const GmTraceVolume& v, int j, int k) {
  const long long row = (long long)gm_trace_inside(k, s.size[2]) * s.size[1] + gm_trace_inside(j, s.size[1]);
  return v.values + row * s.size[0];
}

// Gradient in the world, per mm, of the cubic B-spline whose coefficients are the stored values.
GM_FUNCTION Vec3 gm_trace_gradient(const GmTraceScene& s, const GmTraceVolume& v, const float* at) {
  float part[3], w[3][4], d[3][4];
  const long long voxel = gm_trace_voxel(s, at, part);
  const int row = (int)(voxel / s.size[0]);
  const int base[3] = {(int)(voxel % s.size[0]), row % s.size[1], row / s.size[1]};
  for (int a = 0; a < 3; ++a) gm_trace_spline(part[a], base[a], s.size[a] - 1, w[a], d[a]);
  float g[3] = {0.0f, 0.0f, 0.0f};
#if defined(GM_TRACE_AVX2)
  if (base[0] > 0 && base[0] + 2 < s.size[0]) {  // four along i as one vector
    __m128 x = _mm_setzero_ps(), y = x, z = x;
    for (int k = 0; k < 4; ++k)
      for (int j = 0; j < 4; ++j) {
        const unsigned short* const voxels = gm_trace_row(s, v, base[1] + j - 1, base[2] + k - 1) + base[0] - 1;
        const __m128 four =
            _mm_cvtepi32_ps(_mm_cvtepu16_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(voxels))));
        x = _mm_add_ps(x, _mm_mul_ps(_mm_set1_ps(w[2][k] * w[1][j]), four));
        y = _mm_add_ps(y, _mm_mul_ps(_mm_set1_ps(w[2][k] * d[1][j]), four));
        z = _mm_add_ps(z, _mm_mul_ps(_mm_set1_ps(d[2][k] * w[1][j]), four));
      }
    const __m128 along = _mm_loadu_ps(w[0]);
    g[0] = _mm_cvtss_f32(_mm_dp_ps(x, _mm_loadu_ps(d[0]), 0xf1));
    g[1] = _mm_cvtss_f32(_mm_dp_ps(y, along, 0xf1)), g[2] = _mm_cvtss_f32(_mm_dp_ps(z, along, 0xf1));
  } else
#endif
  {
#if defined(__CUDACC__) || defined(__CUDACC_RTC__)
#pragma unroll 1  // registers
#endif
    for (int k = 0; k < 4; ++k) {
      const float along = k < 2 ? (k == 0 ? w[2][0] : w[2][1]) : (k == 2 ? w[2][2] : w[2][3]);
      const float across = k < 2 ? (k == 0 ? d[2][0] : d[2][1]) : (k == 2 ? d[2][2] : d[2][3]);
      for (int j = 0; j < 4; ++j) {
        const unsigned short* const voxels = gm_trace_row(s, v, base[1] + j - 1, base[2] + k - 1);
        float mean = 0.0f, slope = 0.0f;
        for (int i = 0; i < 4; ++i) {
          const float value = (float)voxels[gm_trace_inside(base[0] + i - 1, s.size[0])];
          mean += w[0][i] * value, slope += d[0][i] * value;
        }
        g[0] += along * w[1][j] * slope, g[1] += along * d[1][j] * mean, g[2] += across * w[1][j] * mean;
      }
    }
  }
  const float* const m = s.to_voxel;
  return g[0] * Vec3{m[0], m[1], m[2]} + g[1] * Vec3{m[4], m[5], m[6]} + g[2] * Vec3{m[8], m[9], m[10]};
}
