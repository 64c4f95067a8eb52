// What a path tracer sees, the rays through it and the random numbers of a sample, for CPU and CUDA.
//
// Numbers of a sample depend on (seed, pixel, sample) only. The first event's take an additive recurrence
// (Kronecker's sequence with the generalised golden ratio, shifted by a hash of the pixel), the others PCG
// (O'Neill 2014).
#pragma once

#include "support/math.h"
#if !defined(__CUDACC_RTC__)
#include <string.h>
#endif
#if defined(__AVX2__) && !defined(__CUDACC__) && !defined(__CUDACC_RTC__)
#include <immintrin.h>
#define GM_TRACE_AVX2
#endif

constexpr float kTracePi = 3.14159265f;
constexpr int kTraceCell = 4, kTracePlanes = 24, kTraceLights = 4, kTraceSums = 12;

struct GmTraceLight {
  Vec3 centre, u, v, normal;  // u, v: half edges, mm; normal: unit, the side that shines
  Vec3 radiance;
  float area;  // mm^2
};

// Four-byte members only: Python packs it (GaussianMRILib/native/paths). World: mm, axes as RAS, any origin.
struct GmTraceScene {
  int size[3], cells[3];                      // voxels and cells along i, j, k
  int planes, holes;                          // the last `holes` of the planes bound the hole
  int lights, levels, events, width, height;  // levels: entries of the table; events: scatterings at most
  float to_voxel[12];                         // world to (i, j, k), row-major (3, 4)
  Vec3 eye, corner, right, down;              // a ray's direction is corner + column right + row down
  float value_scale;                          // stored values to entries of the table
  float gradient_scale, face, anisotropy;     // stored value / mm, mm, Henyey-Greenstein's g
  float reflectance, shininess;               // Schlick's F at normal incidence, Phong's exponent
  Vec3 up, zenith, horizon, nadir;            // dome
  float plane[4][kTracePlanes];               // kept: plane[0] i + plane[1] j + plane[2] k < plane[3]
  Vec3 normal[kTracePlanes];                  // of the planes: unit, world, towards the cut side
  GmTraceLight light[kTraceLights];
};

struct GmTraceVolume {
  const unsigned short* values;    // (k, j, i)
  const unsigned char* gradients;  // the same shape, or null: magnitude of the gradient, 255 the largest
  const float* majorants;          // per cell, 1/mm
  const unsigned char* skips;      // per cell: empty cells in every direction, itself included; 0 where not empty
  const float* table;              // levels extinctions, levels x (red, green, blue), 256 factors for gradients
};

struct GmTraceRandom {
  unsigned long long state;
};

GM_FUNCTION unsigned gm_hash(unsigned x) {  // Wellons' lowbias32
  x = (x ^ (x >> 16)) * 0x7feb352du;
  x = (x ^ (x >> 15)) * 0x846ca68bu;
  return x ^ (x >> 16);
}

GM_FUNCTION float gm_unit(unsigned bits) { return (float)(bits >> 8) * 5.9604644775390625e-8f; }

GM_FUNCTION unsigned gm_random_bits(GmTraceRandom* r) {
  const unsigned long long old = r->state;
  r->state = old * 6364136223846793005ull + 1442695040888963407ull;
  const unsigned mixed = (unsigned)(((old >> 18) ^ old) >> 27), turn = (unsigned)(old >> 59);
  return (mixed >> turn) | (mixed << ((32 - turn) & 31));
}

GM_FUNCTION float gm_random(GmTraceRandom* r) { return gm_unit(gm_random_bits(r)); }  // [0, 1)

// log(x) for a normal x > 0, error 2e-7: a minimax polynomial between sqrt(1/2) and sqrt(2). In the innermost loop a
// call of the library's would put all registers aside.
GM_FUNCTION float gm_log(float x) {
  int bits;
#if defined(__CUDA_ARCH__)
  bits = __float_as_int(x);
#else
  memcpy(&bits, &x, 4);
#endif
  const int exponent = (bits - 0x3f3504f3) >> 23;
  bits -= exponent * (1 << 23);
#if defined(__CUDA_ARCH__)
  x = __int_as_float(bits);
#else
  memcpy(&x, &bits, 4);
#endif
  const float f = x - 1.0f;
  constexpr float terms[7] = {-1.043441966e-01f, 1.608034968e-01f, -1.710210741e-01f, 1.991821229e-01f,
                              -2.498344779e-01f, 3.333435357e-01f, -5.000008345e-01f};  // the highest first
  float p = terms[0];
  for (int n = 1; n < 7; ++n) p = p * f + terms[n];
  return (float)exponent * 0.6931471806f + (f + f * f * p);
}

// Dimension d of a sample: 0, 1 pixel; 2 distance; 3, 4 light; 5, 6 and 7 direction and kind of scattering.
GM_FUNCTION float gm_stratified(unsigned shift, unsigned sample, int d) {
  constexpr unsigned steps[8] = {0xebedeed9u, 0xd96eb1a8u, 0xc862b36du, 0xb8acd90cu,
                                 0xaa324f90u, 0x9cda5e69u, 0x908e3d2cu, 0x8538ecb5u};
  return gm_unit(gm_hash(shift + (unsigned)d * 0x9e3779b9u) + sample * steps[d]);
}

struct GmTraceRay {
  float from[3], along[3], inverse[3];  // voxels, voxels per mm
};

GM_FUNCTION GmTraceRay gm_trace_ray(const GmTraceScene& s, const Vec3& position, const Vec3& direction) {
  GmTraceRay ray;
  for (int a = 0; a < 3; ++a) {
    const float* const m = s.to_voxel + 4 * a;
    ray.from[a] = gm_dot(m, position) + m[3];
    float along = gm_dot(m, direction);
    if (fabsf(along) < 1e-12f) along = along < 0.0f ? -1e-12f : 1e-12f;
    ray.along[a] = along;
    ray.inverse[a] = 1.0f / along;
  }
  return ray;
}

// How fast a ray leaves a plane's kept side, and its room on it.
GM_FUNCTION float gm_trace_rate(const GmTraceScene& s, int p, const float* along) {
  return s.plane[0][p] * along[0] + s.plane[1][p] * along[1] + s.plane[2][p] * along[2];
}
GM_FUNCTION float gm_trace_room(const GmTraceScene& s, int p, const float* from) {
  return s.plane[3][p] - (s.plane[0][p] * from[0] + s.plane[1][p] * from[1] + s.plane[2][p] * from[2]);
}

// The part [enter, leave] of the ray inside the first `planes` half-spaces; the number of the plane it enters through,
// -1 if it starts inside, as it is known to where `inside` is true.
#if defined(GM_TRACE_AVX2)
// Eight planes at once, as a branch for each is often guessed wrong.
GM_FUNCTION int gm_trace_clip(const GmTraceScene& s, int planes, const GmTraceRay& ray, bool inside, float* enter,
                              float* leave) {
  static_assert(kTracePlanes % 8 == 0, "planes beyond the last are read, and left out");
  const __m256 zero = _mm256_setzero_ps(), far = _mm256_set1_ps(3.0e38f);
  __m256 in = _mm256_set1_ps(*enter), out = _mm256_set1_ps(*leave), through = _mm256_set1_ps(-1.0f);
  __m256 number = _mm256_setr_ps(0.0f, 1.0f, 2.0f, 3.0f, 4.0f, 5.0f, 6.0f, 7.0f);
  for (int p = 0; p < planes; p += 8, number = _mm256_add_ps(number, _mm256_set1_ps(8.0f))) {
    const __m256 i = _mm256_loadu_ps(s.plane[0] + p), j = _mm256_loadu_ps(s.plane[1] + p);
    const __m256 k = _mm256_loadu_ps(s.plane[2] + p), d = _mm256_loadu_ps(s.plane[3] + p);
    const auto dot = [&](const float* a) {  // rounded as compilers round gm_dot with FMA
      const __m256 two = _mm256_add_ps(_mm256_mul_ps(j, _mm256_set1_ps(a[1])), _mm256_mul_ps(i, _mm256_set1_ps(a[0])));
      return _mm256_add_ps(two, _mm256_mul_ps(k, _mm256_set1_ps(a[2])));
    };
    const __m256 rate = dot(ray.along), room = _mm256_sub_ps(d, dot(ray.from));
    const __m256 t = _mm256_div_ps(room, rate);
    const __m256 counts = _mm256_cmp_ps(number, _mm256_set1_ps((float)planes), _CMP_LT_OQ);
    const __m256 leaves = _mm256_and_ps(counts, _mm256_cmp_ps(rate, zero, _CMP_GT_OQ));
    const __m256 enters = _mm256_and_ps(counts, _mm256_cmp_ps(rate, zero, _CMP_LT_OQ));
    const __m256 never = _mm256_and_ps(_mm256_cmp_ps(rate, zero, _CMP_EQ_OQ), _mm256_cmp_ps(room, zero, _CMP_LE_OQ));
    const __m256 later = _mm256_and_ps(enters, _mm256_cmp_ps(t, in, _CMP_GT_OQ));
    out = _mm256_min_ps(out, _mm256_blendv_ps(far, t, leaves));
    out = _mm256_blendv_ps(out, _mm256_set1_ps(-1.0f), _mm256_and_ps(counts, never));
    in = _mm256_blendv_ps(in, t, later), through = _mm256_blendv_ps(through, number, later);
  }
  const __m128 four = _mm_min_ps(_mm256_castps256_ps128(out), _mm256_extractf128_ps(out, 1));
  const __m128 two = _mm_min_ps(four, _mm_movehl_ps(four, four));
  *leave = _mm_cvtss_f32(_mm_min_ss(two, _mm_shuffle_ps(two, two, 1)));
  if (inside) return -1;
  float enters[8], faces[8], face = -1.0f;
  _mm256_storeu_ps(enters, in), _mm256_storeu_ps(faces, through);
  for (int lane = 0; lane < 8; ++lane)
    if (enters[lane] > *enter) *enter = enters[lane], face = faces[lane];
  return (int)face;
}
#else
GM_FUNCTION int gm_trace_clip(const GmTraceScene& s, int planes, const GmTraceRay& ray, bool inside, float* enter,
                              float* leave) {
  int face = -1;
  for (int p = 0; p < planes; ++p) {
    const float rate = gm_trace_rate(s, p, ray.along), room = gm_trace_room(s, p, ray.from);
    if (rate > 0.0f) {
      const float t = room / rate;
      *leave = t < *leave ? t : *leave;
    } else if (rate < 0.0f) {
      const float t = room / rate;
      if (t > *enter && !inside) {
        *enter = t;
        face = p;
      }
    } else if (room <= 0.0f) {
      *leave = -1.0f;
    }
  }
  return face;
}
#endif

// The parts of a ray that are left: none, one, or two with the hole between. face: number of the plane that it enters
// through, -1 where it starts inside.
struct GmTraceSpan {
  float enter, leave;
  int face;
};

struct GmTraceSpans {
  int count;
  GmTraceSpan first, second;  // no array: a GPU would keep it in memory
};

// inside: the ray starts in what is left, or on a face and leaves.
GM_FUNCTION GmTraceSpans gm_trace_spans(const GmTraceScene& s, const GmTraceRay& ray, bool inside, float distance) {
  float enter = 0.0f, leave = distance;
  const int face = gm_trace_clip(s, s.planes - s.holes, ray, inside, &enter, &leave);
  float from = -3.0e38f, to = s.holes > 0 ? 3.0e38f : -3.0e38f;  // the hole
  int back = -1;
  for (int p = s.planes - s.holes; p < s.planes; ++p) {
    const float rate = gm_trace_rate(s, p, ray.along), room = gm_trace_room(s, p, ray.from);
    if (rate > 0.0f) {
      const float t = room / rate;
      from = t > from ? t : from;
    } else if (rate < 0.0f) {
      const float t = room / rate;
      if (t < to) {
        to = t;
        back = p;
      }
    } else if (room > 0.0f) {
      to = -3.0e38f;
    }
  }
  const bool hollow = from < to && from < leave && to > enter;
  const float end = hollow ? from : leave;
  const GmTraceSpan before = {enter, end, face}, behind = {to, leave, back};
  const bool some = enter < end, more = hollow && to < leave;
  return {(some ? 1 : 0) + (more ? 1 : 0), some ? before : behind, behind};
}
