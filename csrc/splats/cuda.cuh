// Rasterising of splats; the mathematics is in splats/math.h and splats/cut_math.h.
//
// A thread places a splat and counts its tiles. The host sorts all splats by depth and sums the counts up in that
// order; each splat then writes one entry (tile, splat) for each of its tiles, and a stable sort by tile leaves every
// tile's list nearest first. A block draws a tile. Backward: the block leaves the sums over its pixels of each entry in
// a record, in the order of the entries before the sort by tile, in which a splat's records follow one another; a
// thread adds them up and applies the chain rule. No float atomics: results are reproducible bit for bit.
#pragma once
#include "splats/cut_math.h"
#include "support/tiles.cuh"

constexpr int kSplatBatch = 16;  // entries whose sums wait in shared memory
constexpr int kTileWarps = kTilePixels / 32;

struct SplatTiles {
  int left, right, top, bottom;
};

// The tiles that the splat's box meets; centres of pixels lie half a pixel inside, a little more keeps rounding out.
GM_FUNCTION SplatTiles splat_tiles(const GmSplat& s, int width, int height) {
  const float inset = 0.49f, per_pixel = 1.0f / kTile;
  const int last_x = (width - 1) / kTile, last_y = (height - 1) / kTile;
  const auto tile_of = [](float tile, int last) { return !(tile > 0.0f) ? 0 : tile >= (float)last ? last : (int)tile; };
  return {tile_of((s.x - s.half_x + inset) * per_pixel, last_x), tile_of((s.x + s.half_x - inset) * per_pixel, last_x),
          tile_of((s.y - s.half_y + inset) * per_pixel, last_y), tile_of((s.y + s.half_y - inset) * per_pixel, last_y)};
}

// depths: huge for a splat that cannot be seen; counts: tiles of each splat.
extern "C" __global__ void __launch_bounds__(256)
    gm_splat_place_all(const GmCamera* camera, const float* means, const float* quaternions, const float* scales,
                       const float* sh, const float* opacities, GmSplat* splats, GmCut* cuts, float* depths,
                       int* counts, float* radii, int count, int coefficients, int width, int height) {
  const int n = blockIdx.x * blockDim.x + threadIdx.x;
  if (n >= count) return;
  GmSplat splat;
  GmCut cut;
  float direction[3], basis[16];
  GmSplatShape<float> shape;
  bool seen = gm_splat_shape(*camera, width, height, means + 3LL * n, quaternions + 4LL * n, scales + 3LL * n,
                             opacities[n], &shape);
  if (seen) {
    memcpy(&splat, shape.place, sizeof shape.place);
    memcpy(&cut, shape.cut, sizeof cut);
    splat.straddles = shape.straddles;
    gm_splat_direction(*camera, means + 3LL * n, direction);
    gm_sh_basis(direction, coefficients, basis);
    seen = gm_splat_colour(basis, sh + 3LL * coefficients * n, coefficients, splat.colour);
  }
  if (!seen) {
    depths[n] = 3e38f;
    counts[n] = 0;
    radii[n] = 0.0f;
    return;
  }
  splat.index = n;
  splats[n] = splat;
  if (splat.straddles) cuts[n] = cut;
  const SplatTiles tiles = splat_tiles(splat, width, height);
  depths[n] = splat.depth;
  counts[n] = (tiles.right - tiles.left + 1) * (tiles.bottom - tiles.top + 1);
  radii[n] = shape.radius;
}

// A thread for each of `count` splats by rank; order: rank to splat; ends: the inclusive sum of their counts. Compiled
// apart from the kernel that counted, this one may round otherwise: of the counted entries those that it does not find
// go to no tile.
extern "C" __global__ void __launch_bounds__(256)
    gm_splat_scatter(const GmSplat* splats, const long long* order, const long long* ends, int* keys, int* entry_splats,
                     int count, int width, int height) {
  const int rank = blockIdx.x * blockDim.x + threadIdx.x;
  if (rank >= count) return;
  long long entry = rank ? ends[rank - 1] : 0;
  if (ends[rank] == entry) return;
  const int splat = (int)order[rank];
  const SplatTiles tiles = splat_tiles(splats[splat], width, height);
  const int across = (width + kTile - 1) / kTile;
  for (int row = tiles.top; row <= tiles.bottom; ++row)
    for (int column = tiles.left; column <= tiles.right && entry < ends[rank]; ++column) {
      keys[entry] = row * across + column;
      entry_splats[entry++] = splat;
    }
  for (; entry < ends[rank]; ++entry) {
    keys[entry] = kNoTile;
    entry_splats[entry] = splat;
  }
}

struct Scalar {  // for splats/cut_math.h
  static GM_INLINE float set(float x) { return x; }
  static GM_INLINE float add(float a, float b) { return a + b; }
  static GM_INLINE float sub(float a, float b) { return a - b; }
  static GM_INLINE float mul(float a, float b) { return a * b; }
  static GM_INLINE float div(float a, float b) { return a / b; }
  static GM_INLINE float fma(float a, float b, float c) { return a * b + c; }
  static GM_INLINE float subtract_product(float a, float b, float c) { return c - a * b; }
  static GM_INLINE float root(float x) { return sqrtf(x); }
  static GM_INLINE float most(float a, float b) { return fmaxf(a, b); }
  static GM_INLINE float magnitude(float x) { return fabsf(x); }
};

using SplatRay = GmCutRay<float>;

struct SplatHit {
  float X, Y, whole, raw, alpha;  // whole: before the cut; raw: before the upper limit
  bool adds;
};

GM_FUNCTION SplatHit splat_hit(const GmCamera& camera, const GmSplat& s, const GmCut& cut, float px, float py,
                               SplatRay* ray) {
  SplatHit hit;
  const float dx = px - s.x;
  hit.Y = py - s.y;
  hit.X = dx + s.shear * hit.Y;
  const float q = s.A * hit.X * hit.X + s.D * hit.Y * hit.Y;
  hit.adds = q < s.q_max;
  if (!hit.adds) return hit;
  hit.whole = hit.raw = s.opacity * __expf(-0.5f * q);
  if (s.straddles) {
    *ray = gm_cut_ray<Scalar>(s, cut, gm_cut_view(camera), dx, hit.Y);
    hit.raw *= 0.5f * erfcf(-0.7071067812f * ray->z);
    hit.adds = hit.raw >= kAlphaMin;
  }
  hit.alpha = fminf(hit.raw, kAlphaMax);
  return hit;
}

// grid: tiles across, tiles down; block: 256. order [entries]: the stable sort of the entries by tile; starts
// [tiles + 1]: where each tile's entries start in it.
extern "C" __global__ void __launch_bounds__(256)
    gm_splat_draw(const GmCamera* camera, const GmSplat* splats, const GmCut* cuts, const int* entry_splats,
                  const long long* order, const int* starts, float* image, float* alpha, float* depth, int width,
                  int height) {
  __shared__ GmSplat near[kTilePixels];
  __shared__ int finished;
  const int tile = blockIdx.y * gridDim.x + blockIdx.x;
  const int column = blockIdx.x * kTile + threadIdx.x % kTile, row = blockIdx.y * kTile + threadIdx.x / kTile;
  const bool inside = column < width && row < height;
  const float px = column + 0.5f, py = row + 0.5f;
  float T = 1.0f, red = 0.0f, green = 0.0f, blue = 0.0f, far = 0.0f, sum = 0.0f;
  bool done = !inside;
  for (int batch = starts[tile]; batch < starts[tile + 1]; batch += kTilePixels) {
    __syncthreads();
    if (threadIdx.x == 0) finished = 0;
    if (batch + (int)threadIdx.x < starts[tile + 1])
      near[threadIdx.x] = splats[entry_splats[order[batch + threadIdx.x]]];
    __syncthreads();
    if (done) atomicAdd(&finished, 1);
    __syncthreads();
    if (finished == kTilePixels) break;
    const int count = min(kTilePixels, starts[tile + 1] - batch);
    for (int k = 0; k < count && !done; ++k) {
      const GmSplat& s = near[k];
      SplatRay ray;
      const SplatHit hit = splat_hit(*camera, s, cuts[s.index], px, py, &ray);
      if (!hit.adds) continue;
      const float after = T - T * hit.alpha;
      if (after < kTransmittanceMin) {
        done = true;
        break;
      }
      const float w = T * hit.alpha;
      red += w * s.colour[0];
      green += w * s.colour[1];
      blue += w * s.colour[2];
      far += w * s.depth;
      sum += w;
      T = after;
    }
  }
  if (!inside) return;
  const long long pixel = (long long)row * width + column;
  image[3 * pixel] = red + T * camera->background[0];
  image[3 * pixel + 1] = green + T * camera->background[1];
  image[3 * pixel + 2] = blue + T * camera->background[2];
  alpha[pixel] = sum;
  depth[pixel] = sum > 0.0f ? far / sum : 0.0f;
}

// grid and lists as gm_splat_draw. records [entries, stride], in the order of the entries before the sort.
extern "C" __global__ void __launch_bounds__(256, 2)
    gm_splat_pull_tiles(const GmCamera* camera, const GmSplat* splats, const GmCut* cuts, const int* entry_splats,
                        const long long* order, const int* starts, const float* image, const float* alpha,
                        const float* depth, const float* grad_image, const float* grad_alpha, const float* grad_depth,
                        float* records, int stride, int width, int height) {
  const unsigned all = 0xffffffffu;
  __shared__ GmSplat near[kSplatBatch];
  __shared__ float partial[kSplatBatch][kTileWarps][kSplatCutSums];
  const int tile = blockIdx.y * gridDim.x + blockIdx.x, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int column = blockIdx.x * kTile + threadIdx.x % kTile, row = blockIdx.y * kTile + threadIdx.x / kTile;
  const bool inside = column < width && row < height;
  const float px = column + 0.5f, py = row + 0.5f;
  const long long pixel = (long long)row * width + column;
  float pull[5] = {}, rest = 0.0f, far = 0.0f, T = 1.0f;
  if (inside) {
    far = depth[pixel];
    rest = gm_splat_pull(*camera, image + 3 * pixel, alpha[pixel], grad_image + 3 * pixel, grad_alpha[pixel],
                         grad_depth[pixel], pull);
  }
  bool done = !inside;
  for (int batch = starts[tile]; batch < starts[tile + 1]; batch += kSplatBatch) {
    const int count = min(kSplatBatch, starts[tile + 1] - batch);
    __syncthreads();
    if ((int)threadIdx.x < count) near[threadIdx.x] = splats[entry_splats[order[batch + threadIdx.x]]];
    __syncthreads();
    for (int k = 0; k < count; ++k) {
      const GmSplat& s = near[k];
      float sums[kSplatCutSums] = {};
      bool adds = false;
      if (!done) {
        SplatRay ray;
        const SplatHit hit = splat_hit(*camera, s, cuts[s.index], px, py, &ray);
        const float after = hit.adds ? T - T * hit.alpha : T;
        done = hit.adds && after < kTransmittanceMin;
        adds = hit.adds && !done;
        if (adds) {
          const float w = T * hit.alpha;
          const float worth = pull[0] * s.colour[0] + pull[1] * s.colour[1] + pull[2] * s.colour[2] +
                              pull[3] * (s.depth - far) + pull[4];
          rest -= w * worth;
          for (int i = 0; i < 4; ++i) sums[kSplatRed + i] = w * pull[i];
          const float slope = hit.raw < kAlphaMax ? T * worth - rest / (1.0f - hit.alpha) : 0.0f;
          const float f = slope * hit.raw;
          sums[kSplatF] = f;
          sums[kSplatX] = f * hit.X;
          sums[kSplatY] = f * hit.Y;
          sums[kSplatXX] = f * hit.X * hit.X;
          sums[kSplatXY] = f * hit.X * hit.Y;
          sums[kSplatYY] = f * hit.Y * hit.Y;
          if (s.straddles)
            gm_cut_gradient<Scalar>(s, cuts[s.index], gm_cut_view(*camera), ray,
                                    slope * hit.whole * 0.3989422804f * __expf(-0.5f * ray.z * ray.z), sums);
          T = after;
        }
      }
      const bool somewhere = __ballot_sync(all, adds) != 0;
      const auto reduce = [&](int i) {
        if (somewhere)
          for (int lanes = 16; lanes > 0; lanes /= 2) sums[i] += __shfl_xor_sync(all, sums[i], lanes);
        if (lane == 0) partial[k][warp][i] = sums[i];
      };
#pragma unroll
      for (int i = 0; i < kSplatSums; ++i) reduce(i);
      if (!s.straddles) continue;
#pragma unroll
      for (int i = kSplatSums; i < kSplatCutSums; ++i) reduce(i);
    }
    __syncthreads();
    for (int at = threadIdx.x; at < count * stride; at += kTilePixels) {
      const int k = at / stride, i = at % stride;
      if (i >= kSplatSums && !near[k].straddles) continue;
      float sum = 0.0f;
      for (int w = 0; w < kTileWarps; ++w) sum += partial[k][w][i];
      records[order[batch + k] * stride + i] = sum;
    }
  }
}

// A thread for each of `count` splats by rank. Gradients of splats without entries are left as they are.
extern "C" __global__ void __launch_bounds__(128)
    gm_splat_chain_sums(const GmCamera* camera, const GmSplat* splats, const float* means, const float* quaternions,
                        const float* scales, const float* sh, const float* opacities, const long long* order,
                        const long long* ends, const float* records, float* grad_means, float* grad_quaternions,
                        float* grad_scales, float* grad_sh, float* grad_opacities, float* grad_screen, int count,
                        int coefficients, int stride, int width, int height) {
  const int rank = blockIdx.x * blockDim.x + threadIdx.x;
  if (rank >= count) return;
  const long long start = rank ? ends[rank - 1] : 0, n = order[rank];
  if (ends[rank] == start) return;
  const bool straddles = splats[n].straddles;
  float sums[kSplatCutSums] = {};
  for (long long entry = start; entry < ends[rank]; ++entry)
    for (int i = 0; i < (straddles ? kSplatCutSums : kSplatSums); ++i) sums[i] += records[entry * stride + i];
  GmSplatGradient g;
  gm_splat_chain(*camera, width, height, means + 3 * n, quaternions + 4 * n, scales + 3 * n, opacities[n], straddles,
                 sums, &g);
  const long long first = 3LL * coefficients * n;
  gm_splat_colour_chain(*camera, means + 3 * n, sh + first, coefficients, sums + kSplatRed, grad_sh + first, g.mean);
  for (int i = 0; i < 3; ++i) grad_means[3 * n + i] = g.mean[i];
  for (int i = 0; i < 4; ++i) grad_quaternions[4 * n + i] = g.quaternion[i];
  for (int i = 0; i < 3; ++i) grad_scales[3 * n + i] = g.scale[i];
  for (int i = 0; i < 2; ++i) grad_screen[2 * n + i] = g.screen[i];
  grad_opacities[n] = g.opacity;
}
