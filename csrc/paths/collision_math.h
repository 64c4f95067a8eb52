// The first collision of a ray with the medium, for CPU and CUDA: delta tracking (Woodcock et al. 1965).
//
// One majorant holds for each cell of kTraceCell^3 voxels and half a voxel round it; `skips` says how many cells around
// an empty one are empty as well, so that air costs little. Each tentative collision has random numbers of its own, by
// its number on the ray, so that a processor can try four at once: in noise at the edge of what can be seen many are
// tried for one that happens.
#pragma once

#include "paths/medium_math.h"

// A random place in the box of one voxel round a place of a ray: ten bits for each axis.
GM_FUNCTION void gm_trace_near(const GmTraceRay& ray, float t, unsigned bits, float* at) {
  for (int a = 0; a < 3; ++a) {
    const float place = (float)((int)((bits >> (10 * a)) & 1023u) - 512) + 0.5f;
    at[a] = ray.from[a] + t * ray.along[a] + place * (1.0f / 1024.0f);
  }
}

// Tentative collisions of a ray.
struct GmTraceTries {
  unsigned key, count;  // of the ray's random numbers; tried so far
  float tau;            // optical depth to the next
  unsigned bits;        // of gm_trace_near, of the one that happened
};

// Different bits for each of a try's numbers.
constexpr unsigned kTraceTry = 0x9e3779b9u, kTraceChance = 0x68bc21ebu, kTraceDepth = 0x02e5be93u;

#if defined(GM_TRACE_AVX2)
GM_FUNCTION __m128i gm_hash(__m128i x) {
  x = _mm_mullo_epi32(_mm_xor_si128(x, _mm_srli_epi32(x, 16)), _mm_set1_epi32(0x7feb352d));
  x = _mm_mullo_epi32(_mm_xor_si128(x, _mm_srli_epi32(x, 15)), _mm_set1_epi32((int)0x846ca68bu));
  return _mm_xor_si128(x, _mm_srli_epi32(x, 16));
}

GM_FUNCTION __m128 gm_unit(__m128i bits) {
  return _mm_mul_ps(_mm_cvtepi32_ps(_mm_srli_epi32(bits, 8)), _mm_set1_ps(5.9604644775390625e-8f));
}

GM_FUNCTION __m128 gm_lerp(__m128 a, __m128 b, __m128 t) { return _mm_add_ps(a, _mm_mul_ps(t, _mm_sub_ps(b, a))); }

GM_FUNCTION __m128 gm_log(__m128 x) {
  const __m128i bits = _mm_castps_si128(x), offset = _mm_sub_epi32(bits, _mm_set1_epi32(0x3f3504f3));
  const __m128i exponent = _mm_srai_epi32(offset, 23);
  const __m128 f = _mm_sub_ps(_mm_castsi128_ps(_mm_sub_epi32(bits, _mm_slli_epi32(exponent, 23))), _mm_set1_ps(1.0f));
  constexpr float terms[7] = GM_LOG_TERMS;
  __m128 p = _mm_set1_ps(terms[0]);
  for (int n = 1; n < 7; ++n) p = _mm_add_ps(_mm_mul_ps(p, f), _mm_set1_ps(terms[n]));
  p = _mm_add_ps(f, _mm_mul_ps(_mm_mul_ps(f, f), p));
  return _mm_add_ps(_mm_mul_ps(_mm_cvtepi32_ps(exponent), _mm_set1_ps(0.6931471806f)), p);
}

// Four places as gm_trace_voxel has one: the voxel below along an axis, and the part beyond it.
GM_FUNCTION __m128i gm_trace_below(__m128 at, int size, __m128* part) {
  const __m128i i = _mm_min_epi32(_mm_max_epi32(_mm_cvttps_epi32(at), _mm_setzero_si128()), _mm_set1_epi32(size - 2));
  *part = _mm_min_ps(_mm_max_ps(_mm_sub_ps(at, _mm_cvtepi32_ps(i)), _mm_setzero_ps()), _mm_set1_ps(1.0f));
  return i;
}

// Four rows of two voxels, as the value between them.
GM_FUNCTION __m128 gm_trace_pairs(const unsigned short* voxels, const long long* first, __m128 part) {
  int pairs[4];
  for (int n = 0; n < 4; ++n) memcpy(pairs + n, voxels + first[n], 4);
  const __m128i all = _mm_setr_epi32(pairs[0], pairs[1], pairs[2], pairs[3]);
  const __m128 low = _mm_cvtepi32_ps(_mm_and_si128(all, _mm_set1_epi32(0xffff)));
  return gm_lerp(low, _mm_cvtepi32_ps(_mm_srli_epi32(all, 16)), part);
}

// Extinctions at four places (voxels).
GM_FUNCTION __m128 gm_trace_extinctions(const GmTraceScene& s, const GmTraceVolume& v, const __m128* at) {
  __m128 part[3];
  __m128i below[3];
  for (int a = 0; a < 3; ++a) below[a] = gm_trace_below(at[a], s.size[a], part + a);
  alignas(16) int column[4], row[4], level[4];
  _mm_store_si128(reinterpret_cast<__m128i*>(column), below[0]);
  _mm_store_si128(reinterpret_cast<__m128i*>(row),
                  _mm_add_epi32(_mm_mullo_epi32(below[2], _mm_set1_epi32(s.size[1])), below[1]));
  long long first[4];
  for (int n = 0; n < 4; ++n) first[n] = (long long)row[n] * s.size[0] + column[n];
  const unsigned short* const next = v.values + (long long)s.size[0] * s.size[1];
  const __m128 near =
      gm_lerp(gm_trace_pairs(v.values, first, part[0]), gm_trace_pairs(v.values + s.size[0], first, part[0]), part[1]);
  const __m128 far =
      gm_lerp(gm_trace_pairs(next, first, part[0]), gm_trace_pairs(next + s.size[0], first, part[0]), part[1]);
  const __m128 value = _mm_mul_ps(gm_lerp(near, far, part[2]), _mm_set1_ps(s.value_scale));
  _mm_store_si128(reinterpret_cast<__m128i*>(level), _mm_cvttps_epi32(_mm_add_ps(value, _mm_set1_ps(0.5f))));
  alignas(16) float found[4];
  for (int n = 0; n < 4; ++n) found[n] = v.table[level[n]];
  if (v.gradients) {
    alignas(16) float places[3][4];
    for (int a = 0; a < 3; ++a) _mm_store_ps(places[a], at[a]);
    for (int n = 0; n < 4; ++n) {
      if (found[n] == 0.0f) continue;
      const float place[3] = {places[0][n], places[1][n], places[2][n]};
      found[n] *= v.table[4 * s.levels + (int)(gm_trace_sample(s, v.gradients, place) + 0.5f)];
    }
  }
  return _mm_load_ps(found);
}

// The next four tries, the first of which is at `next` and before `end`: 1 where one happens, at *t; -1 where the ray
// leaves the cell before; 0: none of them happens.
GM_FUNCTION int gm_trace_four(const GmTraceScene& s, const GmTraceVolume& v, const GmTraceRay& ray, float majorant,
                              float next, float end, float* t, GmTraceTries* tries) {
  const __m128i number = _mm_add_epi32(_mm_set1_epi32((int)tries->count), _mm_setr_epi32(0, 1, 2, 3));
  const __m128i key =
      _mm_add_epi32(_mm_set1_epi32((int)tries->key), _mm_mullo_epi32(number, _mm_set1_epi32((int)kTraceTry)));
  const __m128 left = gm_unit(gm_hash(_mm_xor_si128(key, _mm_set1_epi32((int)kTraceDepth))));
  const __m128i bits = gm_hash(key);
  const __m128 chance = gm_unit(gm_hash(_mm_xor_si128(key, _mm_set1_epi32((int)kTraceChance))));
  const __m128 depth = _mm_sub_ps(_mm_setzero_ps(), gm_log(_mm_sub_ps(_mm_set1_ps(1.0f), left)));
  __m128 far = _mm_div_ps(depth, _mm_set1_ps(majorant));  // of each from the one before, then from the first
  far = _mm_castsi128_ps(_mm_slli_si128(_mm_castps_si128(far), 4));
  far = _mm_add_ps(far, _mm_castsi128_ps(_mm_slli_si128(_mm_castps_si128(far), 4)));
  far = _mm_add_ps(far, _mm_castsi128_ps(_mm_slli_si128(_mm_castps_si128(far), 8)));
  const __m128 place = _mm_add_ps(far, _mm_set1_ps(next));
  __m128 at[3];
  for (int a = 0; a < 3; ++a) {
    const __m128i part = _mm_and_si128(_mm_srli_epi32(bits, 10 * a), _mm_set1_epi32(1023));
    const __m128 off = _mm_mul_ps(_mm_cvtepi32_ps(part), _mm_set1_ps(1.0f / 1024.0f));
    const __m128 on =
        _mm_add_ps(_mm_set1_ps(ray.from[a] - 511.5f / 1024.0f), _mm_mul_ps(place, _mm_set1_ps(ray.along[a])));
    at[a] = _mm_add_ps(on, off);
  }
  const __m128 extinctions = gm_trace_extinctions(s, v, at);
  const int happen = _mm_movemask_ps(_mm_cmplt_ps(_mm_mul_ps(chance, _mm_set1_ps(majorant)), extinctions));
  const int leave = _mm_movemask_ps(_mm_cmpge_ps(place, _mm_set1_ps(end)));
  alignas(16) float places[4], depths[4];
  _mm_store_ps(places, place), _mm_store_ps(depths, depth);
  for (int n = 0; n < 4; ++n) {
    if ((leave >> n) & 1) {
      tries->tau = depths[n - 1] - (end - places[n - 1]) * majorant;
      tries->count += (unsigned)n;
      return -1;
    }
    if ((happen >> n) & 1) {
      alignas(16) unsigned all[4];
      _mm_store_si128(reinterpret_cast<__m128i*>(all), bits);
      *t = places[n], tries->bits = all[n];
      return 1;
    }
  }
  *t = places[3], tries->tau = depths[3];
  tries->count += 4;
  return 0;
}
#endif

// Whether a collision happens between *t and `end`, where one majorant holds; *t is then where.
GM_FUNCTION bool gm_trace_meets(const GmTraceScene& s, const GmTraceVolume& v, const GmTraceRay& ray, float majorant,
                                float end, float* t, GmTraceTries* tries) {
  for (;;) {
    const float next = *t + tries->tau / majorant;
    if (next >= end) {
      tries->tau -= (end - *t) * majorant;
      break;
    }
#if defined(GM_TRACE_AVX2)
    const int four = gm_trace_four(s, v, ray, majorant, next, end, t, tries);
    if (four > 0) return true;
    if (four < 0) break;
#else
    *t = next;
    const unsigned key = tries->key + tries->count * kTraceTry, bits = gm_hash(key);
    float at[3];
    gm_trace_near(ray, next, bits, at);
    if (gm_unit(gm_hash(key ^ kTraceChance)) * majorant < gm_trace_extinction(s, v, at)) {
      tries->bits = bits;
      return true;
    }
    tries->tau = -gm_log(1.0f - gm_unit(gm_hash(key ^ kTraceDepth)));
    tries->count += 1;
#endif
  }
  if (tries->tau < 0.0f) tries->tau = 0.0f;
  return false;
}

// The first collision on [enter, leave]: its distance, or a negative number, and the bits of gm_trace_near that lead to
// the tissue that is met. tau: optical depth to the first tentative collision.
GM_FUNCTION float gm_trace_collide(const GmTraceScene& s, const GmTraceVolume& v, const GmTraceRay& ray, float enter,
                                   float leave, float tau, GmTraceRandom* random, unsigned* near) {
  float t = enter;
  GmTraceTries tries = {gm_random_bits(random), 0u, tau, 0u};
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
    if (skip == 0 && gm_trace_meets(s, v, ray, majorant, end, &t, &tries)) {
      *near = tries.bits;
      return t;
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
