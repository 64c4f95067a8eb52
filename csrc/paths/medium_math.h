// The medium: values and gradients of the volume between its voxels, and the first collision on a ray, for CPU and
// CUDA.
//
// The volume is a medium with extinction sigma(x) = table[v(x)] (1/mm; v interpolated linearly), times a factor of the
// gradient's magnitude where that is asked for, and with the albedo of the colour transfer function. Collisions are
// found by delta tracking (Woodcock et al. 1965) with one majorant for each cell of kTraceCell^3 voxels; `skips` says
// how many cells around an empty one are empty as well, so that air costs little.
#pragma once

#include "paths/scene_math.h"
#if defined(__AVX2__) && !defined(__CUDACC__) && !defined(__CUDACC_RTC__)
#include <immintrin.h>
#define GM_TRACE_AVX2
#endif

GM_FUNCTION float gm_lerp(float a, float b, float t) { return a + t * (b - a); }

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
  for (int a = 0; a < 3; ++a) {
    const int last = s.size[a] - 2;
    int i = (int)at[a];
    i = i < 0 ? 0 : (i > last ? last : i);
    float f = at[a] - (float)i;
    part[a] = f < 0.0f ? 0.0f : (f > 1.0f ? 1.0f : f);
    base[a] = i;
  }
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

GM_FUNCTION float gm_trace_extinction(const GmTraceScene& s, const GmTraceVolume& v, const float* at) {
  const float extinction = v.table[gm_trace_level(s, v, at)];
  if (!v.gradients || extinction == 0.0f) return extinction;
  return extinction * v.table[4 * s.levels + (int)(gm_trace_sample(s, v.gradients, at) + 0.5f)];
}

// The first collision on [enter, leave]: its distance, or a negative number. tau: optical depth to the first tentative
// collision.
GM_FUNCTION float gm_trace_collide(const GmTraceScene& s, const GmTraceVolume& v, const GmTraceRay& ray, float enter,
                                   float leave, float tau, GmTraceRandom* random) {
  float t = enter;
  int cell[3];
  for (int a = 0; a < 3; ++a) {
    const int i = (int)((ray.from[a] + t * ray.along[a]) * (1.0f / kTraceCell));
    cell[a] = i < 0 ? 0 : (i >= s.cells[a] ? s.cells[a] - 1 : i);
  }
  for (;;) {
    const long long index = ((long long)cell[2] * s.cells[1] + cell[1]) * s.cells[0] + cell[0];
    const float majorant = v.majorants[index];
    const int skip = v.skips[index], reach = skip > 0 ? skip - 1 : 0;
    float out = 3.0e38f;
    int axis = 0;
    for (int a = 0; a < 3; ++a) {
      const int edge = ray.along[a] > 0.0f ? cell[a] + reach + 1 : cell[a] - reach;
      const float to = ((float)(edge * kTraceCell) - ray.from[a]) * ray.inverse[a];
      if (to < out) {
        out = to;
        axis = a;
      }
    }
    const float end = out < leave ? out : leave;
    if (skip == 0) {
      for (;;) {
        const float next = t + tau / majorant;
        if (next >= end) {
          tau -= (end - t) * majorant;
          if (tau < 0.0f) tau = 0.0f;
          break;
        }
        t = next;
        float at[3];
        for (int a = 0; a < 3; ++a) at[a] = ray.from[a] + t * ray.along[a];
        const float extinction = gm_trace_extinction(s, v, at);
        if (extinction > 0.0f && gm_random(random) * majorant < extinction) return t;
        tau = -gm_log(1.0f - gm_random(random));
      }
    }
    t = end > t ? end : t;
    if (out >= leave) return -1.0f;
    if (reach == 0) {
      cell[axis] += ray.along[axis] > 0.0f ? 1 : -1;
      if (cell[axis] < 0 || cell[axis] >= s.cells[axis]) return -1.0f;
      continue;
    }
    for (int a = 0; a < 3; ++a) {
      if (a == axis) {
        cell[a] = ray.along[a] > 0.0f ? cell[a] + reach + 1 : cell[a] - reach - 1;
        if (cell[a] < 0 || cell[a] >= s.cells[a]) return -1.0f;
      } else {
        const int low = cell[a] - reach > 0 ? cell[a] - reach : 0;
        const int high = cell[a] + reach < s.cells[a] - 1 ? cell[a] + reach : s.cells[a] - 1;
        const int i = (int)floorf((ray.from[a] + t * ray.along[a]) * (1.0f / kTraceCell));
        cell[a] = i < low ? low : (i > high ? high : i);
      }
    }
  }
}

// Gradient of the stored value in the world, per mm: differences over two voxels, each way as far as the volume goes.
GM_FUNCTION Vec3 gm_trace_gradient(const GmTraceScene& s, const GmTraceVolume& v, const float* at) {
  float g[3];
  for (int a = 0; a < 3; ++a) {
    float ahead[3] = {at[0], at[1], at[2]}, behind[3] = {at[0], at[1], at[2]};
    const float last = (float)(s.size[a] - 1);
    ahead[a] = at[a] + 1.0f < last ? at[a] + 1.0f : last;
    behind[a] = at[a] - 1.0f > 0.0f ? at[a] - 1.0f : 0.0f;
    g[a] = (gm_trace_sample(s, v.values, ahead) - gm_trace_sample(s, v.values, behind)) / (ahead[a] - behind[a]);
  }
  const float* const m = s.to_voxel;
  return g[0] * Vec3{m[0], m[1], m[2]} + g[1] * Vec3{m[4], m[5], m[6]} + g[2] * Vec3{m[8], m[9], m[10]};
}
