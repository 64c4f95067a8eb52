// Backward: each Gaussian sums over its own pixels what the image's gradient asks of it.
#pragma once

#include "planes/footprint.h"

namespace GM_ISA {

static void pull(const float* gradient, const float* sample, const float* density, float weight, int count,
                 float* over_density, float* times_sample) {
  for (int i = 0; i < count; ++i) {
    const float g = density[i] > 0.0f ? weight * gradient[i] / density[i] : 0.0f;
    over_density[i] = g;
    times_sample[i] = g * sample[i];
  }
}

// The sums N, F, FX, FY, FXX, FXY, FYY (see planes/math.h) over the pixels of a box, without the amplitude. Columns are
// the lanes, so the loop over rows sums only f {1, y, yy} and the powers of x come once, at the end.
template <int Squarings, typename V, int Count>
static inline void gather_box(const Footprints& f, int k, const BoxPlace& place, float limit, int stride,
                              const float* pull, float* total) {
  Box<V, Count> box(f.root[k], f.x_step[k], f.minimum_bend[k], place);
  const V bound = set_as<V>(limit), colour = set_as<V>(f.colour[k]), zero = set_as<V>(0.0f), one = set_as<V>(1.0f);
  V y = set_as<V>(static_cast<float>(place.first_row) - f.t0[k]);
  V N = zero, S[Count], Sy[Count], Syy[Count];
  for (int c = 0; c < Count; ++c) S[c] = Sy[c] = Syy[c] = zero;
  const float* at = pull + static_cast<int64_t>(place.first_row) * 2 * stride + place.column;
  for (int row = place.first_row; row < place.end_row; ++row, at += 2 * stride, box.next(), y = add(y, one))
    for (int c = 0; c < Count; ++c) {
      const V q = box.q(c), w = below(q, bound, exp_half<Squarings>(q));
      const V over_density = load_as<V>(at + c * box.kWidth);
      const V force = mul(w, fms(colour, over_density, load_as<V>(at + stride + c * box.kWidth)));
      N = fma(w, over_density, N);
      S[c] = add(S[c], force);
      const V fy = mul(force, y);
      Sy[c] = add(Sy[c], fy);
      Syy[c] = fma(fy, y, Syy[c]);
    }
  // From the footprint's centre to the mean.
  const V start = set_as<V>(static_cast<float>(place.column) - f.s[k]), down = set_as<V>(-f.kt[k] * f.d[k]);
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

// What gm_add_parallel adds up, in the order that vectors like: the moments, then F d, FX d, FY d, F d^2.
static inline void add_moments(const float* total, float amplitude, float d, float* sums) {
  float moments[8];
  for (int i = 0; i < 8; ++i) moments[i] = amplitude * total[i];
  for (int i = 0; i < 8; ++i) sums[i] += moments[i];
  for (int i = 0; i < 3; ++i) sums[8 + i] += d * moments[1 + i];
  sums[11] += d * d * moments[1];
}

template <int Squarings>
static int gather_block(const float* parameters, int64_t gaussians, const int32_t* visible, int count,
                        const PlaneSamples& samples, float cut, int stride, const float* pulls, float* moments,
                        int32_t* seen) {
  const int64_t sample_stride = static_cast<int64_t>(samples.rows) * 2 * stride;
  const float scale = exp_scale(cut), limit = cut * scale;
  Footprints footprints;
  footprints.project(samples.plane, parameters, gaussians, visible, count, scale);
  bool touched[kBlock] = {};
  for (int sample = 0; sample < samples.sample_count; ++sample) {
    footprints.place(samples.offsets[sample], cut, scale, samples.rows, samples.columns);
    const float* const pull = pulls + sample * sample_stride;
    for (int k = 0; k < count; ++k) {
      if (!footprints.meets_image(k)) continue;
      touched[k] = true;
      const auto add_box = [&](const BoxPlace& place, bool narrow) {
        float total[8];
        if (narrow)
          gather_box<Squarings, Half, kEight>(footprints, k, place, limit, stride, pull, total);
        else
          gather_box<Squarings, F, kSixteen>(footprints, k, place, limit, stride, pull, total);
        add_moments(total, footprints.amplitude[k], footprints.d[k], moments + kMomentSums * visible[k]);
      };
      if (footprints.is_one_box(k))
        add_box(footprints.whole(k), footprints.columns[k] <= 8);
      else
        each_part(footprints.placed(k, sample), limit, footprints.first_row[k], footprints.end_row[k], add_box);
    }
  }
  int found = 0;
  for (int k = 0; k < count; ++k) {
    seen[found] = visible[k];
    found += touched[k];
  }
  return found;
}

static int gather(const float* parameters, int64_t gaussians, const int32_t* visible, int count,
                  const PlaneSamples& samples, float cut, int stride, const float* pulls, float* moments,
                  int32_t* seen) {
  static constexpr decltype(&gather_block<0>) block[] = {gather_block<0>, gather_block<1>, gather_block<2>,
                                                         gather_block<3>};
  return block[exp_squarings(cut)](parameters, gaussians, visible, count, samples, cut, stride, pulls, moments, seen);
}

static void add_plane_sums(const GmPlane& plane, float* moments, const int32_t* drawn, int count, int64_t sum_stride,
                           float* sums) {
  for (int start = 0; start < count; start += kBlock) {
    const int n = count - start < kBlock ? count - start : kBlock;
    float in[kMomentSums][kBlock] = {}, out[kSumRows][kBlock];
    for (int i = 0; i < n; ++i) {
      float* const from = moments + drawn[start + i] * kMomentSums;
      for (int row = 0; row < kMomentSums; ++row) in[row][i] = from[row], from[row] = 0.0f;
    }
    for (int i = 0; i < kBlock; ++i) {
      float plane_sums[kSumRows], rotated[kSumRows];
      plane_sums[kSumN] = in[0][i];
      plane_sums[kSumF] = in[1][i];
      plane_sums[kSumX] = in[2][i];
      plane_sums[kSumY] = in[3][i];
      plane_sums[kSumXX] = in[4][i];
      plane_sums[kSumXY] = in[5][i];
      plane_sums[kSumYY] = in[6][i];
      plane_sums[kSumZ] = -in[8][i];
      plane_sums[kSumXZ] = -in[9][i];
      plane_sums[kSumYZ] = -in[10][i];
      plane_sums[kSumZZ] = in[11][i];
      gm_plane_sums_to_ras(plane, plane_sums, rotated);
      for (int row = 0; row < kSumRows; ++row) out[row][i] = rotated[row];
    }
    for (int row = 0; row < kSumRows; ++row)
      for (int i = 0; i < n; ++i) sums[row * sum_stride + drawn[start + i]] += out[row][i];
  }
}

static void chain(const float* parameters, const float* sums, int64_t sum_stride, int64_t stride, int count,
                  float* gradient) {
  for (int start = 0; start < count; start += kBlock) {
    const int n = count - start < kBlock ? count - start : kBlock;
    const float *in[kParameterRows], *sum[kSumRows];
    for (int row = 0; row < kParameterRows; ++row) in[row] = parameters + row * stride + start;
    for (int row = 0; row < kSumRows; ++row) sum[row] = sums + row * sum_stride + start;
    float out[kParameterRows][kBlock];  // local, so that the compiler knows it overlaps nothing and vectorises
    for (int i = 0; i < n; ++i) {
      float of_one[kSumRows], result[kParameterRows], size = 0.0f;
      for (int row = 0; row < kSumRows; ++row) of_one[row] = sum[row][i], size += fabsf(sum[row][i]);
      gm_chain_to_parameters(of_one, in[kM00][i], in[kM01][i], in[kM02][i], in[kM11][i], in[kM12][i], in[kM22][i],
                             in[kAmplitude][i], result);
      // A Gaussian that was not drawn may have parameters that are not finite.
      for (int row = 0; row < kParameterRows; ++row) out[row][i] = size == 0.0f ? 0.0f : result[row];
    }
    for (int row = 0; row < kParameterRows; ++row)
      for (int i = 0; i < n; ++i) gradient[row * stride + start + i] = out[row][i];
  }
}

}  // namespace GM_ISA
