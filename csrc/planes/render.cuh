// Forward: the image of many planes, each the weighted sum of several parallels ("samples", the slice profile).
//
// A unit is one Gaussian on one parallel: unit = (sample * planes + plane) * gaussians + gaussian. The host walks over
// the units in ranges that fit into memory: count (how many tiles each unit touches), prefix sum, write (a record for
// each visible unit and one entry (tile, record) for each tile it touches), stable sort of the entries by tile, and a
// block for each tile that adds its entries up. Within a tile the entries stay in the order of the Gaussians, whatever
// the ranges, so results are reproducible bit for bit. No float atomics.
#pragma once
#include "planes/footprint.cuh"
#include "support/tiles.cuh"

constexpr long long kEntryMask = (1LL << kEntryBits) - 1;

struct Unit {
  int sample, plane, gaussian;
};

GM_FUNCTION Unit find_unit(long long unit, int planes, int gaussians) {
  const int parallel = (int)(unit / gaussians);
  return {parallel / planes, parallel % planes, (int)(unit % gaussians)};
}

struct Visible {
  PixelBox box;
  GmFootprint footprint;
  float s, t, q0;  // centre and minimum on the parallel
  float colour, amplitude;
  int tiles;  // 0: not visible
};

GM_FUNCTION Visible look(const float* parameters, int gaussians, const Unit& unit, const GmPlane* frames,
                         const PlaneGrid& grid, const float* offsets, int samples, float cut) {
  const Parameters p = read_parameters(parameters, gaussians, unit.gaussian);
  Visible v;
  v.footprint = project(frames[unit.plane], p);
  v.colour = p.colour;
  v.amplitude = p.amplitude;
  v.tiles = 0;
  const float d = v.footprint.distance - offsets[unit.plane * samples + unit.sample];
  v.q0 = d * d * v.footprint.precision;
  v.s = v.footprint.s - v.footprint.ks * d;
  v.t = v.footprint.t - v.footprint.kt * d;
  if (!gm_valid(v.footprint, p.colour, p.amplitude) || !(v.q0 < cut)) return v;
  v.box = pixel_box(v.footprint, v.s, v.t, cut - v.q0, grid.rows, grid.columns);
  if (v.box.row1 < v.box.row0 || v.box.column1 < v.box.column0) return v;
  v.tiles = (v.box.row1 / kTile - v.box.row0 / kTile + 1) * (v.box.column1 / kTile - v.box.column0 / kTile + 1);
  return v;
}

// grid: planes; block: 32 (one thread works). frames [planes, 12] -> prepared GmPlane [planes].
extern "C" __global__ void gm_prepare_planes(const float* frames, GmPlane* prepared) {
  if (threadIdx.x == 0) prepared[blockIdx.x] = gm_make_plane(frames + 12 * blockIdx.x);
}

// A thread for each of `units` units from first_unit on. counts [units]: packed.
extern "C" __global__ void __launch_bounds__(256)
    gm_count_tiles(const float* parameters, const GmPlane* frames, const int* planes, const float* offsets,
                   long long* counts, long long first_unit, int units, int gaussians, int plane_count, int samples,
                   float cut) {
  const int index = blockIdx.x * blockDim.x + threadIdx.x;
  if (index >= units) return;
  const Unit unit = find_unit(first_unit + index, plane_count, gaussians);
  const PlaneGrid grid = read_plane_grid(planes, unit.plane);
  const Visible v = look(parameters, gaussians, unit, frames, grid, offsets, samples, cut);
  counts[index] = v.tiles ? (1LL << kEntryBits) + v.tiles : 0;
}

// ends [units]: the inclusive prefix sum of counts. records [visible units, 2]: {s, t, A, shear}, {D, q0, c, a};
// keys, entry_records [entries]: tile (of all samples' tiles) and record of each entry. Compiled apart from the kernel
// that counted, this one may round otherwise: of the counted entries those that it does not find go to no tile.
extern "C" __global__ void __launch_bounds__(256)
    gm_write_entries(const float* parameters, const GmPlane* frames, const int* planes, const float* offsets,
                     const long long* ends, float4* records, int* keys, int* entry_records, long long first_unit,
                     int units, int gaussians, int plane_count, int samples, int tile_count, float cut) {
  const int index = blockIdx.x * blockDim.x + threadIdx.x;
  if (index >= units) return;
  const long long start = index ? ends[index - 1] : 0;
  if (ends[index] == start) return;
  const Unit unit = find_unit(first_unit + index, plane_count, gaussians);
  const PlaneGrid grid = read_plane_grid(planes, unit.plane);
  const Visible v = look(parameters, gaussians, unit, frames, grid, offsets, samples, cut);
  const int record = (int)(start >> kEntryBits);
  records[2LL * record] = make_float4(v.s, v.t, v.footprint.A, v.footprint.shear);
  records[2LL * record + 1] = make_float4(v.footprint.D, v.q0, v.colour, v.amplitude);
  long long entry = start & kEntryMask;
  const long long end = ends[index] & kEntryMask;
  const int first_tile = unit.sample * tile_count + grid.first_tile;
  if (v.tiles)
    for (int row = v.box.row0 / kTile; row <= v.box.row1 / kTile; ++row)
      for (int column = v.box.column0 / kTile; column <= v.box.column1 / kTile && entry < end; ++column) {
        keys[entry] = first_tile + row * grid.tiles_x + column;
        entry_records[entry++] = record;
      }
  for (; entry < end; ++entry) {
    keys[entry] = kNoTile;
    entry_records[entry] = record;
  }
}

// grid: the tiles from first_tile on; block: 256, a thread for each pixel. order [entries]: the stable sort of the
// entries by tile; starts [grid + 1]: where each of these tiles' entries start in it. Adds sum w c to numerator and
// sum w to density, both [samples, total].
extern "C" __global__ void __launch_bounds__(256, 4)
    gm_add_entries(const int* planes, const int* tile_planes, const float4* records, const int* entry_records,
                   const long long* order, const int* starts, float* numerator, float* density, int first_tile,
                   int tile_count, long long total, float cut) {
  __shared__ float4 shape[kTilePixels], rest[kTilePixels];
  const int key = first_tile + blockIdx.x;
  const int start = starts[blockIdx.x], end = starts[blockIdx.x + 1];
  if (start == end) return;
  const Tile tile = find_tile(planes, tile_planes, key % tile_count);
  const int row = tile.row0 + threadIdx.x / kTile, column = tile.column0 + threadIdx.x % kTile;
  const bool inside = row < tile.rows && column < tile.columns;
  const long long pixel = key / tile_count * total + tile.pixels + (long long)row * tile.columns + column;
  float sum = inside ? numerator[pixel] : 0.0f, weights = inside ? density[pixel] : 0.0f;
  for (int batch = start; batch < end; batch += kTilePixels) {
    __syncthreads();
    if (batch + (int)threadIdx.x < end) {
      const long long record = entry_records[order[batch + threadIdx.x]];
      shape[threadIdx.x] = records[2 * record];
      rest[threadIdx.x] = records[2 * record + 1];
    }
    __syncthreads();
    const int count = min(kTilePixels, end - batch);
    for (int k = 0; k < count; ++k) {
      const float4 e = shape[k], r = rest[k];
      float x = column - e.x, y = row - e.y;
      const float q = quadratic(r.y, e.z, e.w, r.x, &x, &y);
      if (q < cut) {
        const float w = r.w * __expf(-0.5f * q);
        weights += w;
        sum += w * r.z;
      }
    }
  }
  if (inside) {
    numerator[pixel] = sum;
    density[pixel] = weights;
  }
}

// grid: tiles; block: 256. Turns numerator into the value of each sample, adds the background to density, and writes
// the weighted sum over samples to image.
extern "C" __global__ void __launch_bounds__(256)
    gm_finish_pixels(const int* planes, const int* tile_planes, const float* weights, float* numerator, float* density,
                     float* image, int samples, long long total, float background) {
  const Tile tile = find_tile(planes, tile_planes, blockIdx.x);
  const int row = tile.row0 + threadIdx.x / kTile, column = tile.column0 + threadIdx.x % kTile;
  if (row >= tile.rows || column >= tile.columns) return;
  const long long pixel = tile.pixels + (long long)row * tile.columns + column;
  float sum = 0.0f;
  for (int s = 0; s < samples; ++s) {
    const long long at = s * total + pixel;
    const float all = density[at] + background;
    const float value = all > 0.0f ? numerator[at] / all : 0.0f;
    numerator[at] = value;
    density[at] = all;
    sum += weights[tile.plane * samples + s] * value;
  }
  image[pixel] = sum;
}
