// Path tracing (paths/math.h) and cut faces (paths/face_math.h), one thread for each pixel.
#pragma once
#include "paths/face_math.h"

// grid: (columns / 16, rows / 8), block 128. sums [height, width, kTraceSums]; gradients may be null.
extern "C" __global__ void __launch_bounds__(128, 3)
    gm_trace(const float* scene, const unsigned short* values, const unsigned char* gradients, const float* majorants,
             const unsigned char* skips, const float* table, int seed, int first, int count, float* sums) {
  const GmTraceScene& s = *(const GmTraceScene*)scene;
  const int column = blockIdx.x * 16 + threadIdx.x % 16, row = blockIdx.y * 8 + threadIdx.x / 16;
  if (column >= s.width || row >= s.height) return;
  const GmTraceVolume v = {values, gradients, majorants, skips, table};
  float total[kTraceSums];
  float* const out = sums + ((long long)row * s.width + column) * kTraceSums;
  for (int k = 0; k < kTraceSums; ++k) total[k] = out[k];
  gm_trace_pixel(s, v, column, row, (unsigned)seed, first, count, total);
  for (int k = 0; k < kTraceSums; ++k) out[k] = total[k];
}

// grid: (columns / 16, rows / 8), block 128. image [height, width, 3]; alpha, depth [height, width]; dome [planes, 3].
extern "C" __global__ void __launch_bounds__(128)
    gm_trace_faces(const float* scene, const unsigned short* values, const unsigned char* gradients, const float* table,
                   const float* dome, float exposure, int side, float* image, float* alpha, float* depth) {
  const GmTraceScene& s = *(const GmTraceScene*)scene;
  const int column = blockIdx.x * 16 + threadIdx.x % 16, row = blockIdx.y * 8 + threadIdx.x / 16;
  if (column >= s.width || row >= s.height) return;
  const GmTraceVolume v = {values, gradients, nullptr, nullptr, table};
  const long long pixel = (long long)row * s.width + column;
  gm_trace_face_pixel(s, v, dome, exposure, side, column, row, image + 3 * pixel, alpha + pixel, depth + pixel);
}
