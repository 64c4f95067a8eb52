// Path tracing of a block of pixels, and cut faces of a row, compiled for each instruction set, with GM_ISA naming it.
#include "paths/kernels.h"

#include "paths/face_math.h"

namespace GM_ISA {

static void trace(const GmTraceScene& scene, const GmTraceVolume& volume, int column, int columns, int row, int rows,
                  uint32_t seed, int first, int count, float* sums) {
  for (int y = row; y < row + rows; ++y)
    for (int x = column; x < column + columns; ++x)
      gm_trace_pixel(scene, volume, x, y, seed, first, count,
                     sums + (static_cast<int64_t>(y) * scene.width + x) * kTraceSums);
}

static void trace_faces(const GmTraceScene& scene, const GmTraceVolume& volume, const float* dome, float exposure,
                        int side, int row, float* image, float* alpha, float* depth) {
  for (int x = 0; x < scene.width; ++x) {
    const int64_t pixel = static_cast<int64_t>(row) * scene.width + x;
    gm_trace_face_pixel(scene, volume, dome, exposure, side, x, row, image + 3 * pixel, alpha + pixel, depth + pixel);
  }
}

const PathKernels path_kernels = {trace, trace_faces};

}  // namespace GM_ISA
