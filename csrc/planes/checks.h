// Checks of the arguments that describe planes, for every function of the C interface that takes them.
#pragma once

#include <cmath>
#include <cstdint>

#include "planes/math.h"
#include "support/guard.h"

inline bool finite(const float* values, int64_t count) {
  for (int64_t i = 0; i < count; ++i)
    if (!std::isfinite(values[i])) return false;
  return true;
}

// Number of pixels of all planes.
inline int64_t check_shapes(const int32_t* shapes, int64_t planes) {
  require(planes >= 0, "the number of planes is negative");
  require(planes == 0 || shapes, "shapes is a null pointer");
  int64_t total = 0;
  for (int64_t p = 0; p < planes; ++p) {
    require(shapes[2 * p] >= 0 && shapes[2 * p + 1] >= 0, "a plane has a negative number of rows or columns");
    const int64_t pixels = static_cast<int64_t>(shapes[2 * p]) * shapes[2 * p + 1];
    require(shapes[2 * p] <= (1 << 24) && shapes[2 * p + 1] <= (1 << 24) && pixels <= (1 << 28),
            "a plane has more than 2^24 rows or columns or 2^28 pixels");
    total += pixels;
  }
  return total;
}

inline void check_planes(const float* frames, const float* offsets, const float* weights, int64_t planes,
                         int64_t sample_count) {
  require(sample_count >= 1 && sample_count <= 4096, "a plane needs between 1 and 4096 samples along its normal");
  require(planes == 0 || (frames && offsets && weights), "frames, offsets or weights is a null pointer");
  require(finite(frames, 12 * planes), "frames has a value that is not finite");
  require(finite(offsets, planes * sample_count), "offsets has a value that is not finite");
  require(finite(weights, planes * sample_count), "weights has a value that is not finite");
  for (int64_t p = 0; p < planes; ++p) {
    const GmPlane plane = gm_make_plane(frames + 12 * p);
    const float* const n = plane.n;
    const float length = std::sqrt(gm_dot(n, n[0], n[1], n[2]));
    require(std::fabs(length - 1.0f) < 1e-3f, "a plane's normal is not a unit vector");
    require(plane.area2 > 0.0f && finite(plane.du, 3) && finite(plane.dv, 3),
            "a plane's steps along rows and columns are zero, or parallel, or not perpendicular to its normal");
    for (const float* step : {plane.u, plane.v})
      require(
          std::fabs(gm_dot(n, step[0], step[1], step[2])) <= 1e-3f * std::sqrt(gm_dot(step, step[0], step[1], step[2])),
          "a plane's normal is not perpendicular to its rows and columns");
  }
}
