// What the rasteriser hands to the kernels of an instruction set.
#pragma once

#include <stdint.h>

#include "../common/splat_math.h"

constexpr int kSplatTile = 16;  // pixels along each side of a tile
constexpr int kSplatPixels = kSplatTile * kSplatTile;

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
