// Structural similarity (Wang et al. 2004) of image pairs and its gradient: 11 x 11 Gaussian window, sigma 1.5,
// data range 1. At the borders the window is cut off and its remaining weights renormalised, so every size works.
//
// With w the window's weights at pixel p, a = E[x], b = E[y], u = E[xx], v = E[yy], z = E[xy] under w:
//   S = l c,  l = (2ab + C1) / (aa + bb + C1),  c = (2(z - ab) + C2) / (u - aa + v - bb + C2).
// A pixel x_k enters a, u and z, so dS_p/dx_k = w_pk (dS/da + 2 x_k dS/du + y_k dS/dz): three maps, blurred with the
// same window. Two passes over 16 x 16 tiles with a 5-pixel rim; one block of 256 threads for each tile.
#pragma once
#include "support/tiles.cuh"

constexpr int kSsimRadius = 5;
constexpr int kSsimHalo = kTile + 2 * kSsimRadius;
constexpr float kSsimC1 = 0.01f * 0.01f;
constexpr float kSsimC2 = 0.03f * 0.03f;

GM_FUNCTION float ssim_weight(int k) {  // exp(-(k-5)^2 / (2 * 1.5^2)), sum 1
  constexpr float weights[11] = {1.0283801e-3f, 7.5987582e-3f, 3.6000773e-2f, 1.0936069e-1f,
                                 2.1300554e-1f, 2.6601172e-1f, 2.1300554e-1f, 1.0936069e-1f,
                                 3.6000773e-2f, 7.5987582e-3f, 1.0283801e-3f};
  return weights[k];
}

// Sum of the window's weights that fall inside [0, size) around `position`.
GM_FUNCTION float ssim_inside(int position, int size) {
  float sum = 0.0f;
#pragma unroll
  for (int k = 0; k < 11; ++k) {
    const int at = position + k - kSsimRadius;
    if (at >= 0 && at < size) sum += ssim_weight(k);
  }
  return sum;
}

// The tile and its rim of one map of one plane, zero outside the image.
GM_FUNCTION void ssim_load(float* shared, const float* map, const Tile& tile) {
  for (int k = threadIdx.x; k < kSsimHalo * kSsimHalo; k += kTilePixels) {
    const int row = tile.row0 - kSsimRadius + k / kSsimHalo;
    const int column = tile.column0 - kSsimRadius + k % kSsimHalo;
    const bool inside = row >= 0 && row < tile.rows && column >= 0 && column < tile.columns;
    shared[k] = inside ? map[tile.pixels + row * tile.columns + column] : 0.0f;
  }
}

GM_FUNCTION float ssim_vertical(const float* rows, int row, int column) {
  float sum = 0.0f;
#pragma unroll
  for (int k = 0; k < 11; ++k) sum += ssim_weight(k) * rows[(row + k) * kTile + column];
  return sum;
}

// Sum over the block, in a fixed order; thread 0 has the result.
GM_FUNCTION float block_sum(float value, float* shared) {
  for (int lanes = 16; lanes > 0; lanes /= 2) value += __shfl_xor_sync(0xffffffffu, value, lanes);
  if (threadIdx.x % 32 == 0) shared[threadIdx.x / 32] = value;
  __syncthreads();
  float sum = 0.0f;
  if (threadIdx.x == 0)
    for (int warp = 0; warp < kTilePixels / 32; ++warp) sum += shared[warp];
  return sum;
}

// grid: tiles; block: 256. maps [3, total]: dS/da, dS/du, dS/dz over the window's normaliser; sums [tiles]: sum of S.
extern "C" __global__ void __launch_bounds__(256)
    gm_ssim_maps(const int* planes, const int* tile_planes, const float* image, const float* target, float* maps,
                 float* sums, int total) {
  __shared__ float x[kSsimHalo * kSsimHalo], y[kSsimHalo * kSsimHalo];
  __shared__ float rows[5][kSsimHalo * kTile];
  __shared__ float partial[kTilePixels / 32];
  const Tile tile = find_tile(planes, tile_planes, blockIdx.x);
  ssim_load(x, image, tile);
  ssim_load(y, target, tile);
  __syncthreads();
  for (int k = threadIdx.x; k < kSsimHalo * kTile; k += kTilePixels) {
    const int at = k / kTile * kSsimHalo + k % kTile;
    float a = 0.0f, b = 0.0f, u = 0.0f, v = 0.0f, z = 0.0f;
#pragma unroll
    for (int tap = 0; tap < 11; ++tap) {
      const float p = x[at + tap], q = y[at + tap], weight = ssim_weight(tap);
      a += weight * p;
      b += weight * q;
      u += weight * p * p;
      v += weight * q * q;
      z += weight * p * q;
    }
    rows[0][k] = a;
    rows[1][k] = b;
    rows[2][k] = u;
    rows[3][k] = v;
    rows[4][k] = z;
  }
  __syncthreads();
  const int local_row = threadIdx.x / kTile, local_column = threadIdx.x % kTile;
  const int row = tile.row0 + local_row, column = tile.column0 + local_column;
  float similarity = 0.0f;
  if (row < tile.rows && column < tile.columns) {
    const float norm = 1.0f / (ssim_inside(row, tile.rows) * ssim_inside(column, tile.columns));
    const float a = norm * ssim_vertical(rows[0], local_row, local_column);
    const float b = norm * ssim_vertical(rows[1], local_row, local_column);
    const float u = norm * ssim_vertical(rows[2], local_row, local_column);
    const float v = norm * ssim_vertical(rows[3], local_row, local_column);
    const float z = norm * ssim_vertical(rows[4], local_row, local_column);
    const float l1 = 2.0f * a * b + kSsimC1, l2 = a * a + b * b + kSsimC1;
    const float c1 = 2.0f * (z - a * b) + kSsimC2, c2 = (u - a * a) + (v - b * b) + kSsimC2;
    const float l = l1 / l2, c = c1 / c2;
    similarity = l * c;
    const float by_u = -similarity / c2;  // dS/du
    const float by_z = 2.0f * l / c2;     // dS/dz
    const float by_a = c * (2.0f * b - 2.0f * a * l) / l2 - 2.0f * a * by_u - b * by_z;
    const int pixel = tile.pixels + row * tile.columns + column;
    maps[pixel] = norm * by_a;
    maps[(long long)total + pixel] = norm * by_u;
    maps[2LL * total + pixel] = norm * by_z;
  }
  const float sum = block_sum(similarity, partial);
  if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

// grid: tiles; block: 256. gradient [total] = d mean S of the pixel's plane / d image.
extern "C" __global__ void __launch_bounds__(256)
    gm_ssim_gradient(const int* planes, const int* tile_planes, const float* image, const float* target,
                     const float* maps, float* gradient, int total) {
  __shared__ float halo[kSsimHalo * kSsimHalo];
  __shared__ float rows[kSsimHalo * kTile];
  const Tile tile = find_tile(planes, tile_planes, blockIdx.x);
  const int local_row = threadIdx.x / kTile, local_column = threadIdx.x % kTile;
  float blurred[3];
#pragma unroll
  for (int map = 0; map < 3; ++map) {
    __syncthreads();
    ssim_load(halo, maps + (long long)map * total, tile);
    __syncthreads();
    for (int k = threadIdx.x; k < kSsimHalo * kTile; k += kTilePixels) {
      const float* at = halo + k / kTile * kSsimHalo + k % kTile;
      float sum = 0.0f;
#pragma unroll
      for (int tap = 0; tap < 11; ++tap) sum += ssim_weight(tap) * at[tap];
      rows[k] = sum;
    }
    __syncthreads();
    blurred[map] = ssim_vertical(rows, local_row, local_column);
  }
  const int row = tile.row0 + local_row, column = tile.column0 + local_column;
  if (row >= tile.rows || column >= tile.columns) return;
  const int pixel = tile.pixels + row * tile.columns + column;
  gradient[pixel] = (blurred[0] + 2.0f * image[pixel] * blurred[1] + target[pixel] * blurred[2]) /
                    ((float)tile.rows * (float)tile.columns);
}

// grid: planes; block: 256. mean [planes] from the sums of each plane's tiles.
extern "C" __global__ void __launch_bounds__(256) gm_ssim_mean(const int* planes, const float* sums, float* mean) {
  __shared__ float partial[kTilePixels / 32];
  const PlaneGrid plane = read_plane_grid(planes, blockIdx.x);
  const int tiles = plane.tiles_x * ((plane.rows + kTile - 1) / kTile);
  float sum = 0.0f;
  for (int k = threadIdx.x; k < tiles; k += kTilePixels) sum += sums[plane.first_tile + k];
  sum = block_sum(sum, partial);
  if (threadIdx.x == 0) mean[blockIdx.x] = sum / ((float)plane.rows * (float)plane.columns);
}
