// Where a footprint lies at one sample of a plane, and its pixels in boxes.
#pragma once

#include "kernels.h"
#include "simd.h"

namespace GM_ISA {

constexpr int kBatch = 16;  // footprints placed at a time, so that the compiler vectorises square roots and divisions
constexpr int kBoxColumns = 16, kBoxRows = 32;
static_assert(kBoxColumns <= kPadding, "a box that starts inside the image ends in its row's padding");

alignas(64) static const float kRamp[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

struct Batch {
  int count;
  float A[kBatch], shear[kBatch], D[kBatch], s[kBatch], t[kBatch], ks[kBatch], kt[kBatch];
  float distance[kBatch], precision[kBatch], colour[kBatch], amplitude[kBatch];
  // at one sample
  float d[kBatch], q0[kBatch], s0[kBatch], t0[kBatch], root_A[kBatch];
  int first_column[kBatch], columns[kBatch], first_row[kBatch], end_row[kBatch];

  void collect(const Projected& p, int k) {
    const GmFootprint& f = p.footprint;
    A[k] = f.A, shear[k] = f.shear, D[k] = f.D, s[k] = f.s, t[k] = f.t, ks[k] = f.ks, kt[k] = f.kt;
    distance[k] = f.distance, precision[k] = f.precision, colour[k] = p.colour, amplitude[k] = p.amplitude;
  }

  void fill() {  // copies of the first one keep the idle lanes harmless
    for (int k = count; k < kBatch; ++k) {
      A[k] = A[0], shear[k] = shear[0], D[k] = D[0], s[k] = s[0], t[k] = t[0], ks[k] = ks[0], kt[k] = kt[0];
      distance[k] = distance[0], precision[k] = precision[0], colour[k] = colour[0], amplitude[k] = amplitude[0];
    }
  }

  void place(float offset, float cut, int image_first_row, int image_end_row, int image_columns) {
    const float low = static_cast<float>(image_first_row), high = static_cast<float>(image_end_row);
    const float last_column = static_cast<float>(image_columns - 1);
    for (int k = 0; k < kBatch; ++k) {
      d[k] = distance[k] - offset;
      q0[k] = d[k] * d[k] * precision[k];
      s0[k] = s[k] - ks[k] * d[k];
      t0[k] = t[k] - kt[k] * d[k];
      root_A[k] = sqrtf(A[k]);
      const float rest = larger(cut - q0[k], 0.0f), inverse_D = 1.0f / D[k];
      const float half_rows = sqrtf(rest * inverse_D);
      const float half_columns = sqrtf(rest * (1.0f / A[k] + shear[k] * shear[k] * inverse_D));
      first_row[k] = ceiling(smaller(larger(t0[k] - half_rows, low), high));
      const int end = floored(smaller(larger(t0[k] + half_rows, low - 1.0f), high - 1.0f)) + 1;
      end_row[k] = end * (rest > 0.0f);  // a product, because a choice would keep GCC from vectorising
      first_column[k] = ceiling(smaller(larger(s0[k] - half_columns, 0.0f), last_column + 1.0f));
      columns[k] = floored(smaller(larger(s0[k] + half_columns, -1.0f), last_column)) + 1 - first_column[k];
    }
  }
};

// Part of a footprint, from one column on. q along the row y from the centre is (sqrt(A) (x + shear y))^2 + q0 + D y^2;
// from row to row both terms follow by addition.
struct BoxPlace {
  int column, first_row, end_row;
};

template <int Squarings, typename V, int Count>
struct Box {
  static constexpr int kWidth = static_cast<int>(sizeof(V) / sizeof(float));
  V x[Count], x_step;  // sqrt(A) (x + shear y)
  V minimum, minimum_step, minimum_step_step;

  Box(const Batch& b, int k, const BoxPlace& place) {
    const float scale = exp_scale(Squarings), root = b.root_A[k] * exp_root_scale(Squarings), D = b.D[k] * scale;
    const float y = static_cast<float>(place.first_row) - b.t0[k];
    const V start = set_as<V>(static_cast<float>(place.column) - b.s0[k] + b.shear[k] * y), factor = set_as<V>(root);
    for (int c = 0; c < Count; ++c) x[c] = mul(add(load_as<V>(kRamp + c * kWidth), start), factor);
    x_step = set_as<V>(root * b.shear[k]);
    minimum = set_as<V>(b.q0[k] * scale + D * y * y);
    minimum_step = set_as<V>(D * (2.0f * y + 1.0f));
    minimum_step_step = set_as<V>(2.0f * D);
  }
  V q(int c) const { return fma(x[c], x[c], minimum); }
  void next() {
    for (int c = 0; c < Count; ++c) x[c] = add(x[c], x_step);
    minimum = add(minimum, minimum_step);
    minimum_step = add(minimum_step, minimum_step_step);
  }
};

// Calls draw(place, narrow) for the boxes that cover a footprint: one, unless it is large. narrow: 8 columns suffice.
template <typename Draw>
static inline void each_box(const Batch& b, int k, float cut, const Draw& draw) {
  const int rows = b.end_row[k] - b.first_row[k];
  if (rows <= 0 || b.columns[k] <= 0) return;
  const BoxPlace whole = {b.first_column[k], b.first_row[k], b.end_row[k]};
  if (b.columns[k] <= 8) return draw(whole, true);
  if (b.columns[k] <= kBoxColumns) return draw(whole, false);
  // The rim is y = -slope x +- sqrt(height - curve x^2); its highest point lies at x = -lean, its lowest at x = lean.
  const float A = b.A[k], shear = b.shear[k], D = b.D[k], C = D + A * shear * shear, rest = cut - b.q0[k];
  const float slope = A * shear / C, height = rest / C, curve = A * D / (C * C), lean = shear * sqrtf(rest / D);
  for (int done = 0; done < b.columns[k]; done += kBoxColumns) {
    const int left = b.columns[k] - done;
    const float first = static_cast<float>(b.first_column[k] + done) - b.s0[k];
    const float last = first + static_cast<float>((left < kBoxColumns ? left : kBoxColumns) - 1);
    const float low = smaller(larger(lean, first), last), high = smaller(larger(-lean, first), last);
    const float from = b.t0[k] - slope * low - sqrtf(larger(height - curve * low * low, 0.0f));
    const float to = b.t0[k] - slope * high + sqrtf(larger(height - curve * high * high, 0.0f));
    const int first_row =
        ceiling(smaller(larger(from, static_cast<float>(whole.first_row)), static_cast<float>(whole.end_row)));
    const int end_row =
        floored(smaller(larger(to, static_cast<float>(whole.first_row - 1)), static_cast<float>(whole.end_row - 1))) +
        1;
    draw(BoxPlace{whole.column + done, first_row, end_row}, left <= 8);
  }
}

// Vectors per row of a box of 8 and of 16 columns.
constexpr int kHalfLanes = static_cast<int>(sizeof(Half) / sizeof(float));
constexpr int kEight = 8 / kHalfLanes, kSixteen = kBoxColumns / kLanes;

}  // namespace GM_ISA
