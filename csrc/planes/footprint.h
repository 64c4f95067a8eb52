// The footprints of Gaussians on a plane's samples, and their pixels in boxes.
#pragma once

#include "planes/kernels.h"
#include "support/simd.h"

namespace GM_ISA {

constexpr int kBoxColumns = 16, kBoxRows = 32;  // of the largest box
static_assert(kBoxColumns <= kPadding, "a box that starts inside the image ends in its row's padding");

alignas(64) static const float kRamp[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

// Some of a footprint's pixels, from one column on, with the values of Placed at the first row.
struct BoxPlace {
  int column, first_row, end_row;
  float x, minimum, minimum_step;
};

// Up to kBlock Gaussians on one plane, then at one of its samples: arrays, so that the compiler vectorises.
struct Footprints {
  float s[kBlock], t[kBlock], ks[kBlock], kt[kBlock], distance[kBlock], precision[kBlock], shear[kBlock];
  float colour[kBlock], amplitude[kBlock];
  float root[kBlock], x_step[kBlock], minimum_bend[kBlock];  // as in Placed
  float per_row[kBlock], per_column[kBlock];                 // squared half extents per unit of q
  int valid[kBlock];
  // at one sample
  float d[kBlock], q0[kBlock], s0[kBlock], t0[kBlock], x[kBlock], minimum[kBlock], minimum_step[kBlock];
  int column[kBlock], columns[kBlock], first_row[kBlock], end_row[kBlock];

  void project(const GmPlane& of_plane, const float* parameters, int64_t gaussians, const int32_t* visible, int count,
               float scale) {
    const GmPlane plane = of_plane;  // a copy, so that the compiler knows it overlaps nothing
    float in[kParameterRows][kBlock];
    for (int row = 0; row < kParameterRows; ++row) {
      for (int k = 0; k < count; ++k) in[row][k] = parameters[row * gaussians + visible[k]];
      for (int k = count; k < kBlock; ++k) in[row][k] = 0.0f;  // not valid
    }
    for (int k = 0; k < kBlock; ++k) {
      const GmFootprint f = gm_project(plane, in[kMeanX][k], in[kMeanY][k], in[kMeanZ][k], in[kM00][k], in[kM01][k],
                                       in[kM02][k], in[kM11][k], in[kM12][k], in[kM22][k]);
      s[k] = f.s, t[k] = f.t, ks[k] = f.ks, kt[k] = f.kt, distance[k] = f.distance, precision[k] = f.precision;
      shear[k] = f.shear;
      colour[k] = in[kColour][k], amplitude[k] = in[kAmplitude][k];
      root[k] = sqrtf(scale * f.A);
      x_step[k] = root[k] * f.shear;
      minimum_bend[k] = 2.0f * scale * f.D;
      per_row[k] = 1.0f / f.D;
      per_column[k] = 1.0f / f.A + f.shear * f.shear * per_row[k];
      valid[k] = gm_valid(f, in[kColour][k], in[kAmplitude][k]);
    }
  }

  void place(float offset, float cut, float scale, int image_rows, int image_columns) {
    const float last_row = static_cast<float>(image_rows - 1), last_column = static_cast<float>(image_columns - 1);
    for (int k = 0; k < kBlock; ++k) {
      d[k] = distance[k] - offset;
      const float least = d[k] * d[k] * precision[k], rest = larger(cut - least, 0.0f);
      q0[k] = scale * least;
      s0[k] = s[k] - ks[k] * d[k];
      t0[k] = t[k] - kt[k] * d[k];
      const float half_rows = sqrtf(rest * per_row[k]), half_columns = sqrtf(rest * per_column[k]);
      first_row[k] = ceiling(smaller(larger(t0[k] - half_rows, 0.0f), last_row + 1.0f));
      const int end = floored(smaller(larger(t0[k] + half_rows, -1.0f), last_row)) + 1;
      end_row[k] = end * (rest > 0.0f) * valid[k];  // products, because choices would keep GCC from vectorising
      column[k] = ceiling(smaller(larger(s0[k] - half_columns, 0.0f), last_column + 1.0f));
      columns[k] = floored(smaller(larger(s0[k] + half_columns, -1.0f), last_column)) + 1 - column[k];
      const float y = static_cast<float>(first_row[k]) - t0[k], D = 0.5f * minimum_bend[k];
      x[k] = root[k] * (static_cast<float>(column[k]) - s0[k] + shear[k] * y);
      minimum[k] = q0[k] + D * y * y;
      minimum_step[k] = D * (2.0f * y + 1.0f);
    }
  }

  bool meets_image(int k) const { return (end_row[k] > first_row[k]) & (columns[k] > 0); }

  bool is_one_box(int k) const { return columns[k] <= kBoxColumns && end_row[k] - first_row[k] <= kBoxRows; }
  BoxPlace whole(int k) const { return {column[k], first_row[k], end_row[k], x[k], minimum[k], minimum_step[k]}; }

  Placed placed(int k, int sample) const {
    return {column[k],       columns[k],   first_row[k],
            end_row[k],      s0[k],        t0[k],
            q0[k],           x[k],         minimum[k],
            minimum_step[k], root[k],      x_step[k],
            minimum_bend[k], amplitude[k], amplitude[k] * colour[k],
            sample};
  }
};

static inline BoxPlace box_at(const Placed& p, int column, int first_row, int end_row) {
  const float y = static_cast<float>(first_row) - p.t0, D = 0.5f * p.minimum_bend;
  const float right = static_cast<float>(column - p.column), down = static_cast<float>(first_row - p.first_row);
  return {column, first_row, end_row, p.x + p.root * right + p.x_step * down, p.q0 + D * y * y, D * (2.0f * y + 1.0f)};
}

template <typename V, int Count>
struct Box {
  static constexpr int kWidth = static_cast<int>(sizeof(V) / sizeof(float));
  V x[Count], x_step, minimum, minimum_step, minimum_bend;

  Box(float root, float x_step, float minimum_bend, const BoxPlace& place)
      : x_step(set_as<V>(x_step)),
        minimum(set_as<V>(place.minimum)),
        minimum_step(set_as<V>(place.minimum_step)),
        minimum_bend(set_as<V>(minimum_bend)) {
    const V factor = set_as<V>(root), start = set_as<V>(place.x);
    for (int c = 0; c < Count; ++c) x[c] = fma(load_as<V>(kRamp + c * kWidth), factor, start);
  }
  V q(int c) const { return fma(x[c], x[c], minimum); }
  void next() {
    for (int c = 0; c < Count; ++c) x[c] = add(x[c], x_step);
    minimum = add(minimum, minimum_step);
    minimum_step = add(minimum_step, minimum_bend);
  }
};

// Calls draw(place, narrow) for the boxes that cover a large footprint's rows [low, high), each as high as the
// footprint is there. narrow: 8 columns suffice.
template <typename Draw>
static void each_part(const Placed& p, float limit, int low_row, int high_row, const Draw& draw) {
  // The rim is y = -slope x +- sqrt(height - curve x^2); its highest point lies at x = -lean, its lowest at x = lean.
  const float A = p.root * p.root, shear = p.x_step / p.root, D = 0.5f * p.minimum_bend, C = D + A * shear * shear;
  const float rest = limit - p.q0, slope = A * shear / C, height = rest / C, curve = A * D / (C * C);
  const float lean = shear * sqrtf(rest / D);
  const float low = static_cast<float>(low_row), high = static_cast<float>(high_row);
  for (int done = 0; done < p.columns; done += kBoxColumns) {
    const int left = p.columns - done, column = p.column + done;
    const float first = static_cast<float>(column) - p.s0;
    const float last = first + static_cast<float>((left < kBoxColumns ? left : kBoxColumns) - 1);
    const float lowest = smaller(larger(lean, first), last), highest = smaller(larger(-lean, first), last);
    const float from = p.t0 - slope * lowest - sqrtf(larger(height - curve * lowest * lowest, 0.0f));
    const float to = p.t0 - slope * highest + sqrtf(larger(height - curve * highest * highest, 0.0f));
    const int end_row = floored(smaller(larger(to, low - 1.0f), high - 1.0f)) + 1;
    for (int row = ceiling(smaller(larger(from, low), high)); row < end_row; row += kBoxRows)
      draw(box_at(p, column, row, end_row - row < kBoxRows ? end_row : row + kBoxRows), left <= 8);
  }
}

// The same for any footprint: most are one box.
template <typename Draw>
static inline void each_box(const Placed& p, float limit, int low_row, int high_row, const Draw& draw) {
  const int first_row = p.first_row > low_row ? p.first_row : low_row,
            end_row = p.end_row < high_row ? p.end_row : high_row;
  if (p.columns > kBoxColumns || end_row - first_row > kBoxRows)
    each_part(p, limit, first_row, end_row, draw);
  else if (first_row == p.first_row)
    draw(BoxPlace{p.column, first_row, end_row, p.x, p.minimum, p.minimum_step}, p.columns <= 8);
  else
    draw(box_at(p, p.column, first_row, end_row), p.columns <= 8);
}

// Vectors per row of a box of 8 and of 16 columns.
constexpr int kHalfLanes = static_cast<int>(sizeof(Half) / sizeof(float));
constexpr int kEight = 8 / kHalfLanes, kSixteen = kBoxColumns / kLanes;

static int place(const float* parameters, int64_t gaussians, const int32_t* visible, int count,
                 const PlaneSamples& samples, float cut, Placed* out) {
  const float scale = exp_scale(cut);
  Footprints footprints;
  footprints.project(samples.plane, parameters, gaussians, visible, count, scale);
  int found = 0;
  for (int sample = 0; sample < samples.sample_count; ++sample) {
    footprints.place(samples.offsets[sample], cut, scale, samples.rows, samples.columns);
    for (int k = 0; k < count; ++k) {  // without a branch that could not be foreseen
      out[found] = footprints.placed(k, sample);
      found += footprints.meets_image(k);
    }
  }
  return found;
}

}  // namespace GM_ISA
