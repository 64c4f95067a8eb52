// Forward: footprints are added to the rows of an image.
#pragma once

#include "planes/footprint.h"

namespace GM_ISA {

template <int Squarings, typename V, int Count>
static inline void scatter_box(const Placed& p, const BoxPlace& place, float limit, int origin_row, int stride,
                               float* numerator, float* density) {
  Box<V, Count> box(p.root, p.x_step, p.minimum_bend, place);
  const V bound = set_as<V>(limit), amplitude = set_as<V>(p.amplitude), tint = set_as<V>(p.tint);
  int64_t at = static_cast<int64_t>(place.first_row - origin_row) * stride + place.column;
  for (int row = place.first_row; row < place.end_row; ++row, at += stride, box.next())
    for (int c = 0; c < Count; ++c) {
      const V q = box.q(c), w = below(q, bound, exp_half<Squarings>(q));
      float *const n = numerator + at + c * box.kWidth, *const sum = density + at + c * box.kWidth;
      store(n, fma(w, tint, load_as<V>(n)));
      store(sum, fma(w, amplitude, load_as<V>(sum)));
    }
}

template <int Squarings>
static void scatter_range(const Placed* const* list, int count, float cut, int first_row, int end_row, int stride,
                          float* numerator, float* density) {
  constexpr int kAhead = 16;
  const float limit = cut * exp_scale(cut);
  for (int i = 0; i < count; ++i) {
    if (i + kAhead < count) prefetch(list[i + kAhead]);
    const Placed& p = *list[i];
    each_box(p, limit, first_row, end_row, [&](const BoxPlace& place, bool narrow) {
      if (narrow)
        scatter_box<Squarings, Half, kEight>(p, place, limit, first_row, stride, numerator, density);
      else
        scatter_box<Squarings, F, kSixteen>(p, place, limit, first_row, stride, numerator, density);
    });
  }
}

static void scatter(const Placed* const* list, int count, float cut, int first_row, int end_row, int stride,
                    float* numerator, float* density) {
  static constexpr decltype(&scatter_range<0>) range[] = {scatter_range<0>, scatter_range<1>, scatter_range<2>,
                                                          scatter_range<3>};
  range[exp_squarings(cut)](list, count, cut, first_row, end_row, stride, numerator, density);
}

static void resolve(const float* numerator, const float* density, float weight, int count, float* sample,
                    float* image) {
  for (int i = 0; i < count; ++i) {
    const float value = density[i] > 0.0f ? numerator[i] / density[i] : 0.0f;
    sample[i] = value;
    image[i] += weight * value;
  }
}

}  // namespace GM_ISA
