// The inner loops of planes, similarity and Adam that are compiled once per instruction set.
#pragma once

#include <stdint.h>

#include "planes/math.h"
#include "support/dispatch.h"

constexpr int kPadding = 16;          // spare floats after every row: the widest vector's store never needs a tail
constexpr int kSlack = 64;            // spare floats after the last row: rows are drawn in whole groups of vectors
constexpr int kSsimRadius = 5;        // 11 x 11 window
constexpr float kMaximumCut = 62.0f;  // exp_half's range with three more squarings

constexpr int kBlock = 64;       // Gaussians placed at a time
constexpr int kMomentSums = 12;  // floats per Gaussian that gather adds up

static inline int gm_padded(int columns) { return ((columns + 2 * kPadding - 1) / kPadding | 1) * kPadding; }

// A Gaussian's footprint on one sample of a plane: its pixels, clipped to the image, and q there, which along the row y
// from the centre is (sqrt(A) (x + shear y))^2 + q0 + D y^2. From row to row both terms follow by addition. q and
// everything in it is scaled as exp_half wants it.
struct alignas(64) Placed {
  int32_t column, columns, first_row, end_row;
  float s0, t0, q0;                  // centre, and q there
  float x, minimum, minimum_step;    // sqrt(A) (x + shear y), q0 + D y^2 and its first difference, at the first pixel
  float root, x_step, minimum_bend;  // sqrt(A), sqrt(A) shear, 2 D
  float amplitude, tint;             // tint: amplitude times colour
  int32_t sample;
};
static_assert(sizeof(Placed) == 64, "one cache line");

struct PlaneSamples {  // one plane's frame and its samples along the normal
  GmPlane plane;
  int32_t rows, columns;
  const float* offsets;  // sample_count
  int32_t sample_count;
};

struct PlaneKernels {
  // Per Gaussian position[i] = n.m and reach[i] = sqrt(cut n^T Sigma n), NaN where the Gaussian is not drawable;
  // bounds: smallest position - reach and largest position + reach.
  void (*reach)(const float* parameters, int64_t gaussians, int64_t first, int count, const float* normal, float cut,
                float* position, float* reach, float* bounds);
  // Indices (relative to first) of Gaussians whose reach meets [low, high]; returns how many.
  int (*cull)(const float* position, const float* reach, int count, float low, float high, int32_t* visible);
  // The footprints of at most kBlock Gaussians on all samples of a plane, those that meet the image, sample after
  // sample; returns how many. visible: indices of the Gaussians.
  int (*place)(const float* parameters, int64_t gaussians, const int32_t* visible, int count,
               const PlaneSamples& samples, float cut, Placed* out);

  // Add the footprints of the list, in order, to rows [first_row, end_row) of a sample. numerator and density point to
  // first_row, `stride` floats per row.
  void (*scatter)(const Placed* const* list, int count, float cut, int first_row, int end_row, int stride,
                  float* numerator, float* density);
  // sample = numerator / density (0 where there is none), image += weight * sample; `count` pixels.
  void (*resolve)(const float* numerator, const float* density, float weight, int count, float* sample, float* image);
  // over_density = weight gradient / density, times_sample = that times the sample.
  void (*pull)(const float* gradient, const float* sample, const float* density, float weight, int count,
               float* over_density, float* times_sample);
  // Moments of at most kBlock Gaussians over all samples of a plane, in the plane's basis, added to `moments`:
  // kMomentSums floats per Gaussian. Returns how many meet the image, with their indices in `seen`. pulls: per sample,
  // then per row: `stride` floats of over_density, then `stride` floats of times_sample.
  int (*gather)(const float* parameters, int64_t gaussians, const int32_t* visible, int count,
                const PlaneSamples& samples, float cut, int stride, const float* pulls, float* moments, int32_t* seen);
  // Rotates the moments of the `count` Gaussians in `drawn` (indices into moments and sums) to RAS, adds them to sums
  // (kSumRows rows, sum_stride apart), and sets them to zero.
  void (*add_plane_sums)(const GmPlane& plane, float* moments, const int32_t* drawn, int count, int64_t sum_stride,
                         float* sums);
  // The chain rule from sums to gradient, for `count` Gaussians; rows of parameters and gradient are `stride` apart.
  void (*chain)(const float* parameters, const float* sums, int64_t sum_stride, int64_t stride, int count,
                float* gradient);

  // Structural similarity of one row; returns the row's sum. maps: this row of three maps of derivatives, map_stride
  // apart, already divided by the windows' weights. scratch: 10 x (columns + 2 kSsimRadius + kPadding) floats.
  double (*ssim_row)(const float* image, const float* target, int rows, int columns, int row, const float* window,
                     const float* column_scale, float* scratch, float* maps, int64_t map_stride);
  // One row of the gradient from the maps (map_row floats per row), times scale; image, gradient: whole planes.
  void (*ssim_gradient_row)(const float* image, const float* target, int rows, int columns, int row,
                            const float* window, const float* maps, int64_t map_stride, int64_t map_row, float scale,
                            float* scratch, float* gradient);

  void (*adam)(float* parameters, const float* gradient, float* m, float* v, int64_t count, int mode, float rate,
               float beta1, float beta2, float correction1, float correction2, float epsilon);
};

GM_TABLE(PlaneKernels, plane_kernels)
