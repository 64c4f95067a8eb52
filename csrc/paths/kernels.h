// The path tracer's inner loops that are compiled once per instruction set.
#pragma once

#include <stdint.h>

#include "paths/math.h"
#include "support/dispatch.h"

struct PathKernels {
  // Samples [first, first + count) of a block of pixels, added to sums (height, width, kTraceSums).
  void (*trace)(const GmTraceScene& scene, const GmTraceVolume& volume, int column, int columns, int row, int rows,
                uint32_t seed, int first, int count, float* sums);
  // Cut faces in front of a row of pixels.
  void (*trace_faces)(const GmTraceScene& scene, const GmTraceVolume& volume, const float* dome, float exposure,
                      int side, int row, float* image, float* alpha, float* depth);
};

GM_TABLE(PathKernels, path_kernels)
