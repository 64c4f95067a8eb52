// The first collision of a ray with the medium, for CPU and CUDA: delta tracking (Woodcock et al. 1965).
//
// One majorant holds for each cell of kTraceCell^3 voxels and half a voxel round it; `skips` says how many cells around
// an empty one are empty as well, so that air costs little. A ray takes one step after the other: into the next cell,
// or to a tentative collision. Each of these has random numbers of its own, by its number on the ray. CUDA walks a ray
// for each thread, a processor several at once (paths/kernels.cpp): the steps have no branches, so that its compiler
// makes vectors of them.
#pragma once

#include "paths/medium_math.h"

// A ray on its way to its first collision.
struct GmTraceWalk {
  GmTraceRay ray;
  float t, leave;       // where it is; where it ends
  float tau;            // optical depth to the next tentative collision
  unsigned key, tries;  // of the ray's random numbers; tentative collisions so far
  int cell[3];
};

// Different bits for each of a try's numbers.
constexpr unsigned kTraceTry = 0x9e3779b9u, kTraceChance = 0x68bc21ebu, kTraceDepth = 0x02e5be93u;

// What a step leads to.
constexpr int kTraceTries = 0, kTraceCrosses = 1, kTraceLeaves = 2;

GM_FUNCTION int gm_clamp(int i, int low, int high) { return i < low ? low : (i > high ? high : i); }

// tau: optical depth to the first tentative collision.
GM_FUNCTION GmTraceWalk gm_trace_walk(const GmTraceScene& s, const GmTraceRay& ray, float enter, float leave, float tau,
                                      unsigned key) {
  GmTraceWalk walk = {ray, enter, leave, tau, key, 0u, {0, 0, 0}};
  for (int a = 0; a < 3; ++a)
    walk.cell[a] = gm_clamp((int)((ray.from[a] + enter * ray.along[a]) * (1.0f / kTraceCell)), 0, s.cells[a] - 1);
  return walk;
}

GM_FUNCTION long long gm_trace_cell(const GmTraceScene& s, const int* cell) {
  return ((long long)cell[2] * s.cells[1] + cell[1]) * s.cells[0] + cell[0];
}

// The next step: to a tentative collision in this cell, or into the next cell that may not be empty, or out.
GM_FUNCTION int gm_trace_step(const int* cells, float majorant, int skip, GmTraceWalk* walk) {
  const GmTraceRay& ray = walk->ray;
  const int reach = skip > 0 ? skip - 1 : 0;
  float to[3];
  for (int a = 0; a < 3; ++a) {
    const int edge = ray.along[a] > 0.0f ? walk->cell[a] + reach + 1 : walk->cell[a] - reach;
    to[a] = ((float)(edge * kTraceCell) - ray.from[a]) * ray.inverse[a];
  }
  const int first = to[1] < to[0] ? 1 : 0, axis = to[2] < (first ? to[1] : to[0]) ? 2 : first;
  const float out = axis == 2 ? to[2] : (first ? to[1] : to[0]);
  const float end = out < walk->leave ? out : walk->leave;
  const float next = walk->t + walk->tau / majorant;  // of an empty cell not a number, or infinite
  const bool tries = (skip == 0) & (next < end);
  const float left = walk->tau - (end - walk->t) * majorant;
  walk->tau = tries ? walk->tau : (left < 0.0f ? 0.0f : left);
  walk->t = tries ? next : (end > walk->t ? end : walk->t);
  bool outside = out >= walk->leave;
  for (int a = 0; a < 3; ++a) {
    const int cell = walk->cell[a], low = cell - reach, high = cell + reach;
    const int beyond = ray.along[a] > 0.0f ? high + 1 : low - 1;
    const int within = gm_clamp((int)((ray.from[a] + walk->t * ray.along[a]) * (1.0f / kTraceCell)), low, high);
    const int moved = a == axis ? beyond : within, inside = gm_clamp(moved, 0, cells[a] - 1);
    outside = outside | ((a == axis) & (inside != moved));
    walk->cell[a] = tries ? cell : inside;
  }
  return tries ? kTraceTries : (outside ? kTraceLeaves : kTraceCrosses);
}

// A random place in the box of one voxel round a place of a ray: ten bits for each axis.
GM_FUNCTION void gm_trace_near(const GmTraceRay& ray, float t, unsigned bits, float* at) {
  for (int a = 0; a < 3; ++a) {
    const float place = (float)((int)((bits >> (10 * a)) & 1023u) - 512) + 0.5f;
    at[a] = ray.from[a] + t * ray.along[a] + place * (1.0f / 1024.0f);
  }
}

// The key of a try's numbers, and the bits of gm_trace_near among them.
GM_FUNCTION unsigned gm_trace_key(const GmTraceWalk& walk) { return walk.key + walk.tries * kTraceTry; }
GM_FUNCTION unsigned gm_trace_bits(const GmTraceWalk& walk) { return gm_hash(gm_trace_key(walk)); }

// Whether a tentative collision happens; where it does not, the ray goes on.
GM_FUNCTION bool gm_trace_happens(float majorant, float extinction, GmTraceWalk* walk) {
  const unsigned key = gm_trace_key(*walk);
  const bool happens = gm_unit(gm_hash(key ^ kTraceChance)) * majorant < extinction;
  const float tau = -gm_log(1.0f - gm_unit(gm_hash(key ^ kTraceDepth)));
  walk->tau = happens ? walk->tau : tau;
  walk->tries += happens ? 0u : 1u;
  return happens;
}

// The first collision: its distance, or a negative number; gm_trace_bits lead to the tissue that is met.
GM_FUNCTION float gm_trace_collide(const GmTraceScene& s, const GmTraceVolume& v, GmTraceWalk* walk) {
  for (;;) {
    const long long cell = gm_trace_cell(s, walk->cell);
    const float majorant = v.majorants[cell];
    const int step = gm_trace_step(s.cells, majorant, v.skips[cell], walk);
    if (step == kTraceLeaves) return -1.0f;
    if (step == kTraceCrosses) continue;
    float at[3];
    gm_trace_near(walk->ray, walk->t, gm_trace_bits(*walk), at);
    if (gm_trace_happens(majorant, gm_trace_extinction(s, v, at), walk)) return walk->t;
  }
}
