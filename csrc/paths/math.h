// Volumetric path tracing of one pixel, for CPU and CUDA.
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
#pragma once

#include "paths/collision_math.h"

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

// A path, and the ray of it that is on its way: the camera's, one that was scattered, or one to a light.
struct GmTracePath {
  GmTraceRandom random;
  unsigned shift, sample;
  int event;                                    // collisions so far
  int goes_on;                                  // whether a ray follows on the one to a light
  float per_depth;                              // mm along the camera's z for each mm of its ray
  Vec3 position, direction, through, radiance;  // position: of the last collision
  Vec3 lit, towards;                            // what the light brings if nothing hides it; where it is
  float distance;                               // to the light; 0 where the ray is not to one
  GmTraceRay ray;
  GmTraceSpans spans;
  int begun;         // of those
  GmTraceSpan span;  // the last of those
};

// Sets out from `position`.
GM_FUNCTION void gm_trace_leave(const GmTraceScene& s, const Vec3& direction, float distance, GmTracePath* path) {
  path->ray = gm_trace_ray(s, path->position, direction);
  path->spans = gm_trace_spans(s, path->ray, path->event > 0, distance);
  path->begun = 0;
}

// The next part of the path's ray, where there is one.
GM_FUNCTION bool gm_trace_next(const GmTraceScene& s, GmTracePath* path, GmTraceWalk* walk) {
  if (path->begun >= path->spans.count) return false;
  const bool camera = path->event + path->begun == 0;
  path->span = path->begun == 0 ? path->spans.first : path->spans.second;
  path->begun += 1;
  const float u = camera ? gm_stratified(path->shift, path->sample, 2) : gm_random(&path->random);
  const unsigned key = gm_random_bits(&path->random);
  *walk = gm_trace_walk(s, path->ray, path->span.enter, path->span.leave, -gm_log(1.0f - u), key);
  return true;
}

// Chooses a light and a place on it: sets lit, towards and distance of a path whose last collision is `e`.
GM_FUNCTION void gm_trace_light(const GmTraceScene& s, const GmTraceEvent& e, float u, float w, GmTracePath* path) {
  const Vec3 position = path->position;
  // One light, by what each would give if nothing hid its middle; a tenth more for those of which a part may be seen.
  int chosen = 0;
  float gives = 0.0f, all = 0.0f;
#if defined(__CUDACC__) || defined(__CUDACC_RTC__)
#pragma unroll 1  // registers
#endif
  for (int l = 0; l < s.lights; ++l) {
    const Vec3 to = s.light[l].centre - position;
    const float square = gm_dot(to, to), facing = gm_dot(e.normal, to) / sqrtf(square);
    const float seen = e.surface ? (facing > 0.0f ? facing : 0.0f) + 0.1f : 1.0f;
    const float next = seen * s.light[l].area * gm_largest(s.light[l].radiance) / square;
    if (next <= 0.0f) continue;
    all += next;
    const float part = u * all;  // u stays even in [0, 1], whichever light is chosen so far
    if (part < next || next == all) {
      chosen = l, gives = next, u = part / next;
    } else {
      u = (part - next) / (all - next);
    }
  }
  if (!(gives > 0.0f)) return;
  const GmTraceLight& light = s.light[chosen];
  u = u < 1.0f ? u : 1.0f;
  const Vec3 way = light.centre + (2.0f * u - 1.0f) * light.u + (2.0f * w - 1.0f) * light.v - position;
  const float distance = sqrtf(gm_dot(way, way)), inverse = 1.0f / distance;
  const Vec3 to = inverse * way;
  const float cosine = -gm_dot(light.normal, to);
  if (cosine <= 0.0f) return;
  const Vec3 value = gm_trace_scatter(s, e, path->direction, to);
  if (value.x + value.y + value.z <= 0.0f) return;
  const float geometry = all / gives * cosine * light.area * inverse * inverse;
  path->lit = path->through * (geometry * (value * light.radiance));
  path->towards = to, path->distance = distance;
}

// Begins a sample of a pixel; false where its ray meets nothing.
GM_FUNCTION bool gm_trace_begin(const GmTraceScene& s, int column, int row, unsigned seed, unsigned sample,
                                GmTracePath* path, GmTraceWalk* walk) {
  const unsigned shift = gm_hash(gm_hash((unsigned)column + gm_hash((unsigned)row)) + seed * 0x9e3779b9u);
  path->random = {((unsigned long long)gm_hash(shift ^ sample * 0x9e3779b9u) << 32) |
                  gm_hash(shift + seed * 0x85ebca6bu + sample)};
  gm_random(&path->random);
  path->shift = shift, path->sample = sample, path->event = 0, path->distance = 0.0f;
  const float x = (float)column + gm_stratified(shift, sample, 0), y = (float)row + gm_stratified(shift, sample, 1);
  path->direction = s.corner + x * s.right + y * s.down;
  path->per_depth = 1.0f / sqrtf(gm_dot(path->direction, path->direction));
  path->direction = path->per_depth * path->direction;
  path->position = s.eye, path->through = {1.0f, 1.0f, 1.0f}, path->radiance = {0.0f, 0.0f, 0.0f};
  gm_trace_leave(s, path->direction, 3.0e38f, path);
  return gm_trace_next(s, path, walk);
}

// The collision at walk.t: of the path's first one albedo (3), normal (3) and depth (mm along the camera's z) are added
// to sums + 4. Then where the path goes, and what a light brings to it.
GM_FUNCTION void gm_trace_collision(const GmTraceScene& s, const GmTraceVolume& v, const GmTraceWalk& walk,
                                    GmTracePath* path, float* sums) {
  const bool first = path->event == 0;
  const float enter = path->span.enter;
  int face = path->span.face;
  float t = walk.t, at[3];
  if (face >= 0) {  // on the face only what is on it: a deeper collision, or one under air, stays where it is
    for (int a = 0; a < 3; ++a) at[a] = walk.ray.from[a] + enter * walk.ray.along[a];
    if (t < enter + s.face && gm_trace_extinction(s, v, at) > 0.0f)
      t = enter;
    else
      face = -1;
  }
  if (face < 0) gm_trace_near(walk.ray, t, gm_trace_bits(walk), at);
  const Vec3 direction = path->direction;
  path->position = path->position + t * direction;
  GmTraceEvent e;
  const float* const colour = v.table + s.levels + 3 * gm_trace_level(s, v, at);
  e.colour = {colour[0], colour[1], colour[2]};
  e.fresnel = 0.0f;
  e.surface = 0;
  if (face >= 0) {
    e.surface = 1;
    e.normal = s.normal[face];
  } else {
    const Vec3 gradient = gm_trace_gradient(s, v, at);
    const float magnitude = sqrtf(gm_dot(gradient, gradient));
    const float facing = gm_dot(gradient, direction) > 0.0f ? -1.0f : 1.0f;
    e.normal = magnitude > 0.0f ? facing * gradient / magnitude : -direction;
    if (gm_random(&path->random) >= expf(-magnitude / s.gradient_scale)) e.surface = 1;
  }
  if (first) {
    sums[3] += 1.0f;
    gm_add(e.colour, sums + 4);
    gm_add(e.normal, sums + 7);
    sums[10] += t * path->per_depth;
  }
  if (e.surface) {
    const float cosine = -gm_dot(e.normal, direction);
    e.mirror = direction + 2.0f * cosine * e.normal;
    if (face < 0) {
      const float graze = cosine < 1.0f ? 1.0f - cosine : 0.0f, graze2 = graze * graze;
      e.fresnel = s.reflectance > 0.0f ? s.reflectance + (1.0f - s.reflectance) * graze2 * graze2 * graze : 0.0f;
    }
  }
  GmTraceRandom* const random = &path->random;
  // Each number by a name: compilers differ in the order of a call's arguments, and with it in who gets which number.
  const float light_w = first ? gm_stratified(path->shift, path->sample, 4) : gm_random(random);
  const float light_u = first ? gm_stratified(path->shift, path->sample, 3) : gm_random(random);
  gm_trace_light(s, e, light_u, light_w, path);
  const float out_w = first ? gm_stratified(path->shift, path->sample, 6) : gm_random(random);
  const float out_u = first ? gm_stratified(path->shift, path->sample, 5) : gm_random(random);
  const float kind = first ? gm_stratified(path->shift, path->sample, 7) : gm_random(random);
  Vec3 weight;
  path->direction = gm_trace_bounce(s, e, direction, kind, out_u, out_w, &weight);
  path->through = path->through * weight;
  path->event += 1;
  path->goes_on = 1;
  const float largest = gm_largest(path->through);
  if (largest < 1.0f) {  // Russian roulette
    path->goes_on = gm_random(random) < largest;
    path->through = path->through / largest;
  }
}

// What follows on the end of a walk, which met something at walk->t or nothing: the next walk; false where the path is
// over. Then its radiance (3) is added to sums, and last, the square of the radiance's mean over the colours.
GM_FUNCTION bool gm_trace_arrive(const GmTraceScene& s, const GmTraceVolume& v, bool met, GmTracePath* path,
                                 GmTraceWalk* walk, float* sums) {
  for (;; met = false) {
    if (!met && gm_trace_next(s, path, walk)) return true;
    if (path->distance > 0.0f) {
      if (!met) path->radiance = path->radiance + path->lit;
      path->distance = 0.0f;
    } else if (met && path->event < s.events) {
      gm_trace_collision(s, v, *walk, path, sums);
      if (path->distance > 0.0f) {
        gm_trace_leave(s, path->towards, path->distance, path);
        continue;
      }
    } else {
      if (!met && path->event > 0) path->radiance = path->radiance + path->through * gm_trace_dome(s, path->direction);
      break;
    }
    if (!path->goes_on) break;
    gm_trace_leave(s, path->direction, 3.0e38f, path);
  }
  gm_add(path->radiance, sums);
  const float mean = (path->radiance.x + path->radiance.y + path->radiance.z) * (1.0f / 3.0f);
  sums[11] += mean * mean;
  return false;
}

// Samples [first, first + count) of a pixel, added to its kTraceSums sums in order.
GM_FUNCTION void gm_trace_pixel(const GmTraceScene& s, const GmTraceVolume& v, int column, int row, unsigned seed,
                                int first, int count, float* sums) {
  for (int k = 0; k < count; ++k) {
    GmTracePath path;
    GmTraceWalk walk;
    bool going = gm_trace_begin(s, column, row, seed, (unsigned)(first + k), &path, &walk);
    while (going) going = gm_trace_arrive(s, v, gm_trace_collide(s, v, &walk) >= 0.0f, &path, &walk, sums);
  }
}
