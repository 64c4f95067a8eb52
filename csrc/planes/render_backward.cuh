// Backward: a gather. A warp owns a Gaussian: its lanes look for the planes that see it, 32 at a time, then go over the
// pixels of each footprint together. Each lane keeps its own share of the eleven sums of math.h, which are linear
// in the pixels, so that one warp reduction and one chain rule at the end serve all planes. No atomics, no sort, no
// intermediate memory.
#pragma once
#include "planes/footprint.cuh"
#include "support/tiles.cuh"

GM_FUNCTION GmFootprint broadcast(const GmFootprint& f, int lane) {
  const unsigned all = 0xffffffffu;
  return {__shfl_sync(all, f.s, lane),  __shfl_sync(all, f.t, lane),        __shfl_sync(all, f.ks, lane),
          __shfl_sync(all, f.kt, lane), __shfl_sync(all, f.distance, lane), __shfl_sync(all, f.precision, lane),
          __shfl_sync(all, f.A, lane),  __shfl_sync(all, f.shear, lane),    __shfl_sync(all, f.D, lane)};
}

// This lane's pixels of one parallel, added to the plane's sums. The pointers are to the parallel's own pixels.
GM_FUNCTION void gather_parallel(float* plane_sums, const GmFootprint& f, float offset, float weight,
                                 const PlaneGrid& grid, const float* grad_image, const float* values,
                                 const float* density, float colour, float amplitude, float cut, int lane) {
  const float d = f.distance - offset;
  const float q0 = d * d * f.precision;
  if (!(q0 < cut)) return;
  const float s = f.s - f.ks * d, t = f.t - f.kt * d;
  const PixelBox box = pixel_box(f, s, t, cut - q0, grid.rows, grid.columns);
  const int width = box.column1 - box.column0 + 1, height = box.row1 - box.row0 + 1;
  if (width <= 0 || height <= 0) return;
  float N = 0, F = 0, Fx = 0, Fy = 0, Fxx = 0, Fxy = 0, Fyy = 0;
  for (int k = lane; k < width * height; k += 32) {
    const int row = box.row0 + k / width, column = box.column0 + k % width;
    float x = column - s, y = row - t;
    const float q = quadratic(q0, f.A, f.shear, f.D, &x, &y);
    if (q < cut) {
      const long long pixel = (long long)row * grid.columns + column;
      const float all = density[pixel];
      const float n = all > 0.0f ? amplitude * __expf(-0.5f * q) * weight * grad_image[pixel] / all : 0.0f;
      const float force = n * (colour - values[pixel]);
      N += n;
      F += force;
      const float fx = force * x, fy = force * y;
      Fx += fx;
      Fy += fy;
      Fxx += fx * x;
      Fxy += fx * y;
      Fyy += fy * y;
    }
  }
  gm_shift_moments(f.shear, -f.ks * d, -f.kt * d, F, &Fx, &Fy, &Fxx, &Fxy, &Fyy);
  gm_add_parallel(plane_sums, d, N, F, Fx, Fy, Fxx, Fxy, Fyy);
}

// A warp for each Gaussian; block: 128. grad_parameters [kParameterRows, gaussians] is written whole: zero for a
// Gaussian that no plane sees.
extern "C" __global__ void __launch_bounds__(128)
    gm_render_backward(const float* grad_image, const float* values, const float* density, const float* parameters,
                       const GmPlane* frames, const int* planes, const float* offsets, const float* weights,
                       float* grad_parameters, int gaussians, int plane_count, int samples, long long total,
                       float cut) {
  const unsigned all = 0xffffffffu;
  const int lane = threadIdx.x % 32;
  const int g = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
  if (g >= gaussians) return;  // the whole warp
  const Parameters p = read_parameters(parameters, gaussians, g);
  float sums[kSumRows] = {};
  bool seen = false;
  for (int base = 0; base < plane_count; base += 32) {
    GmFootprint mine = {};
    bool visible = false;
    if (base + lane < plane_count) {
      mine = project(frames[base + lane], p);
      if (gm_valid(mine, p.colour, p.amplitude))
        for (int s = 0; s < samples; ++s) {
          const float d = mine.distance - offsets[(base + lane) * samples + s];
          visible = visible || d * d * mine.precision < cut;
        }
    }
    for (unsigned left = __ballot_sync(all, visible); left; left &= left - 1) {
      const int from = __ffs(left) - 1, plane = base + from;
      const GmFootprint f = broadcast(mine, from);
      const PlaneGrid grid = read_plane_grid(planes, plane);
      float plane_sums[kSumRows] = {}, ras[kSumRows];
      for (int s = 0; s < samples; ++s) {
        const long long first = s * total + grid.pixels;
        gather_parallel(plane_sums, f, offsets[plane * samples + s], weights[plane * samples + s], grid,
                        grad_image + grid.pixels, values + first, density + first, p.colour, p.amplitude, cut, lane);
      }
      gm_plane_sums_to_ras(frames[plane], plane_sums, ras);
#pragma unroll
      for (int k = 0; k < kSumRows; ++k) sums[k] += ras[k];
      seen = true;
    }
  }
#pragma unroll
  for (int k = 0; k < kSumRows; ++k)
    for (int lanes = 16; lanes > 0; lanes /= 2) sums[k] += __shfl_xor_sync(all, sums[k], lanes);
  if (lane != 0) return;
  float gradient[kParameterRows] = {};
  if (seen) gm_chain_to_parameters(sums, p.M00, p.M01, p.M02, p.M11, p.M12, p.M22, p.amplitude, gradient);
#pragma unroll
  for (int k = 0; k < kParameterRows; ++k) grad_parameters[(long long)k * gaussians + g] = gradient[k];
}
