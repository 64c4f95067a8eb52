// Inner loops of rendering and its gradient; see common/plane_math.h for the mathematics.
#pragma once

#include "kernels.h"
#include "simd.h"

namespace GM_ISA {

static inline float larger(float a, float b) { return a > b ? a : b; }
static inline float smaller(float a, float b) { return a < b ? a : b; }
// Smallest integer >= x and largest <= x, for x within int's range.
static inline int ceiling(float x) {
  const int i = static_cast<int>(x);
  return i + (static_cast<float>(i) < x);
}
static inline int floored(float x) {
  const int i = static_cast<int>(x);
  return i - (static_cast<float>(i) > x);
}

static void reach(const float* parameters, int64_t gaussians, int64_t first, int count, const float* normal, float cut,
                  float* position, float* half, float* bounds) {
  constexpr int kBlock = 64;
  const float* row[kParameterRows];
  for (int start = 0; start < count; start += kBlock) {
    const int n = count - start < kBlock ? count - start : kBlock;
    for (int k = 0; k < kParameterRows; ++k) row[k] = parameters + k * gaussians + first + start;
    float x[kBlock], h[kBlock];  // local, so that the compiler knows they overlap nothing and vectorises
    for (int i = 0; i < n; ++i) {
      float y[3];
      const float variance = gm_variance_along(normal, row[kM00][i], row[kM01][i], row[kM02][i], row[kM11][i],
                                               row[kM12][i], row[kM22][i], y);
      // Rounding of n.m far from the origin must not lose a Gaussian: the exact test comes with the projection.
      h[i] = sqrtf(cut * variance) * 1.0001f + 1e-3f;
      x[i] = gm_dot(normal, row[kMeanX][i], row[kMeanY][i], row[kMeanZ][i]);
    }
    for (int i = 0; i < n; ++i) position[start + i] = x[i];
    for (int i = 0; i < n; ++i) half[start + i] = h[i];
  }
  constexpr int kParallel = 16;  // chains of minima, as many as a vector has lanes
  float low[kParallel], high[kParallel];
  for (int k = 0; k < kParallel; ++k) low[k] = INFINITY, high[k] = -INFINITY;
  for (int start = 0; start < count; start += kParallel) {
    const int n = count - start < kParallel ? count - start : kParallel;
    for (int k = 0; k < n; ++k) {
      low[k] = smaller(position[start + k] - half[start + k], low[k]);  // NaN never wins
      high[k] = larger(position[start + k] + half[start + k], high[k]);
    }
  }
  bounds[0] = low[0], bounds[1] = high[0];
  for (int k = 1; k < kParallel; ++k) {
    bounds[0] = smaller(low[k], bounds[0]);
    bounds[1] = larger(high[k], bounds[1]);
  }
}

static int cull(const float* position, const float* half, int count, float low, float high, int32_t* visible) {
  constexpr int kBlock = 64;
  int found = 0;
  for (int start = 0; start < count; start += kBlock) {
    const int n = count - start < kBlock ? count - start : kBlock;
    uint8_t meets[kBlock];
    int any = 0;
    for (int i = 0; i < n; ++i) {
      const float x = position[start + i], h = half[start + i];
      meets[i] = static_cast<uint8_t>((x + h > low) & (x - h < high));
      any |= meets[i];
    }
    if (!any) continue;
    for (int i = 0; i < n; ++i) {
      visible[found] = start + i;
      found += meets[i];
    }
  }
  return found;
}

static int project(const float* parameters, int64_t gaussians, int64_t first, const int32_t* visible, int count,
                   const PlaneSamples& samples, float cut, Projected* out) {
  constexpr int kBlock = 64;
  const GmPlane plane = samples.plane;
  const float rows = static_cast<float>(samples.rows), columns = static_cast<float>(samples.columns);
  const float* base = parameters + first;
  int kept = 0;
  for (int start = 0; start < count; start += kBlock) {
    const int n = count - start < kBlock ? count - start : kBlock;
    float in[kParameterRows][kBlock];
    for (int k = 0; k < kParameterRows; ++k)
      for (int i = 0; i < n; ++i) in[k][i] = base[k * gaussians + visible[start + i]];
    for (int k = 0; k < kParameterRows; ++k)
      for (int i = n; i < kBlock; ++i) in[k][i] = 0.0f;
    float s[kBlock], t[kBlock], ks[kBlock], kt[kBlock], distance[kBlock], precision[kBlock];
    float A[kBlock], shear[kBlock], D[kBlock], top[kBlock], bottom[kBlock], left[kBlock], right[kBlock];
    int valid[kBlock];
    for (int i = 0; i < kBlock; ++i) {
      const GmFootprint f = gm_project(plane, in[kMeanX][i], in[kMeanY][i], in[kMeanZ][i], in[kM00][i], in[kM01][i],
                                       in[kM02][i], in[kM11][i], in[kM12][i], in[kM22][i]);
      s[i] = f.s, t[i] = f.t, ks[i] = f.ks, kt[i] = f.kt, distance[i] = f.distance, precision[i] = f.precision;
      A[i] = f.A, shear[i] = f.shear, D[i] = f.D;
      valid[i] = gm_valid(f, in[kColour][i], in[kAmplitude][i]);
      top[i] = left[i] = 1e9f;
      bottom[i] = right[i] = -1e9f;
    }
    for (int q = 0; q < samples.sample_count; ++q) {
      const float offset = samples.offsets[q];
      for (int i = 0; i < kBlock; ++i) {
        const float d = distance[i] - offset, rest = cut - d * d * precision[i];
        const float positive = rest > 0.0f ? rest : 0.0f, miss = rest > 0.0f ? 0.0f : 2e9f;
        const float half_rows = sqrtf(positive / D[i]);
        const float half_columns = sqrtf(positive * (1.0f / A[i] + shear[i] * shear[i] / D[i]));
        const float s0 = s[i] - ks[i] * d, t0 = t[i] - kt[i] * d;
        top[i] = smaller(top[i], t0 - half_rows + miss);
        bottom[i] = larger(bottom[i], t0 + half_rows - miss);
        left[i] = smaller(left[i], s0 - half_columns + miss);
        right[i] = larger(right[i], s0 + half_columns - miss);
      }
    }
    for (int i = 0; i < n; ++i) {
      const bool meets = valid[i] && top[i] <= rows - 1.0f && bottom[i] >= 0.0f && left[i] <= columns - 1.0f &&
                         right[i] >= 0.0f && top[i] <= bottom[i];
      if (!meets) continue;
      // One row to spare on either side: the loops over rows find the exact span per sample.
      const int first_row = static_cast<int>(larger(top[i], 0.0f));
      const int last_row = static_cast<int>(smaller(bottom[i] + 1.0f, rows - 1.0f));
      Projected& p = out[kept++];
      p.footprint = GmFootprint{s[i], t[i], ks[i], kt[i], distance[i], precision[i], A[i], shear[i], D[i]};
      p.colour = in[kColour][i];
      p.amplitude = in[kAmplitude][i];
      p.gaussian = static_cast<int32_t>(first) + visible[start + i];
      p.first_row = first_row;
      p.last_row = last_row;
    }
  }
  return kept;
}

alignas(64) static const float kRamp[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

// Footprints at one sample, a batch at a time so that the compiler vectorises their square roots and divisions.
constexpr int kBatch = 16;
constexpr int kSpanRows = 32;
constexpr int kFewVectors = 3;
constexpr int kBoxColumns = 16;           // footprints up to this wide are drawn as boxes
constexpr bool kBoxes = kLanes > 1;       // without vectors, boxes would only add pixels
static_assert(kBoxColumns <= kPadding, "a box that starts inside the image ends in its row's padding");

struct Batch {
  int count;
  float A[kBatch], shear[kBatch], D[kBatch], s[kBatch], t[kBatch], ks[kBatch], kt[kBatch];
  float distance[kBatch], precision[kBatch], colour[kBatch], amplitude[kBatch];
  // at one sample
  float d[kBatch], q0[kBatch], s0[kBatch], t0[kBatch], inverse_A[kBatch];
  float root_A[kBatch], column[kBatch];
  int first_row[kBatch], end_row[kBatch];
  int width[kBatch];    // columns, from `column` on
  int vectors[kBatch];  // per row; 0 where the rows need their own lengths: clipped on the right, or long

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

  void place(float offset, float cut, int image_first_row, int image_end_row, int columns) {
    const float low = static_cast<float>(image_first_row), high = static_cast<float>(image_end_row);
    const float last_column = static_cast<float>(columns - 1);
    for (int k = 0; k < kBatch; ++k) {
      d[k] = distance[k] - offset;
      q0[k] = d[k] * d[k] * precision[k];
      const float rest = larger(cut - q0[k], 0.0f);
      s0[k] = s[k] - ks[k] * d[k];
      t0[k] = t[k] - kt[k] * d[k];
      inverse_A[k] = 1.0f / A[k];
      const float inverse_D = 1.0f / D[k];
      root_A[k] = sqrtf(A[k]);
      const float half_rows = sqrtf(rest * inverse_D), half_chord = sqrtf(rest * inverse_A[k]);
      const float half_columns = sqrtf(rest * (inverse_A[k] + shear[k] * shear[k] * inverse_D));
      first_row[k] = ceiling(smaller(larger(t0[k] - half_rows, low), high));
      const int end = floored(smaller(larger(t0[k] + half_rows, low - 1.0f), high - 1.0f)) + 1;
      const int left = ceiling(smaller(larger(s0[k] - half_columns, 0.0f), last_column + 1.0f));
      const int right = floored(smaller(larger(s0[k] + half_columns, -1.0f), last_column));
      column[k] = static_cast<float>(left);
      width[k] = right - left + 1;
      // Products, because choices would keep GCC from vectorising.
      end_row[k] = end * (rest > 0.0f);
      const float chord = smaller(2.0f * half_chord, static_cast<float>(kFewVectors * kLanes));
      const int wide = static_cast<int>(chord) / kLanes + 1;
      const bool few = (wide <= kFewVectors) & (s0[k] + half_columns <= last_column);
      vectors[k] = wide * few;
    }
  }
};

// Rows [row, row + n) of a footprint: what its pixels need, found for all rows before any pixel is drawn.
struct Spans {
  float x[kSpanRows], q[kSpanRows], y[kSpanRows];  // first - centre; minimum of q; row - t0
  int first[kSpanRows], last[kSpanRows];           // columns, inclusive

  void find(const Batch& b, int k, int row, int n, float cut, int columns) {
    const float last_column = static_cast<float>(columns - 1);
    const float shear = b.shear[k], D = b.D[k], q0 = b.q0[k], s0 = b.s0[k], t0 = b.t0[k], inverse_A = b.inverse_A[k];
    const float from = static_cast<float>(row);
    for (int i = 0; i < (n + 7) / 8 * 8; ++i) {
      y[i] = from + static_cast<float>(i) - t0;
      q[i] = q0 + D * y[i] * y[i];
      const float centre = s0 - shear * y[i], half = sqrtf(larger(cut - q[i], 0.0f) * inverse_A);
      first[i] = ceiling(smaller(larger(centre - half, 0.0f), last_column + 1.0f));
      last[i] = static_cast<int>(smaller(larger(centre + half, -1.0f), last_column));
      x[i] = static_cast<float>(first[i]) - centre;
    }
  }
};

// Calls pixels(offset, x, q, y) for every vector of a footprint's pixels: offset in floats from the image's first row.
// Lanes that lie outside the footprint have q >= cut. A vector may reach kFewVectors * kLanes beyond the last pixel.
template <typename Pixels>
static inline void each_vector(const Batch& b, int k, float cut, int columns, int64_t row_stride, int origin_row,
                               const Pixels& pixels) {
  Spans spans;
  const int vectors = b.vectors[k];
  for (int row = b.first_row[k]; row < b.end_row[k]; row += kSpanRows) {
    const int n = b.end_row[k] - row < kSpanRows ? b.end_row[k] - row : kSpanRows;
    spans.find(b, k, row, n, cut, columns);
    int64_t base = (row - origin_row) * row_stride;
    if (vectors == 1) {
      for (int i = 0; i < n; ++i, base += row_stride) pixels(base + spans.first[i], spans.x[i], spans.q[i], spans.y[i]);
    } else if (vectors == 2) {
      for (int i = 0; i < n; ++i, base += row_stride) {
        pixels(base + spans.first[i], spans.x[i], spans.q[i], spans.y[i]);
        pixels(base + spans.first[i] + kLanes, spans.x[i] + kLanes, spans.q[i], spans.y[i]);
      }
    } else if (vectors == 3) {
      for (int i = 0; i < n; ++i, base += row_stride) {
        pixels(base + spans.first[i], spans.x[i], spans.q[i], spans.y[i]);
        pixels(base + spans.first[i] + kLanes, spans.x[i] + kLanes, spans.q[i], spans.y[i]);
        pixels(base + spans.first[i] + 2 * kLanes, spans.x[i] + 2 * kLanes, spans.q[i], spans.y[i]);
      }
    } else {
      for (int i = 0; i < n; ++i, base += row_stride)
        for (int c = 0; c <= spans.last[i] - spans.first[i]; c += kLanes)
          pixels(base + spans.first[i] + c, spans.x[i] + static_cast<float>(c), spans.q[i], spans.y[i]);
    }
  }
}

// A footprint whose rows all start at the same column, which saves finding every row's span: q along the row y from
// the centre is (sqrt(A) (x + shear y))^2 + q0 + D y^2.
template <typename V, int Count>
struct Box {
  static constexpr int kWidth = static_cast<int>(sizeof(V) / sizeof(float));
  V from[Count];  // sqrt(A) x
  V y, shear, D, q0;

  Box(const Batch& b, int k) {
    const float root = b.root_A[k];
    const V scale = set_as<V>(root), start = set_as<V>(b.column[k] - b.s0[k]);
    for (int c = 0; c < Count; ++c) from[c] = mul(add(load_as<V>(kRamp + c * kWidth), start), scale);
    y = set_as<V>(static_cast<float>(b.first_row[k]) - b.t0[k]);
    shear = set_as<V>(root * b.shear[k]);
    D = set_as<V>(b.D[k]);
    q0 = set_as<V>(b.q0[k]);
  }
  V row_minimum() const { return fma(mul(D, y), y, q0); }
  V q(int c, V minimum) const {
    const V x = fma(shear, y, from[c]);
    return fma(x, x, minimum);
  }
  void next() { y = add(y, set_as<V>(1.0f)); }
};

template <int Squarings, typename V, int Count>
static inline void scatter_box(const Batch& b, int k, float cut, int first_row, int stride, float* numerator,
                               float* density) {
  Box<V, Count> box(b, k);
  const V limit = set_as<V>(cut), amplitude = set_as<V>(b.amplitude[k]);
  const V tinted = set_as<V>(b.amplitude[k] * b.colour[k]);
  int64_t at = static_cast<int64_t>(b.first_row[k] - first_row) * stride + static_cast<int>(b.column[k]);
  for (int row = b.first_row[k]; row < b.end_row[k]; ++row, at += stride, box.next()) {
    const V minimum = box.row_minimum();
    for (int c = 0; c < Count; ++c) {
      const V q = box.q(c, minimum);
      const V w = below(q, limit, exp_half<Squarings>(q));
      float *const n = numerator + at + c * box.kWidth, *const sum = density + at + c * box.kWidth;
      store(n, fma(w, tinted, load_as<V>(n)));
      store(sum, fma(w, amplitude, load_as<V>(sum)));
    }
  }
}

template <int Squarings>
static inline void scatter_rows(const Batch& b, int k, float cut, int first_row, int columns, int stride,
                                float* numerator, float* density) {
  const F lanes = load(kRamp), limit = set(cut), A = set(b.A[k]), amplitude = set(b.amplitude[k]);
  const F tinted = set(b.amplitude[k] * b.colour[k]);
  each_vector(b, k, cut, columns, stride, first_row, [&](int64_t at, float from, float minimum, float) {
    const F x = add(lanes, set(from));
    const F q = fma(mul(A, x), x, set(minimum));
    const F w = below(q, limit, exp_half<Squarings>(q));
    store(numerator + at, fma(w, tinted, load(numerator + at)));
    store(density + at, fma(w, amplitude, load(density + at)));
  });
}

// Vectors per row of a box of 8 and of 16 columns.
constexpr int kHalfLanes = static_cast<int>(sizeof(Half) / sizeof(float));
constexpr int kEight = 8 / kHalfLanes, kSixteen = kBoxColumns / kLanes;

template <int Squarings>
static void scatter_range(const Projected* const* list, int count, float offset, float cut, int first_row, int end_row,
                          int columns, int stride, float* numerator, float* density) {
  Batch batch;
  for (int start = 0; start < count; start += kBatch) {
    batch.count = count - start < kBatch ? count - start : kBatch;
    for (int k = 0; k < batch.count; ++k) batch.collect(*list[start + k], k);
    for (int k = start + kBatch; k < count && k < start + 2 * kBatch; ++k) prefetch(list[k]);
    batch.fill();
    batch.place(offset, cut, first_row, end_row, columns);
    for (int k = 0; k < batch.count; ++k) {
      if (batch.end_row[k] <= batch.first_row[k] || batch.width[k] <= 0) continue;
      if (kBoxes && batch.width[k] <= 8)
        scatter_box<Squarings, Half, kEight>(batch, k, cut, first_row, stride, numerator, density);
      else if (kBoxes && batch.width[k] <= kBoxColumns)
        scatter_box<Squarings, F, kSixteen>(batch, k, cut, first_row, stride, numerator, density);
      else
        scatter_rows<Squarings>(batch, k, cut, first_row, columns, stride, numerator, density);
    }
  }
}

// The sums N, F, FX, FY, FXX, FXY, FYY (see plane_math.h) over the pixels of a box, without the amplitude. Columns are
// the lanes, so the loop over rows sums only f {1, y, yy} and the powers of x come once, at the end.
template <int Squarings, typename V, int Count>
static inline void gather_box(const Batch& b, int k, float cut, int stride, const float* pull, float* total) {
  Box<V, Count> box(b, k);
  const V limit = set_as<V>(cut), colour = set_as<V>(b.colour[k]), zero = set_as<V>(0.0f);
  V N = zero, S[Count], Sy[Count], Syy[Count];
  for (int c = 0; c < Count; ++c) S[c] = Sy[c] = Syy[c] = zero;
  const float* at = pull + static_cast<int64_t>(b.first_row[k]) * 2 * stride + static_cast<int>(b.column[k]);
  for (int row = b.first_row[k]; row < b.end_row[k]; ++row, at += 2 * stride, box.next()) {
    const V minimum = box.row_minimum();
    for (int c = 0; c < Count; ++c) {
      const V q = box.q(c, minimum);
      const V w = below(q, limit, exp_half<Squarings>(q));
      const V over_density = load_as<V>(at + c * box.kWidth);
      const V f = mul(w, fms(colour, over_density, load_as<V>(at + stride + c * box.kWidth)));
      N = fma(w, over_density, N);
      S[c] = add(S[c], f);
      const V fy = mul(f, box.y);
      Sy[c] = add(Sy[c], fy);
      Syy[c] = fma(fy, box.y, Syy[c]);
    }
  }
  // From the footprint's centre to the mean.
  const V start = set_as<V>(b.column[k] - b.s[k]), down = set_as<V>(-b.kt[k] * b.d[k]);
  V F0 = zero, Fx = zero, Fy = zero, Fxx = zero, Fxy = zero, Fyy = zero;
  for (int c = 0; c < Count; ++c) {
    const V x = add(load_as<V>(kRamp + c * box.kWidth), start), moved = fma(down, S[c], Sy[c]);
    const V fx = mul(S[c], x);
    F0 = add(F0, S[c]);
    Fx = add(Fx, fx);
    Fy = add(Fy, moved);
    Fxx = fma(fx, x, Fxx);
    Fxy = fma(moved, x, Fxy);
    Fyy = add(Fyy, fma(down, add(moved, Sy[c]), Syy[c]));
  }
  sum8(N, F0, Fx, Fy, Fxx, Fxy, Fyy, total);
}

template <int Squarings>
static inline void gather_rows(const Batch& b, int k, float cut, int columns, int stride, const float* pull,
                               float* total) {
  const F lanes = load(kRamp), limit = set(cut), A = set(b.A[k]), colour = set(b.colour[k]);
  F N = set(0.0f), S = N, Sx = N, Sy = N, Sxx = N, Sxy = N, Syy = N;
  each_vector(b, k, cut, columns, 2 * stride, 0, [&](int64_t at, float from, float minimum, float row) {
    const F x = add(lanes, set(from)), y = set(row);
    const F q = fma(mul(A, x), x, set(minimum));
    const F w = below(q, limit, exp_half<Squarings>(q));
    const F over_density = load(pull + at);
    const F f = mul(w, fms(colour, over_density, load(pull + at + stride)));
    N = fma(w, over_density, N);
    S = add(S, f);
    const F fx = mul(f, x), fy = mul(f, y);
    Sx = add(Sx, fx);
    Sy = add(Sy, fy);
    Sxx = fma(fx, x, Sxx);
    Sxy = fma(fx, y, Sxy);
    Syy = fma(fy, y, Syy);
  });
  sum8(N, S, Sx, Sy, Sxx, Sxy, Syy, total);
  gm_shift_moments(b.shear[k], -b.ks[k] * b.d[k], -b.kt[k] * b.d[k], total[1], total + 2, total + 3, total + 4,
                   total + 5, total + 6);
}

// What gm_add_parallel adds up, as three sums of all moments: times 1, d and d^2.
struct ParallelSums {
  float by[3][8];

  void add(const float* total, float amplitude, float d) {
    for (int i = 0; i < 8; ++i) {
      const float value = amplitude * total[i], first = d * value;
      by[0][i] += value;
      by[1][i] += first;
      by[2][i] += d * first;
    }
  }

  void add_to(float* plane_sums) const {  // order of the moments: N, F, FX, FY, FXX, FXY, FYY
    plane_sums[kSumF] += by[0][1];
    plane_sums[kSumN] += by[0][0];
    plane_sums[kSumX] += by[0][2];
    plane_sums[kSumY] += by[0][3];
    plane_sums[kSumZ] -= by[1][1];
    plane_sums[kSumXX] += by[0][4];
    plane_sums[kSumXY] += by[0][5];
    plane_sums[kSumXZ] -= by[1][2];
    plane_sums[kSumYY] += by[0][6];
    plane_sums[kSumYZ] -= by[1][3];
    plane_sums[kSumZZ] += by[2][1];
  }
};

template <int Squarings>
static void gather_range(const Projected* list, int count, const PlaneSamples& samples, float cut, int stride,
                         const float* pulls, int64_t first, float* plane_sums) {
  const int64_t sample_stride = static_cast<int64_t>(samples.rows) * 2 * stride;
  Batch batch;
  for (int start = 0; start < count; start += kBatch) {
    batch.count = count - start < kBatch ? count - start : kBatch;
    for (int k = 0; k < batch.count; ++k) batch.collect(list[start + k], k);
    batch.fill();
    ParallelSums sums[kBatch] = {};
    for (int sample = 0; sample < samples.sample_count; ++sample) {
      batch.place(samples.offsets[sample], cut, 0, samples.rows, samples.columns);
      const float* const pull = pulls + sample * sample_stride;
      for (int k = 0; k < batch.count; ++k) {
        if (batch.end_row[k] <= batch.first_row[k] || batch.width[k] <= 0) continue;
        float total[8];
        if (kBoxes && batch.width[k] <= 8)
          gather_box<Squarings, Half, kEight>(batch, k, cut, stride, pull, total);
        else if (kBoxes && batch.width[k] <= kBoxColumns)
          gather_box<Squarings, F, kSixteen>(batch, k, cut, stride, pull, total);
        else
          gather_rows<Squarings>(batch, k, cut, samples.columns, stride, pull, total);
        sums[k].add(total, batch.amplitude[k], batch.d[k]);
      }
    }
    for (int k = 0; k < batch.count; ++k)
      sums[k].add_to(plane_sums + kSumRows * (list[start + k].gaussian - first));
  }
}

static void add_plane_sums(const GmPlane& plane, float* plane_sums, const int32_t* drawn, int count,
                           int64_t gaussians, float* gradient) {
  constexpr int kBlock = 32;
  for (int start = 0; start < count; start += kBlock) {
    const int n = count - start < kBlock ? count - start : kBlock;
    float in[kSumRows][kBlock] = {}, out[kSumRows][kBlock];
    for (int i = 0; i < n; ++i) {
      float* const sums = plane_sums + drawn[start + i] * kSumRows;
      for (int row = 0; row < kSumRows; ++row) in[row][i] = sums[row], sums[row] = 0.0f;
    }
    for (int i = 0; i < kBlock; ++i) {
      float sums[kSumRows], rotated[kSumRows];
      for (int row = 0; row < kSumRows; ++row) sums[row] = in[row][i];
      gm_plane_sums_to_ras(plane, sums, rotated);
      for (int row = 0; row < kSumRows; ++row) out[row][i] = rotated[row];
    }
    for (int row = 0; row < kSumRows; ++row)
      for (int i = 0; i < n; ++i) gradient[row * gaussians + drawn[start + i]] += out[row][i];
  }
}

static int squarings(float cut) { return cut <= 7.82f ? 0 : cut <= 15.6f ? 1 : cut <= 31.2f ? 2 : 3; }

static void scatter(const Projected* const* list, int count, float offset, float cut, int first_row, int end_row,
                    int columns, int stride, float* numerator, float* density) {
  static constexpr decltype(&scatter_range<0>) range[] = {scatter_range<0>, scatter_range<1>, scatter_range<2>,
                                                          scatter_range<3>};
  range[squarings(cut)](list, count, offset, cut, first_row, end_row, columns, stride, numerator, density);
}

static void gather(const Projected* list, int count, const PlaneSamples& samples, float cut, int stride,
                   const float* pulls, int64_t first, float* plane_sums) {
  static constexpr decltype(&gather_range<0>) range[] = {gather_range<0>, gather_range<1>, gather_range<2>,
                                                         gather_range<3>};
  range[squarings(cut)](list, count, samples, cut, stride, pulls, first, plane_sums);
}

static void resolve(const float* numerator, const float* density, float weight, int count, float* sample,
                    float* image) {
  for (int i = 0; i < count; ++i) {
    const float value = density[i] > 0.0f ? numerator[i] / density[i] : 0.0f;
    sample[i] = value;
    image[i] += weight * value;
  }
}

static void pull(const float* gradient, const float* sample, const float* density, float weight, int count,
                 float* over_density, float* times_sample) {
  for (int i = 0; i < count; ++i) {
    const float g = density[i] > 0.0f ? weight * gradient[i] / density[i] : 0.0f;
    over_density[i] = g;
    times_sample[i] = g * sample[i];
  }
}

}  // namespace GM_ISA
