// One Adam step (Kingma & Ba 2015) of one value, shared by CPU and CUDA kernels.
//
// Modes: 0 plain; 1 a positive value, stepped in its logarithm (gradient x dL/dx, x *= exp(-step));
// 2 a value in (0, 1), stepped in its logit (gradient x (1-x) dL/dx). An entry whose gradient or step is not finite is
// left as it was, so that one bad pixel cannot spoil a fit.
#pragma once

#include "support/math.h"

enum { kAdamPlain = 0, kAdamLog = 1, kAdamLogit = 2 };

// exp(x), relative error below 2e-7 on [-87, 87], branch free so that compilers vectorise loops over it.
GM_FUNCTION float gm_exp(float x) {
  x = x > -87.0f ? x : -87.0f;  // NaN becomes -87 here; gm_adam sees it in the step itself
  x = x < 87.0f ? x : 87.0f;
  const float biased = x * 1.442695041f + 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
  const float whole = biased - 12582912.0f;
  const float r = (x - whole * 0.693359375f) + whole * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = (p * r) * r + r + 1.0f;
  union {
    int bits;
    float value;
  } scale;
  scale.bits = ((int)whole + 127) << 23;
  return p * scale.value;
}

// correction1 = 1 / (1 - beta1^step), correction2 = 1 / (1 - beta2^step).
GM_FUNCTION void gm_adam(int mode, float rate, float beta1, float beta2, float correction1, float correction2,
                         float epsilon, float gradient, float* value, float* m, float* v) {
  const float x = *value;
  const float g = mode == kAdamPlain ? gradient : (mode == kAdamLog ? gradient * x : gradient * x * (1.0f - x));
  const float m1 = beta1 * *m + (1.0f - beta1) * g;
  const float v1 = beta2 * *v + (1.0f - beta2) * g * g;
  const float step = rate * (m1 * correction1) / (sqrtf(v1 * correction2) + epsilon);
  float y;
  if (mode == kAdamPlain) {
    y = x - step;
  } else if (mode == kAdamLog) {
    y = x * gm_exp(-step);
    y = y < 1e-30f ? 1e-30f : (y > 1e30f ? 1e30f : y);
  } else {
    y = x / (x + (1.0f - x) * gm_exp(step));
    y = y < 1e-6f ? 1e-6f : (y > 0.999999f ? 0.999999f : y);
  }
  const float sum = g + step + v1 + y;
  const bool finite = sum - sum == 0.0f;
  *value = finite ? y : x;
  *m = finite ? m1 : *m;
  *v = finite ? v1 : *v;
}
