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

// Footprints at one sample, a batch at a time so that the compiler vectorises their square roots and divisions.
constexpr int kBatch = 16;
constexpr int kSpanRows = 32;
constexpr int kFewVectors = 3;

struct Batch {
  int count;
  float A[kBatch], shear[kBatch], D[kBatch], s[kBatch], t[kBatch], ks[kBatch], kt[kBatch];
  float distance[kBatch], precision[kBatch], colour[kBatch], amplitude[kBatch];
  // at one sample
  float d[kBatch], q0[kBatch], s0[kBatch], t0[kBatch], inverse_A[kBatch];
  int first_row[kBatch], end_row[kBatch];
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
      const float half_rows = sqrtf(rest * inverse_D), half_chord = sqrtf(rest * inverse_A[k]);
      const float half_columns = sqrtf(rest * (inverse_A[k] + shear[k] * shear[k] * inverse_D));
      first_row[k] = ceiling(smaller(larger(t0[k] - half_rows, low), high));
      const int end = floored(smaller(larger(t0[k] + half_rows, low - 1.0f), high - 1.0f)) + 1;
      end_row[k] = end * (rest > 0.0f);  // a product, because a choice would keep GCC from vectorising
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

template <int Squarings>
static void scatter_range(const Projected* const* list, int count, float offset, float cut, int first_row, int end_row,
                          int columns, int stride, float* numerator, float* density) {
  const F lanes = ramp(), limit = set(cut);
  Batch batch;
  for (int start = 0; start < count; start += kBatch) {
    batch.count = count - start < kBatch ? count - start : kBatch;
    for (int k = 0; k < batch.count; ++k) batch.collect(*list[start + k], k);
    batch.fill();
    batch.place(offset, cut, first_row, end_row, columns);
    for (int k = 0; k < batch.count; ++k) {
      const F A = set(batch.A[k]), amplitude = set(batch.amplitude[k]);
      const F tinted = set(batch.amplitude[k] * batch.colour[k]);
      each_vector(batch, k, cut, columns, stride, first_row, [&](int64_t at, float from, float minimum, float) {
        const F x = add(lanes, set(from));
        const F q = fma(mul(A, x), x, set(minimum));
        const F w = below(q, limit, exp_half<Squarings>(q));
        store(numerator + at, fma(w, tinted, load(numerator + at)));
        store(density + at, fma(w, amplitude, load(density + at)));
      });
    }
  }
}

template <int Squarings>
static void gather_range(const Projected* list, int count, const PlaneSamples& samples, float cut, int stride,
                         const float* pulls, float* gradient, int64_t gaussians) {
  const F lanes = ramp(), limit = set(cut);
  const int64_t sample_stride = static_cast<int64_t>(samples.rows) * 2 * stride;
  Batch batch;
  for (int start = 0; start < count; start += kBatch) {
    batch.count = count - start < kBatch ? count - start : kBatch;
    for (int k = 0; k < batch.count; ++k) batch.collect(list[start + k], k);
    batch.fill();
    float sums[kBatch][kSumRows] = {};
    for (int sample = 0; sample < samples.sample_count; ++sample) {
      batch.place(samples.offsets[sample], cut, 0, samples.rows, samples.columns);
      const float* const pull = pulls + sample * sample_stride;
      for (int k = 0; k < batch.count; ++k) {
        if (batch.end_row[k] <= batch.first_row[k]) continue;
        const F A = set(batch.A[k]), colour = set(batch.colour[k]);
        F N = set(0.0f), S = N, Sx = N, Sy = N, Sxx = N, Sxy = N, Syy = N;
        each_vector(batch, k, cut, samples.columns, 2 * stride, 0,
                    [&](int64_t at, float from, float minimum, float row) {
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
        float total[8];
        sum8(N, S, Sx, Sy, Sxx, Sxy, Syy, total);
        for (float& value : total) value *= batch.amplitude[k];
        gm_shift_moments(batch.shear[k], -batch.ks[k] * batch.d[k], -batch.kt[k] * batch.d[k], total[1], total + 2,
                         total + 3, total + 4, total + 5, total + 6);
        gm_add_parallel(sums[k], batch.d[k], total[0], total[1], total[2], total[3], total[4], total[5], total[6]);
      }
    }
    for (int k = 0; k < batch.count; ++k) {
      float rotated[kSumRows];
      gm_plane_sums_to_ras(samples.plane, sums[k], rotated);
      for (int row = 0; row < kSumRows; ++row) gradient[row * gaussians + list[start + k].gaussian] += rotated[row];
    }
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
                   const float* pulls, float* gradient, int64_t gaussians) {
  static constexpr decltype(&gather_range<0>) range[] = {gather_range<0>, gather_range<1>, gather_range<2>,
                                                         gather_range<3>};
  range[squarings(cut)](list, count, samples, cut, stride, pulls, gradient, gaussians);
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
