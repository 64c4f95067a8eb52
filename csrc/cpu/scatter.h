// Forward: footprints are added to the rows of an image.
#pragma once

#include "footprint.h"

namespace GM_ISA {

template <int Squarings, typename V, int Count>
static inline void scatter_box(const Batch& b, int k, const BoxPlace& place, float cut, int origin_row, int stride,
                               float* numerator, float* density) {
  Box<Squarings, V, Count> box(b, k, place);
  const V limit = set_as<V>(cut * exp_scale(Squarings)), amplitude = set_as<V>(b.amplitude[k]);
  const V tinted = set_as<V>(b.amplitude[k] * b.colour[k]);
  int64_t at = static_cast<int64_t>(place.first_row - origin_row) * stride + place.column;
  for (int row = place.first_row; row < place.end_row; ++row, at += stride, box.next())
    for (int c = 0; c < Count; ++c) {
      const V q = box.q(c), w = below(q, limit, exp_half<Squarings>(q));
      float *const n = numerator + at + c * box.kWidth, *const sum = density + at + c * box.kWidth;
      store(n, fma(w, tinted, load_as<V>(n)));
      store(sum, fma(w, amplitude, load_as<V>(sum)));
    }
}

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
    for (int k = 0; k < batch.count; ++k)
      each_box(batch, k, cut, [&](const BoxPlace& place, bool narrow) {
        if (narrow)
          scatter_box<Squarings, Half, kEight>(batch, k, place, cut, first_row, stride, numerator, density);
        else
          scatter_box<Squarings, F, kSixteen>(batch, k, place, cut, first_row, stride, numerator, density);
      });
  }
}

static void scatter(const Projected* const* list, int count, float offset, float cut, int first_row, int end_row,
                    int columns, int stride, float* numerator, float* density) {
  static constexpr decltype(&scatter_range<0>) range[] = {scatter_range<0>, scatter_range<1>, scatter_range<2>,
                                                          scatter_range<3>};
  range[exp_squarings(cut)](list, count, offset, cut, first_row, end_row, columns, stride, numerator, density);
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
