// Path tracing of a block of pixels, compiled for each instruction set.
#pragma once

#include "kernels.h"
#include "simd.h"

namespace GM_ISA {

static void trace(const GmTraceScene& scene, const GmTraceVolume& volume, int column, int columns, int row, int rows,
                  uint32_t seed, int first, int count, float* sums) {
  for (int y = row; y < row + rows; ++y)
    for (int x = column; x < column + columns; ++x)
      gm_trace_pixel(scene, volume, x, y, seed, first, count,
                     sums + (static_cast<int64_t>(y) * scene.width + x) * kTraceSums);
}

}  // namespace GM_ISA
