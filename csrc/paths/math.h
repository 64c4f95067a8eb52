// Volumetric path tracing of one pixel, for CPU and CUDA.
//
// The volume is a medium with extinction sigma(x) = table[v(x)] (1/mm; v interpolated linearly), times a factor of the
// gradient's magnitude where that is asked for, and with the albedo of the colour transfer function. Collisions are
// found by delta tracking (Woodcock et al. 1965) with one majorant for each cell of kTraceCell^3 voxels; `skips` says
// how many cells around an empty one are empty as well, so that air costs little.
//
// What a collision does (after Kroes et al. 2012, "Exposure Render"): with probability 1 - exp(-|grad v| / scale) it is
// one with a surface whose normal is the gradient, else one with a particle (Henyey-Greenstein phase function). A
// surface reflects with Schlick's probability F into a Phong lobe round the mirror direction, white, else diffusely
// with the albedo. Every lobe is a normalised density of the outgoing direction and F depends on the incoming one
// only, so nothing is lost or gained: a white medium in a white dome is invisible.
//
// The medium ends at half-spaces, those of the volume's box among them, and at a hole: what lies beyond all of the last
// `holes` planes. A collision in the first `face` mm behind the plane through which the camera's ray enters, or any ray
// enters again after the hole, is moved onto that plane, and is one with a diffuse surface of the voxel's own colour
// and the plane's normal. So a cut face is exactly where the plane is, and lit from the side that was cut away; how
// much of the light comes through does not change.
//
// Light: rectangles that shine to one side are sampled at each collision; the dome is met by the paths that leave.
// Neither is seen by the camera, whose rays that meet nothing leave alpha 0.
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

GM_FUNCTION float gm_random(GmTraceRandom* r) {  // [0, 1)
  const unsigned long long old = r->state;
  r->state = old * 6364136223846793005ull + 1442695040888963407ull;
  const unsigned mixed = (unsigned)(((old >> 18) ^ old) >> 27), turn = (unsigned)(old >> 59);
  return gm_unit((mixed >> turn) | (mixed << ((32 - turn) & 31)));
}

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
  float p = -1.043441966e-01f;
  p = p * f + 1.608034968e-01f;
  p = p * f - 1.710210741e-01f;
  p = p * f + 1.991821229e-01f;
  p = p * f - 2.498344779e-01f;
  p = p * f + 3.333435357e-01f;
  p = p * f - 5.000008345e-01f;
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

// The parts of a ray that are left: none, one, or two with the hole between. face: number of the plane that each enters
// through, -1 where it starts inside.
struct GmTraceSpans {
  int count, face[2];
  float enter[2], leave[2];
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
  GmTraceSpans spans;
  spans.count = 0;
  if (enter < end) {
    spans.enter[0] = enter, spans.leave[0] = end, spans.face[0] = face;
    spans.count = 1;
  }
  if (hollow && to < leave) {
    spans.enter[spans.count] = to, spans.leave[spans.count] = leave, spans.face[spans.count] = back;
    spans.count += 1;
  }
  return spans;
}

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

// local (x, y, z) in a frame whose z is the unit vector n (Duff et al. 2017).
GM_FUNCTION Vec3 gm_trace_turn(const Vec3& n, float x, float y, float z) {
  const float sign = n.z < 0.0f ? -1.0f : 1.0f;
  const float a = -1.0f / (sign + n.z), b = n.x * n.y * a;
  const Vec3 u = {1.0f + sign * n.x * n.x * a, sign * b, -sign * n.x}, w = {b, sign + n.y * n.y * a, -n.y};
  return x * u + y * w + z * n;
}

GM_FUNCTION Vec3 gm_trace_polar(const Vec3& axis, float cosine, float u) {
  const float sine = sqrtf(1.0f - cosine * cosine > 0.0f ? 1.0f - cosine * cosine : 0.0f);
  const float angle = 6.2831853072f * u;
  return gm_trace_turn(axis, sine * cosf(angle), sine * sinf(angle), cosine);
}

constexpr float kTracePi = 3.14159265f;

struct GmTraceEvent {
  int surface;          // 1: surface, 0: particle
  Vec3 normal, mirror;  // unit; normal faces the ray
  float fresnel;
  Vec3 colour;
};

// Density of the outgoing direction, with the albedo in it.
GM_FUNCTION Vec3 gm_trace_scatter(const GmTraceScene& s, const GmTraceEvent& e, const Vec3& direction,
                                  const Vec3& out) {
  if (e.surface) {
    const float n = gm_dot(e.normal, out), m = gm_dot(e.mirror, out);
    const float diffuse = n > 0.0f ? (1.0f - e.fresnel) * n * (1.0f / kTracePi) : 0.0f;
    const float lobe = m > 0.0f && e.fresnel > 0.0f
                           ? e.fresnel * (s.shininess + 1.0f) / (2.0f * kTracePi) * powf(m, s.shininess)
                           : 0.0f;
    return diffuse * e.colour + Vec3{lobe, lobe, lobe};
  }
  const float g = s.anisotropy, cosine = gm_dot(direction, out);
  const float base = 1.0f + g * g - 2.0f * g * cosine;
  const float phase = (1.0f - g * g) / (4.0f * kTracePi * base * sqrtf(base));
  return phase * e.colour;
}

// A direction drawn from that density; the throughput's factor in `weight`.
GM_FUNCTION Vec3 gm_trace_bounce(const GmTraceScene& s, const GmTraceEvent& e, const Vec3& direction, float kind,
                                 float u, float w, Vec3* weight) {
  *weight = e.colour;
  if (e.surface && kind < e.fresnel) {
    *weight = {1.0f, 1.0f, 1.0f};
    return gm_trace_polar(e.mirror, powf(u, 1.0f / (s.shininess + 1.0f)), w);
  }
  if (e.surface) return gm_trace_polar(e.normal, sqrtf(u), w);
  const float g = s.anisotropy;
  float cosine = 1.0f - 2.0f * u;
  if (fabsf(g) > 1e-3f) {
    const float q = (1.0f - g * g) / (1.0f - g + 2.0f * g * u);
    cosine = (1.0f + g * g - q * q) / (2.0f * g);
    cosine = cosine < -1.0f ? -1.0f : (cosine > 1.0f ? 1.0f : cosine);
  }
  return gm_trace_polar(direction, cosine, w);
}

GM_FUNCTION Vec3 gm_trace_dome(const GmTraceScene& s, const Vec3& direction) {
  const float height = gm_dot(s.up, direction);
  const Vec3& end = height > 0.0f ? s.zenith : s.nadir;
  return s.horizon + fabsf(height) * (end - s.horizon);
}

// Whether the way from `position` is free up to `distance`.
GM_FUNCTION bool gm_trace_free(const GmTraceScene& s, const GmTraceVolume& v, const Vec3& position,
                               const Vec3& direction, float distance, GmTraceRandom* random) {
  const GmTraceRay ray = gm_trace_ray(s, position, direction);
  const GmTraceSpans spans = gm_trace_spans(s, ray, true, distance);
  for (int k = 0; k < spans.count; ++k) {
    const float tau = -logf(1.0f - gm_random(random));
    if (gm_trace_collide(s, v, ray, spans.enter[k], spans.leave[k], tau, random) >= 0.0f) return false;
  }
  return true;
}

GM_FUNCTION Vec3 gm_trace_light(const GmTraceScene& s, const GmTraceVolume& v, const GmTraceEvent& e,
                                const Vec3& position, const Vec3& direction, float u, float w, GmTraceRandom* random) {
  const Vec3 nothing = {0.0f, 0.0f, 0.0f};
  if (s.lights == 0) return nothing;
  u *= (float)s.lights;
  const int chosen = (int)u < s.lights - 1 ? (int)u : s.lights - 1;
  const GmTraceLight& light = s.light[chosen];
  u -= (float)chosen;
  const Vec3 way = light.centre + (2.0f * u - 1.0f) * light.u + (2.0f * w - 1.0f) * light.v - position;
  const float distance = sqrtf(gm_dot(way, way)), inverse = 1.0f / distance;
  const Vec3 to = inverse * way;
  const float cosine = -gm_dot(light.normal, to);
  if (cosine <= 0.0f) return nothing;
  const Vec3 value = gm_trace_scatter(s, e, direction, to);
  if (value.x + value.y + value.z <= 0.0f || !gm_trace_free(s, v, position, to, distance, random)) return nothing;
  const float geometry = (float)s.lights * cosine * light.area * inverse * inverse;
  return geometry * (value * light.radiance);
}

// One sample of one pixel, added to sums: radiance (3), alpha, and of the first collision albedo (3), normal (3),
// depth (mm along the camera's z); last, the square of the radiance's mean over the colours.
GM_FUNCTION void gm_trace_once(const GmTraceScene& s, const GmTraceVolume& v, int column, int row, unsigned shift,
                               unsigned seed, unsigned sample, float* sums) {
  GmTraceRandom random = {((unsigned long long)gm_hash(shift ^ sample * 0x9e3779b9u) << 32) |
                          gm_hash(shift + seed * 0x85ebca6bu + sample)};
  gm_random(&random);
  const float x = (float)column + gm_stratified(shift, sample, 0), y = (float)row + gm_stratified(shift, sample, 1);
  Vec3 position = s.eye, direction = s.corner + x * s.right + y * s.down;
  const float per_depth = 1.0f / sqrtf(gm_dot(direction, direction));
  direction = per_depth * direction;
  Vec3 through = {1.0f, 1.0f, 1.0f}, radiance = {0.0f, 0.0f, 0.0f};
  for (int event = 0;; ++event) {
    const GmTraceRay ray = gm_trace_ray(s, position, direction);
    const GmTraceSpans spans = gm_trace_spans(s, ray, event > 0, 3.0e38f);
    float enter = 0.0f, t = -1.0f;
    int face = -1;
    for (int k = 0; k < spans.count && t < 0.0f; ++k) {
      const float u = event + k == 0 ? gm_stratified(shift, sample, 2) : gm_random(&random);
      enter = spans.enter[k], face = spans.face[k];
      t = gm_trace_collide(s, v, ray, enter, spans.leave[k], -logf(1.0f - u), &random);
    }
    if (t < 0.0f) {
      if (event == 0) break;
      radiance = radiance + through * gm_trace_dome(s, direction);
      break;
    }
    if (event == s.events) break;
    float at[3];
    if (face >= 0) {  // on the face only what is on it: a deeper collision, or one under air, stays where it is
      for (int a = 0; a < 3; ++a) at[a] = ray.from[a] + enter * ray.along[a];
      if (t < enter + s.face && gm_trace_extinction(s, v, at) > 0.0f)
        t = enter;
      else
        face = -1;
    }
    if (face < 0)
      for (int a = 0; a < 3; ++a) at[a] = ray.from[a] + t * ray.along[a];
    position = position + t * direction;
    GmTraceEvent e;
    const float* const colour = v.table + s.levels + 3 * gm_trace_level(s, v, at);
    e.colour = {colour[0], colour[1], colour[2]};
    e.fresnel = 0.0f;
    e.surface = 0;
    if (face >= 0) {
      e.surface = 1;
      e.normal = s.plane[face].normal;
    } else {
      const Vec3 gradient = gm_trace_gradient(s, v, at);
      const float magnitude = sqrtf(gm_dot(gradient, gradient));
      const float facing = gm_dot(gradient, direction) > 0.0f ? -1.0f : 1.0f;
      e.normal = magnitude > 0.0f ? facing * gradient / magnitude : -direction;
      if (gm_random(&random) >= expf(-magnitude / s.gradient_scale)) e.surface = 1;
    }
    if (event == 0) {
      sums[3] += 1.0f;
      gm_add(e.colour, sums + 4);
      gm_add(e.normal, sums + 7);
      sums[10] += t * per_depth;
    }
    if (e.surface) {
      const float cosine = -gm_dot(e.normal, direction);
      e.mirror = direction + 2.0f * cosine * e.normal;
      if (face < 0) {
        const float graze = cosine < 1.0f ? 1.0f - cosine : 0.0f, graze2 = graze * graze;
        e.fresnel = s.reflectance > 0.0f ? s.reflectance + (1.0f - s.reflectance) * graze2 * graze2 * graze : 0.0f;
      }
    }
    const bool first = event == 0;
    // Each number by a name: compilers differ in the order of a call's arguments, and with it in who gets which number.
    const float light_w = first ? gm_stratified(shift, sample, 4) : gm_random(&random);
    const float light_u = first ? gm_stratified(shift, sample, 3) : gm_random(&random);
    radiance = radiance + through * gm_trace_light(s, v, e, position, direction, light_u, light_w, &random);
    const float out_w = first ? gm_stratified(shift, sample, 6) : gm_random(&random);
    const float out_u = first ? gm_stratified(shift, sample, 5) : gm_random(&random);
    const float kind = first ? gm_stratified(shift, sample, 7) : gm_random(&random);
    Vec3 weight;
    direction = gm_trace_bounce(s, e, direction, kind, out_u, out_w, &weight);
    through = through * weight;
    const float largest = gm_largest(through);
    if (largest < 1.0f) {  // Russian roulette
      if (gm_random(&random) >= largest) break;
      through = through / largest;
    }
  }
  gm_add(radiance, sums);
  const float mean = (radiance.x + radiance.y + radiance.z) * (1.0f / 3.0f);
  sums[11] += mean * mean;
}

// Samples [first, first + count) of a pixel, added to its kTraceSums sums in order.
GM_FUNCTION void gm_trace_pixel(const GmTraceScene& s, const GmTraceVolume& v, int column, int row, unsigned seed,
                                int first, int count, float* sums) {
  const unsigned shift = gm_hash(gm_hash((unsigned)column + gm_hash((unsigned)row)) + seed * 0x9e3779b9u);
  for (int k = 0; k < count; ++k) gm_trace_once(s, v, column, row, shift, seed, (unsigned)(first + k), sums);
}
