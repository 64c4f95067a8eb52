// Lattices on a GPU: forward a thread for each pixel; adjoint a warp for each brick, which visits the pixels that reach
// it and is the only one to add to its nodes, so there are no atomics and the order of the sums is always the same.
#pragma once
#include "lattice/math.h"
#include "support/tiles.cuh"

// The taps of one sample: weights along x, y, z, and the first tap in padded coordinates.
struct LatticeSample {
  float w[3][kTaps];
  int tap[3];
};

GM_FUNCTION GmLattice lattice_of(const int* table, int bricks_x, int bricks_y, int bricks_z) {
  const int stride = bricks_x + kLatticeAround;
  return {table, {bricks_x, bricks_y, bricks_z}, {stride, stride * (bricks_y + kLatticeAround)}};
}

// start: of the row; a run of pixels begins at every 16th column.
GM_FUNCTION LatticeSample lattice_sample(const GmLattice& g, const double* start, const double* step, int column) {
  LatticeSample s;
  const int n = column % kLatticeRun;
#pragma unroll
  for (int axis = 0; axis < 3; ++axis) {
    const GmLatticeRun run = gm_lattice_run(start[axis] + (double)(column - n) * step[axis], step[axis]);
    float fraction;
    s.tap[axis] = gm_lattice_tap(run, n, g.bricks[axis], &fraction);
    gm_lattice_weights(fraction, &s.w[axis][0], &s.w[axis][1], &s.w[axis][2], &s.w[axis][3]);
  }
  return s;
}

GM_FUNCTION int lattice_cell(const GmLattice& g, const LatticeSample& s) {
  return (s.tap[0] >> 3) + (s.tap[1] >> 3) * g.stride[0] + (s.tap[2] >> 3) * g.stride[1];
}

// sum w over the nodes there are.
GM_FUNCTION float lattice_weight(const GmLattice& g, const LatticeSample& s) {
  const int cell = lattice_cell(g, s);
  unsigned there = 0;
#pragma unroll
  for (int corner = 0; corner < 8; ++corner) there |= gm_lattice_brick(g, cell, corner) >= 0 ? 1u << corner : 0u;
  return gm_lattice_existing(s.w[0], s.w[1], s.w[2], 1, s.tap[0] & 7, s.tap[1] & 7, s.tap[2] & 7, there);
}

// Block: a tile of 16 x 16 pixels (tiles.cuh). table: padded; lattice_planes [planes]; offsets, weights [planes,
// samples]; image, density [total].
extern "C" __global__ void __launch_bounds__(256, 2)
    gm_lattice_render(const float* nodes, const int* table, const double* lattice_planes, const int* planes,
                      const int* tile_planes, const float* offsets, const float* weights, float* image, float* density,
                      int bricks_x, int bricks_y, int bricks_z, int samples, float background) {
  const Tile tile = find_tile(planes, tile_planes, blockIdx.x);
  const int row = tile.row0 + threadIdx.x / kTile, column = tile.column0 + threadIdx.x % kTile;
  if (row >= tile.rows || column >= tile.columns) return;
  const GmLattice g = lattice_of(table, bricks_x, bricks_y, bricks_z);
  const GmLatticePlane& plane = ((const GmLatticePlane*)lattice_planes)[tile.plane];
  float value = 0.0f, mass = 0.0f;
  for (int q = tile.plane * samples; q < (tile.plane + 1) * samples; ++q) {
    double start[3];
    gm_lattice_row(plane, row, offsets[q], start);
    const LatticeSample s = lattice_sample(g, start, plane.column, column);
    const float weight = lattice_weight(g, s);
    if (weight == 0.0f) continue;
    const int x = s.tap[0] & 7, y = s.tap[1] & 7, z = s.tap[2] & 7;
    const int* const cell = table + lattice_cell(g, s);
    float numerator = 0.0f;
#pragma unroll
    for (int k = 0; k < kTaps; ++k)
#pragma unroll
      for (int j = 0; j < kTaps; ++j) {
        const int* const bricks = cell + ((y + j) >> 3) * g.stride[0] + ((z + k) >> 3) * g.stride[1];
        const int row_of_brick = ((z + k) & 7) * kBrickLayer + ((y + j) & 7) * kBrickRow;
        const int left = bricks[0], right = bricks[1];
        float sum = 0.0f;
#pragma unroll
        for (int i = 0; i < kTaps; ++i) {
          const int brick = x + i < kBrickSide ? left : right;
          if (brick >= 0) sum += s.w[0][i] * nodes[(long long)brick * kBrickNodes + row_of_brick + ((x + i) & 7)];
        }
        numerator += s.w[2][k] * s.w[1][j] * sum;
      }
    value += weights[q] * numerator * gm_lattice_inverse(weight, background);
    mass += weights[q] * weight;
  }
  const long long pixel = tile.pixels + (long long)row * tile.columns + column;
  image[pixel] = value;
  density[pixel] = mass;
}

// A warp for each brick; block: 32. cells [bricks that the padded table names]: where in the table. grad_nodes is
// written where a brick is named.
extern "C" __global__ void __launch_bounds__(32)
    gm_lattice_render_backward(const float* grad_image, const int* table, const double* lattice_planes,
                               const int* planes, const int* cells, const float* offsets, const float* weights,
                               float* grad_nodes, int bricks_x, int bricks_y, int bricks_z, int plane_count,
                               int samples, float background) {
  const unsigned all = 0xffffffffu;
  __shared__ float sums[kBrickNodes];
  __shared__ float weight[32][3][kTaps];
  __shared__ int place[32][3];
  const int lane = threadIdx.x;
  const GmLattice g = lattice_of(table, bricks_x, bricks_y, bricks_z);
  const int cell = cells[blockIdx.x];
  const int origin[3] = {kBrickSide * (cell % g.stride[0]), kBrickSide * (cell % g.stride[1] / g.stride[0]),
                         kBrickSide * (cell / g.stride[1])};  // padded coordinates
  double low[3], high[3];
  for (int axis = 0; axis < 3; ++axis) {
    low[axis] = origin[axis] - kBrickSide * kLatticeBelow - 2.0;
    high[axis] = low[axis] + kBrickSide + 3.0;
  }
  for (int n = lane; n < kBrickNodes; n += 32) sums[n] = 0.0f;
  __syncwarp(all);
  const int count = plane_count * samples;
  for (int base = 0; base < count; base += 32) {
    int first_row = 0, end_row = 0;
    if (base + lane < count) {
      const int plane = (base + lane) / samples;
      const PlaneGrid grid = read_plane_grid(planes, plane);
      if (grid.columns > 0) end_row = grid.rows;
      gm_lattice_clip_rows(((const GmLatticePlane*)lattice_planes)[plane], offsets[base + lane], grid.columns, low,
                           high, &first_row, &end_row);
    }
    for (unsigned left = __ballot_sync(all, first_row < end_row); left; left &= left - 1) {
      const int from = __ffs(left) - 1, q = base + from;
      const PlaneGrid grid = read_plane_grid(planes, q / samples);
      const GmLatticePlane& plane = ((const GmLatticePlane*)lattice_planes)[q / samples];
      const int last_row = __shfl_sync(all, end_row, from);
      for (int row = __shfl_sync(all, first_row, from); row < last_row; ++row) {
        double start[3];
        int first = 0, end = grid.columns;
        gm_lattice_row(plane, row, offsets[q], start);
        gm_lattice_clip(start, plane.column, low, high, &first, &end);
        for (int at = first; at < end; at += 32) {
          bool reaches = at + lane < end;
          if (reaches) {
            const float gradient = weights[q] * grad_image[grid.pixels + (long long)row * grid.columns + at + lane];
            const LatticeSample s = lattice_sample(g, start, plane.column, at + lane);
            reaches = gradient != 0.0f;
            for (int axis = 0; axis < 3; ++axis) {
              place[lane][axis] = s.tap[axis] - origin[axis];
              reaches = reaches && place[lane][axis] > -kTaps && place[lane][axis] < kBrickSide;
            }
            if (reaches) {
              const float scale = gradient * gm_lattice_inverse(lattice_weight(g, s), background);
              for (int k = 0; k < kTaps; ++k) {
                weight[lane][0][k] = scale * s.w[0][k];
                weight[lane][1][k] = s.w[1][k];
                weight[lane][2][k] = s.w[2][k];
              }
            }
          }
          // A lane for half a row of taps of each sample; a sample's taps are different nodes.
          const int k = lane >> 3, j = lane >> 1 & 3, half = 2 * (lane & 1);
          for (unsigned reaching = __ballot_sync(all, reaches); reaching; reaching &= reaching - 1) {
            const int n = __ffs(reaching) - 1;
            __syncwarp(all);
            const int y = place[n][1] + j, z = place[n][2] + k;
            if (y >= 0 && y < kBrickSide && z >= 0 && z < kBrickSide) {
              const float part = weight[n][2][k] * weight[n][1][j];
              for (int i = half; i < half + 2; ++i) {
                const int x = place[n][0] + i;
                if (x >= 0 && x < kBrickSide) sums[z * kBrickLayer + y * kBrickRow + x] += part * weight[n][0][i];
              }
            }
          }
          __syncwarp(all);
        }
      }
    }
  }
  float* const out = grad_nodes + (long long)table[cell] * kBrickNodes;
  for (int n = lane; n < kBrickNodes; n += 32) out[n] = sums[n];
}

// A block of 512 for each brick, a thread for each node. cells: as above; out is written where a brick is named.
extern "C" __global__ void __launch_bounds__(512)
    gm_lattice_smooth(const float* nodes, const float* reference, const int* table, const int* cells, float* out,
                      int stride_y, int stride_z, float scale_x, float scale_y, float scale_z, float edge) {
  const int* const cell = table + cells[blockIdx.x];
  const int n = threadIdx.x;
  const long long own = (long long)*cell * kBrickNodes + n;
  const int place[3] = {n & 7, n >> 3 & 7, n >> 6}, inside[3] = {1, kBrickRow, kBrickLayer};
  const int outside[3] = {1, stride_y, stride_z};
  const float scales[3] = {scale_x, scale_y, scale_z};
  float sum = 0.0f;
#pragma unroll
  for (int axis = 0; axis < 3; ++axis)
#pragma unroll
    for (int up = 0; up < 2; ++up) {
      long long other = own + (up ? inside[axis] : -inside[axis]);
      if (place[axis] == (up ? kBrickSide - 1 : 0)) {
        const int brick = cell[up ? outside[axis] : -outside[axis]];
        if (brick < 0) continue;
        other = (long long)brick * kBrickNodes + n + (up ? 1 - kBrickSide : kBrickSide - 1) * inside[axis];
      }
      const float difference = nodes[own] - nodes[other], scale2 = scales[axis] * scales[axis];
      sum += edge > 0.0f ? gm_lattice_pull(difference, reference[own] - reference[other], scale2, edge)
                         : scale2 * difference;
    }
  out[own] = sum;
}
