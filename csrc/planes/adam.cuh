// One Adam step over a packed parameter tensor; the rule is in planes/adam_math.h.
#pragma once
#include "planes/adam_math.h"

// grid: (columns / 256, rows). parameters, gradient, m, v [rows, columns]; rates, modes [rows].
extern "C" __global__ void __launch_bounds__(256)
    gm_adam_step(float* parameters, const float* gradient, float* m, float* v, const float* rates, const int* modes,
                 int columns, float beta1, float beta2, float correction1, float correction2, float epsilon) {
  const int column = blockIdx.x * blockDim.x + threadIdx.x, row = blockIdx.y;
  if (column >= columns) return;
  const long long at = (long long)row * columns + column;
  gm_adam(modes[row], rates[row], beta1, beta2, correction1, correction2, epsilon, gradient[at], parameters + at,
          m + at, v + at);
}
