// The rasteriser's inner loops that are compiled once per instruction set, and what they are given.
#pragma once

#include <stdint.h>

#include "splats/math.h"
#include "support/dispatch.h"

struct SplatScene {
  const GmCamera* camera;
  int width, height;
  const float *means, *quaternions, *scales, *sh, *opacities;  // (N, 3), (N, 4), (N, 3), (N, coefficients, 3), (N)
  int64_t splats;
  int coefficients;
};

struct SplatImages {
  float *image, *alpha, *depth;  // (height, width, 3), (height, width) twice
};

struct SplatImageGradients {
  const float *image, *alpha, *depth;                 // as drawn
  const float *grad_image, *grad_alpha, *grad_depth;  // their gradients
};

struct SplatGradients {
  float *means, *quaternions, *scales, *sh, *opacities, *screen;  // as the scene's; screen (N, 2)
};

// The splats that a tile meets, nearest first.
struct SplatList {
  const GmSplat* splats;
  const GmCut* cuts;
  const int32_t* entries;
  int count;
};

struct SplatKernels {
  // Places splats [first, first + count): those that can be seen, one after another, to splats and cuts, and all radii.
  // Returns how many.
  int (*place)(const SplatScene& scene, int64_t first, int count, GmSplat* splats, GmCut* cuts, float* radii);
  void (*draw)(const SplatScene& scene, const SplatList& list, int left, int top, const SplatImages& out);
  // One record of sums (stride floats) per entry, at records + destinations[k] * stride. Entries that add nothing are
  // written as well.
  void (*pull)(const SplatScene& scene, const SplatList& list, int left, int top, const SplatImageGradients& images,
               const int32_t* destinations, int stride, float* records);
  // Gradients of the placed splats (as `place` left them) from the sums of their entries: splat k's are the counts[k]
  // records from starts[k] on.
  void (*chain)(const SplatScene& scene, const GmSplat* splats, int count, const int32_t* starts, const int32_t* counts,
                int stride, const float* records, const SplatGradients& out);
};

GM_TABLE(SplatKernels, splat_kernels)
