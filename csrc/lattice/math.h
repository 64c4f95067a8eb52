// A lattice of Gaussians of one shape in sparse bricks: the mathematics that CPU and CUDA kernels share.
//
// Node (x, y, z) has a colour c and a Gaussian of 0.6 pitches along each lattice axis that reaches two pitches: at a
// point u of lattice coordinates it weighs e(ux - x) e(uy - y) e(uz - z), e(d) = exp(-d^2 / (2 * 0.6^2)), for the four
// nodes floor(u) - 1 .. floor(u) + 2 of each axis (the taps). The image is the normalised mean over the nodes there
// are,
//     I(u) = sum w c / (sum w + background).
// Nodes live in bricks of 8 x 8 x 8, which a table names; a brick that the table does not name has no nodes. The
// weights are products, so sum w is a product of three sums of four, and where bricks are missing it is the sum of the
// at most eight products that belong to the bricks there are: the taps of an axis lie in at most two bricks.
//
// Positions are affine in the pixel. They are taken in double precision at every 16th pixel of a row and go on from
// there in single precision relative to a whole node, so their error is below 1e-5 pitches however large the image.
// Every kernel takes the same steps, whatever part of a row it visits: forward and adjoint agree about the taps of
// every sample, and no result depends on how rows are shared out.
#pragma once

#include "support/math.h"

enum { kBrickSide = 8, kBrickRow = 8, kBrickLayer = 64, kBrickNodes = 512, kTaps = 4 };
enum { kLatticeRun = 16 };               // pixels from one position in double precision to the next
enum { kLatticeBelow = 1 };              // empty bricks before each axis of the padded table,
enum { kLatticeAround = 3 };             // and in all: taps beyond the last brick need two after it
enum { kLatticeMostBricks = 1 << 16 };   // along an axis, so that coordinates of nodes are exact in single precision
#define GM_LATTICE_FARTHEST 268435456.0  // positions (pitches) are clamped to this, far outside every lattice,
#define GM_LATTICE_LONGEST 1048576.0     // and steps to this, so that whole numbers stay in int's range

// The table with a border of missing bricks (-1), so that no tap needs a check: `bricks` along x, y, z without the
// border; the brick of padded cell (x, y, z) is table[x + stride[0] y + stride[1] z].
struct GmLattice {
  const int* table;
  int bricks[3];
  int stride[2];
};

// Lattice coordinates of pixel (0, 0), their change per column, per row, and per millimetre along the normal.
struct GmLatticePlane {
  double start[3], column[3], row[3], normal[3];
};

// to_node: 3 x 4, RAS to lattice coordinates; frame: as in planes/math.h.
GM_FUNCTION void gm_lattice_plane(const double* to_node, const float* frame, GmLatticePlane* plane) {
  double* const parts[4] = {plane->start, plane->column, plane->row, plane->normal};
  for (int part = 0; part < 4; ++part)
    for (int axis = 0; axis < 3; ++axis) {
      const double* const m = to_node + 4 * axis;
      const float* const v = frame + 3 * part;
      const double sum = m[0] * (double)v[0] + m[1] * (double)v[1] + m[2] * (double)v[2];
      parts[part][axis] = part == 0 ? sum + m[3] : sum;
    }
}

GM_FUNCTION void gm_lattice_row(const GmLatticePlane& plane, int row, float offset, double* start) {
  for (int axis = 0; axis < 3; ++axis)
    start[axis] = plane.start[axis] + (double)row * plane.row[axis] + (double)offset * plane.normal[axis];
}

// Narrows [first, end), counted in steps from start, to where low < start + i step < high may hold on every axis. It is
// one too wide on either side rather than too narrow.
GM_FUNCTION void gm_lattice_clip(const double* start, const double* step, const double* low, const double* high,
                                 int* first, int* end) {
  for (int axis = 0; axis < 3; ++axis) {
    const double a = low[axis] - start[axis], b = high[axis] - start[axis];
    double from = -1.0e9, to = 1.0e9;
    if (step[axis] > 1e-12) {
      from = a / step[axis];
      to = b / step[axis];
    } else if (step[axis] < -1e-12) {
      from = b / step[axis];
      to = a / step[axis];
    } else if (a > 1e-3 || b < -1e-3) {
      to = -1.0e9;
    }
    if (!(to > (double)*first - 2.0 && from < (double)*end + 2.0)) {
      *end = *first;
      return;
    }
    if (from - 1.0 > (double)*first) *first = (int)(from - 1.0);
    if (to + 2.0 < (double)*end) *end = (int)(to + 2.0);
    if (*end < *first) *end = *first;
  }
}

// Rows [first, end) of a plane of `columns` columns on which a pixel may lie within (low, high).
GM_FUNCTION void gm_lattice_clip_rows(const GmLatticePlane& plane, float offset, int columns, const double* low,
                                      const double* high, int* first, int* end) {
  double start[3], wide_low[3], wide_high[3];
  gm_lattice_row(plane, 0, offset, start);
  for (int axis = 0; axis < 3; ++axis) {
    const double span = (double)(columns - 1) * plane.column[axis];
    wide_low[axis] = low[axis] - (span > 0.0 ? span : 0.0);
    wide_high[axis] = high[axis] - (span < 0.0 ? span : 0.0);
  }
  gm_lattice_clip(start, plane.row, wide_low, wide_high, first, end);
}

// One axis of a run of pixels: where its first pixel lies.
struct GmLatticeRun {
  float part, step;  // pixel n of the run lies at part + n step >= 0,
  int whole;         // counted from this node, in padded coordinates, less the one tap before
};

GM_FUNCTION GmLatticeRun gm_lattice_run(double at, double step) {
  step = step < GM_LATTICE_LONGEST ? step : GM_LATTICE_LONGEST;
  step = step > -GM_LATTICE_LONGEST ? step : -GM_LATTICE_LONGEST;
  at = at < GM_LATTICE_FARTHEST ? at : GM_LATTICE_FARTHEST;
  at = at > -GM_LATTICE_FARTHEST ? at : -GM_LATTICE_FARTHEST;
  const double least = step < 0.0 ? at + (kLatticeRun - 1) * step : at;
  const int whole = (int)(least + 2.0 * GM_LATTICE_FARTHEST) - (int)(2.0 * GM_LATTICE_FARTHEST);
  GmLatticeRun run;
  run.part = (float)(at - (double)whole);
  run.step = (float)step;
  run.whole = whole + kBrickSide * kLatticeBelow - 1;
  return run;
}

// Pixel n of a run: the first of its taps in padded coordinates (clamped to the padded table, where outside of it there
// is no node anyway), and how far the pixel lies behind its second tap, 0..1.
GM_FUNCTION int gm_lattice_tap(const GmLatticeRun& run, int n, int bricks, float* fraction) {
  const float local = run.part + (float)n * run.step;
  const int cell = (int)local;
  *fraction = local - (float)cell;
  const int tap = run.whole + cell, last = kBrickSide * (bricks + kLatticeBelow);
  return tap < 0 ? 0 : (tap > last ? last : tap);
}

// Weights of the four taps, relative error below 2e-6. With t = fraction - 1/2 tap k lies at t + o, o = 3/2, 1/2, -1/2,
// -3/2, and e(t + o) = e(o) e(t) exp(-t o / 0.36): an even polynomial for e(t), and for the exponential at o = +-1/2
// the sum and difference of an even and an odd one; those at +-3/2 are its cubes.
GM_FUNCTION void gm_lattice_weights(float fraction, float* w0, float* w1, float* w2, float* w3) {
  const float t = fraction - 0.5f, u = t * t;
  const float g = (((0.1301712245f * u - 0.4411557317f) * u + 0.9640210867f) * u - 1.388873339f) * u + 0.9999999404f;
  const float even = ((0.01014008280f * u + 0.1550191492f) * u + 0.9645074606f) * u + 1.0f;
  const float odd = t * (((0.002004604787f * u + 0.04306402802f) * u + 0.4465308487f) * u + 1.388888836f);
  const float down = even - odd, up = even + odd;  // exp(-+t / 0.72)
  const float near = 0.7066482779f * g, far = 0.04393693362f * g;
  *w0 = far * (down * down * down);
  *w1 = near * down;
  *w2 = near * up;
  *w3 = far * (up * up * up);
}

// sum w over the nodes there are. x, y, z: weights of the taps, `stride` floats apart; at: place of the first tap
// within its brick; bit 4 dz + 2 dy + dx of `there` tells of the bricks from that one on.
GM_FUNCTION float gm_lattice_existing(const float* x, const float* y, const float* z, int stride, int at_x, int at_y,
                                      int at_z, unsigned there) {
  float x0 = 0.0f, x1 = 0.0f, y0 = 0.0f, y1 = 0.0f, z0 = 0.0f, z1 = 0.0f;
  for (int k = 0; k < kTaps; ++k) {
    const bool dx = at_x + k >= kBrickSide, dy = at_y + k >= kBrickSide, dz = at_z + k >= kBrickSide;
    const float wx = x[k * stride], wy = y[k * stride], wz = z[k * stride];
    x0 += dx ? 0.0f : wx;
    x1 += dx ? wx : 0.0f;
    y0 += dy ? 0.0f : wy;
    y1 += dy ? wy : 0.0f;
    z0 += dz ? 0.0f : wz;
    z1 += dz ? wz : 0.0f;
  }
  float total = 0.0f;
  for (int corner = 0; corner < 8; ++corner) {
    const float product = (corner & 4 ? z1 : z0) * (corner & 2 ? y1 : y0) * (corner & 1 ? x1 : x0);
    total += there >> corner & 1u ? product : 0.0f;
  }
  return total;
}

// Brick of corner (4 dz + 2 dy + dx) of the 2 x 2 x 2 from a padded cell on; -1 where there is none.
GM_FUNCTION int gm_lattice_brick(const GmLattice& g, int cell, int corner) {
  return g.table[cell + (corner & 1) + (corner & 2 ? g.stride[0] : 0) + (corner & 4 ? g.stride[1] : 0)];
}

GM_FUNCTION float gm_lattice_inverse(float weight, float background) {
  const float sum = weight + background;
  return sum > 0.0f ? 1.0f / sum : 0.0f;
}

// A neighbour's part of the smoothness prior's gradient: scale^2 w difference, w = edge / sqrt((scale r)^2 + edge^2), r
// the difference of the reference, or w = 1 without an edge.
GM_FUNCTION float gm_lattice_pull(float difference, float reference, float scale2, float edge) {
  return scale2 * difference * (edge / sqrtf(scale2 * reference * reference + edge * edge));
}
