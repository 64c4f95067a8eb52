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

constexpr float kTracePi = 3.14159265f;
constexpr int kTraceCell = 4, kTracePlanes = 20, kTraceLights = 4, kTraceSums = 12;

struct GmTracePlane {
  float voxel[4];  // kept: voxel[0..2] . (i, j, k) < voxel[3]
  Vec3 normal;     // unit, world, towards the cut side
  float unused;
};

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
  GmTracePlane plane[kTracePlanes];
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

// The part [enter, leave] of the ray inside the first `planes` half-spaces; the number of the plane it enters through,
// -1 if it starts inside.
GM_FUNCTION int gm_trace_clip(const GmTraceScene& s, int planes, const GmTraceRay& ray, float* enter, float* leave) {
  int face = -1;
  for (int p = 0; p < planes; ++p) {
    const float* const n = s.plane[p].voxel;
    const float rate = gm_dot(n, ray.along[0], ray.along[1], ray.along[2]);
    const float room = n[3] - gm_dot(n, ray.from[0], ray.from[1], ray.from[2]);
    if (rate > 0.0f) {
      const float t = room / rate;
      *leave = t < *leave ? t : *leave;
    } else if (rate < 0.0f) {
      const float t = room / rate;
      if (t > *enter) {
        *enter = t;
        face = p;
      }
    } else if (room <= 0.0f) {
      *leave = -1.0f;
    }
  }
  return face;
}

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
  int face = gm_trace_clip(s, s.planes - s.holes, ray, &enter, &leave);
  if (inside) face = -1, enter = 0.0f;
  float from = -3.0e38f, to = s.holes > 0 ? 3.0e38f : -3.0e38f;  // the hole
  int back = -1;
  for (int p = s.planes - s.holes; p < s.planes; ++p) {
    const float* const n = s.plane[p].voxel;
    const float rate = gm_dot(n, ray.along[0], ray.along[1], ray.along[2]);
    const float room = n[3] - gm_dot(n, ray.from[0], ray.from[1], ray.from[2]);
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
