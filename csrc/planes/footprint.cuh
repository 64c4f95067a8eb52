// What the forward and the backward kernels see of a Gaussian on one parallel of a plane: centre, extent, quadratic.
#pragma once
#include "planes/math.h"

struct Parameters {  // of one Gaussian
  float mean[3];
  float M00, M01, M02, M11, M12, M22;
  float colour, amplitude;
};

GM_FUNCTION Parameters read_parameters(const float* parameters, int gaussians, int g) {
  const float* p = parameters + g;
  const long long n = gaussians;
  return {{p[kMeanX * n], p[kMeanY * n], p[kMeanZ * n]},
          p[kM00 * n],
          p[kM01 * n],
          p[kM02 * n],
          p[kM11 * n],
          p[kM12 * n],
          p[kM22 * n],
          p[kColour * n],
          p[kAmplitude * n]};
}

GM_FUNCTION GmFootprint project(const GmPlane& plane, const Parameters& p) {
  return gm_project(plane, p.mean[0], p.mean[1], p.mean[2], p.M00, p.M01, p.M02, p.M11, p.M12, p.M22);
}

// The pixels that the ellipse can touch, both ends included; empty when row1 < row0 or column1 < column0.
struct PixelBox {
  int row0, row1, column0, column1;
};

GM_FUNCTION int clamp_to_int(float x, int low, int high) {  // NaN becomes low
  return (int)fminf(fmaxf(x, (float)low), (float)high);
}

// `s`, `t`: the ellipse's centre in pixels; rest = cut - q0. The margin covers rounding of the extents: the quadratic
// itself decides about each pixel.
GM_FUNCTION PixelBox pixel_box(const GmFootprint& f, float s, float t, float rest, int rows, int columns) {
  const float margin = 1e-3f;
  const float h = gm_half_rows(f, rest) + margin, w = gm_half_columns(f, rest) + margin;
  return {clamp_to_int(ceilf(t - h), 0, rows), clamp_to_int(floorf(t + h), -1, rows - 1),
          clamp_to_int(ceilf(s - w), 0, columns), clamp_to_int(floorf(s + w), -1, columns - 1)};
}

// q and the coordinates (x, y) in which it has no mixed term; see planes/math.h.
GM_FUNCTION float quadratic(float q0, float A, float shear, float D, float* x, float* y) {
  *x += shear * *y;
  return q0 + A * *x * *x + D * *y * *y;
}
