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
  const float* row[kParameterRows];
  for (int k = 0; k < kParameterRows; ++k) row[k] = parameters + k * gaussians + first;
  for (int i = 0; i < count; ++i) {
    float y[3];
    const float variance = gm_variance_along(normal, row[kM00][i], row[kM01][i], row[kM02][i], row[kM11][i],
                                             row[kM12][i], row[kM22][i], y);
    // Rounding of n.m far from the origin must not lose a Gaussian: the exact test comes with the projection.
    half[i] = sqrtf(cut * variance) * 1.0001f + 1e-3f;
    position[i] = gm_dot(normal, row[kMeanX][i], row[kMeanY][i], row[kMeanZ][i]);
  }
  float low = INFINITY, high = -INFINITY;
  for (int i = 0; i < count; ++i) {
    low = smaller(position[i] - half[i], low);  // NaN never wins
    high = larger(position[i] + half[i], high);
  }
  bounds[0] = low;
  bounds[1] = high;
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

// A footprint at one sample: everything a loop over its rows needs.
struct Ellipse {
  float s0, t0, q0, inverse_A, d;
  int first_row, last_row;  // inclusive
};

static inline bool place(const GmFootprint& f, float offset, float cut, int first_row, int end_row, Ellipse* e) {
  e->d = f.distance - offset;
  e->q0 = e->d * e->d * f.precision;
  const float rest = cut - e->q0;
  if (!(rest > 0.0f)) return false;
  e->s0 = f.s - f.ks * e->d;
  e->t0 = f.t - f.kt * e->d;
  e->inverse_A = 1.0f / f.A;
  const float half = gm_half_rows(f, rest);
  const float low = static_cast<float>(first_row), high = static_cast<float>(end_row);
  e->first_row = ceiling(smaller(larger(e->t0 - half, low), high));
  e->last_row = floored(smaller(larger(e->t0 + half, low - 1.0f), high - 1.0f));
  return true;
}

struct Span {
  float x, q;  // centre and minimum of q along the row
  int first, last;
};

static inline Span span(const GmFootprint& f, const Ellipse& e, float t, float cut, float last_column) {
  Span r;
  r.x = e.s0 - f.shear * t;
  r.q = e.q0 + f.D * t * t;
  const float half = sqrtf(larger(cut - r.q, 0.0f) * e.inverse_A);
  r.first = ceiling(smaller(larger(r.x - half, 0.0f), last_column + 1.0f));
  r.last = static_cast<int>(smaller(larger(r.x + half, -1.0f), last_column));
  return r;
}

template <int Squarings>
static void scatter_range(const Projected* list, const int32_t* index, int count, float offset, float cut,
                          int first_row, int end_row, int columns, int stride, float* numerator, float* density) {
  const F lanes = ramp(), limit = set(cut);
  const float last_column = static_cast<float>(columns - 1);
  for (int k = 0; k < count; ++k) {
    const Projected& p = list[index[k]];
    Ellipse e;
    if (!place(p.footprint, offset, cut, first_row, end_row, &e)) continue;
    const F A = set(p.footprint.A), amplitude = set(p.amplitude), tinted = set(p.amplitude * p.colour);
    for (int row = e.first_row; row <= e.last_row; ++row) {
      const Span r = span(p.footprint, e, static_cast<float>(row) - e.t0, cut, last_column);
      const F minimum = set(r.q);
      float* const num = numerator + (row - first_row) * stride;
      float* const den = density + (row - first_row) * stride;
      for (int column = r.first; column <= r.last; column += kLanes) {
        const F x = add(lanes, set(static_cast<float>(column) - r.x));
        const F q = fma(mul(A, x), x, minimum);
        const F w = below(q, limit, exp_half<Squarings>(q));
        store(num + column, fma(w, tinted, load(num + column)));
        store(den + column, fma(w, amplitude, load(den + column)));
      }
    }
  }
}

template <int Squarings>
static void gather_range(const Projected& p, const PlaneSamples& samples, float cut, int stride, const float* pulls,
                         float* plane_sums) {
  const F lanes = ramp(), limit = set(cut), A = set(p.footprint.A), colour = set(p.colour);
  const float last_column = static_cast<float>(samples.columns - 1);
  const int64_t sample_stride = static_cast<int64_t>(samples.rows) * 2 * stride;
  for (int q_index = 0; q_index < samples.sample_count; ++q_index) {
    Ellipse e;
    if (!place(p.footprint, samples.offsets[q_index], cut, p.first_row, p.last_row + 1, &e)) continue;
    const float* pull = pulls + q_index * sample_stride;
    F N = set(0.0f), S = N, Sx = N, Sy = N, Sxx = N, Sxy = N, Syy = N;
    for (int row = e.first_row; row <= e.last_row; ++row) {
      const float t = static_cast<float>(row) - e.t0;
      const Span r = span(p.footprint, e, t, cut, last_column);
      const F minimum = set(r.q), y = set(t);
      const float* const g = pull + static_cast<int64_t>(row) * 2 * stride;
      for (int column = r.first; column <= r.last; column += kLanes) {
        const F x = add(lanes, set(static_cast<float>(column) - r.x));
        const F q = fma(mul(A, x), x, minimum);
        const F w = below(q, limit, exp_half<Squarings>(q));
        const F over_density = load(g + column);
        const F f = mul(w, fms(colour, over_density, load(g + stride + column)));
        N = fma(w, over_density, N);
        S = add(S, f);
        const F fx = mul(f, x), fy = mul(f, y);
        Sx = add(Sx, fx);
        Sy = add(Sy, fy);
        Sxx = fma(fx, x, Sxx);
        Sxy = fma(fx, y, Sxy);
        Syy = fma(fy, y, Syy);
      }
    }
    const float a = p.amplitude, F0 = sum(S) * a;
    float Fx = sum(Sx) * a, Fy = sum(Sy) * a, Fxx = sum(Sxx) * a, Fxy = sum(Sxy) * a, Fyy = sum(Syy) * a;
    gm_shift_moments(p.footprint.shear, -p.footprint.ks * e.d, -p.footprint.kt * e.d, F0, &Fx, &Fy, &Fxx, &Fxy, &Fyy);
    gm_add_parallel(plane_sums, e.d, sum(N) * a, F0, Fx, Fy, Fxx, Fxy, Fyy);
  }
}

static int squarings(float cut) { return cut <= 7.82f ? 0 : cut <= 15.6f ? 1 : cut <= 31.2f ? 2 : 3; }

static void scatter(const Projected* list, const int32_t* index, int count, float offset, float cut, int first_row,
                    int end_row, int columns, int stride, float* numerator, float* density) {
  static constexpr decltype(&scatter_range<0>) range[] = {scatter_range<0>, scatter_range<1>, scatter_range<2>,
                                                          scatter_range<3>};
  range[squarings(cut)](list, index, count, offset, cut, first_row, end_row, columns, stride, numerator, density);
}

static void gather(const Projected& p, const PlaneSamples& samples, float cut, int stride, const float* pulls,
                   float* plane_sums) {
  static constexpr decltype(&gather_range<0>) range[] = {gather_range<0>, gather_range<1>, gather_range<2>,
                                                         gather_range<3>};
  range[squarings(cut)](p, samples, cut, stride, pulls, plane_sums);
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
