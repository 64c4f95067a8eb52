// The few vector operations that the kernels need, for the instruction set this file is compiled for.
// GM_ISA names it (avx512, avx2, sse2, neon, scalar) and is also the namespace of everything compiled with it, so that
// the linker can never mix code of two instruction sets.
#pragma once

#include <math.h>

#if defined(GM_USE_AVX512) || defined(GM_USE_AVX2)
#include <immintrin.h>
#elif defined(GM_USE_SSE2)
#include <emmintrin.h>
#elif defined(GM_USE_NEON)
#include <arm_neon.h>
#endif

namespace GM_ISA {

#if defined(GM_USE_AVX512)
using F = __m512;
constexpr int kLanes = 16;
static inline F load(const float* p) { return _mm512_loadu_ps(p); }
static inline void store(float* p, F x) { _mm512_storeu_ps(p, x); }
static inline F set(float x) { return _mm512_set1_ps(x); }
static inline F add(F a, F b) { return _mm512_add_ps(a, b); }
static inline F sub(F a, F b) { return _mm512_sub_ps(a, b); }
static inline F mul(F a, F b) { return _mm512_mul_ps(a, b); }
static inline F div(F a, F b) { return _mm512_div_ps(a, b); }
static inline F fma(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }
static inline F fms(F a, F b, F c) { return _mm512_fmsub_ps(a, b, c); }
// x where q < cut, else 0
static inline F below(F q, F cut, F x) { return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(q, cut, _CMP_LT_OQ), x); }
#elif defined(GM_USE_AVX2)
using F = __m256;
constexpr int kLanes = 8;
static inline F load(const float* p) { return _mm256_loadu_ps(p); }
static inline void store(float* p, F x) { _mm256_storeu_ps(p, x); }
static inline F set(float x) { return _mm256_set1_ps(x); }
static inline F add(F a, F b) { return _mm256_add_ps(a, b); }
static inline F sub(F a, F b) { return _mm256_sub_ps(a, b); }
static inline F mul(F a, F b) { return _mm256_mul_ps(a, b); }
static inline F div(F a, F b) { return _mm256_div_ps(a, b); }
static inline F fma(F a, F b, F c) { return _mm256_fmadd_ps(a, b, c); }
static inline F fms(F a, F b, F c) { return _mm256_fmsub_ps(a, b, c); }
static inline F below(F q, F cut, F x) { return _mm256_and_ps(_mm256_cmp_ps(q, cut, _CMP_LT_OQ), x); }
#elif defined(GM_USE_SSE2)
using F = __m128;
constexpr int kLanes = 4;
static inline F load(const float* p) { return _mm_loadu_ps(p); }
static inline void store(float* p, F x) { _mm_storeu_ps(p, x); }
static inline F set(float x) { return _mm_set1_ps(x); }
static inline F add(F a, F b) { return _mm_add_ps(a, b); }
static inline F sub(F a, F b) { return _mm_sub_ps(a, b); }
static inline F mul(F a, F b) { return _mm_mul_ps(a, b); }
static inline F div(F a, F b) { return _mm_div_ps(a, b); }
static inline F fma(F a, F b, F c) { return _mm_add_ps(_mm_mul_ps(a, b), c); }
static inline F fms(F a, F b, F c) { return _mm_sub_ps(_mm_mul_ps(a, b), c); }
static inline F below(F q, F cut, F x) { return _mm_and_ps(_mm_cmplt_ps(q, cut), x); }
#elif defined(GM_USE_NEON)
using F = float32x4_t;
constexpr int kLanes = 4;
static inline F load(const float* p) { return vld1q_f32(p); }
static inline void store(float* p, F x) { vst1q_f32(p, x); }
static inline F set(float x) { return vdupq_n_f32(x); }
static inline F add(F a, F b) { return vaddq_f32(a, b); }
static inline F sub(F a, F b) { return vsubq_f32(a, b); }
static inline F mul(F a, F b) { return vmulq_f32(a, b); }
static inline F div(F a, F b) { return vdivq_f32(a, b); }
static inline F fma(F a, F b, F c) { return vfmaq_f32(c, a, b); }
static inline F fms(F a, F b, F c) { return vnegq_f32(vfmsq_f32(c, a, b)); }
static inline F below(F q, F cut, F x) {
  return vreinterpretq_f32_u32(vandq_u32(vcltq_f32(q, cut), vreinterpretq_u32_f32(x)));
}
#else
using F = float;
constexpr int kLanes = 1;
static inline F load(const float* p) { return *p; }
static inline void store(float* p, F x) { *p = x; }
static inline F set(float x) { return x; }
static inline F add(F a, F b) { return a + b; }
static inline F sub(F a, F b) { return a - b; }
static inline F mul(F a, F b) { return a * b; }
static inline F div(F a, F b) { return a / b; }
static inline F fma(F a, F b, F c) { return a * b + c; }
static inline F fms(F a, F b, F c) { return a * b - c; }
static inline F below(F q, F cut, F x) { return q < cut ? x : 0.0f; }
#endif

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

static inline void prefetch(const void* p) {
#if defined(_MSC_VER) && (defined(GM_USE_AVX512) || defined(GM_USE_AVX2) || defined(GM_USE_SSE2))
  _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T0);
#elif !defined(_MSC_VER)
  __builtin_prefetch(p);
#else
  (void)p;
#endif
}

// Narrow footprints are drawn with vectors of at most eight lanes.
#if defined(GM_USE_AVX512)
using Half = __m256;
static inline void store(float* p, Half x) { _mm256_storeu_ps(p, x); }
static inline Half add(Half a, Half b) { return _mm256_add_ps(a, b); }
static inline Half mul(Half a, Half b) { return _mm256_mul_ps(a, b); }
static inline Half fma(Half a, Half b, Half c) { return _mm256_fmadd_ps(a, b, c); }
static inline Half fms(Half a, Half b, Half c) { return _mm256_fmsub_ps(a, b, c); }
static inline Half below(Half q, Half cut, Half x) {
  return _mm256_maskz_mov_ps(_mm256_cmp_ps_mask(q, cut, _CMP_LT_OQ), x);
}
template <typename V>
static inline V load_as(const float* p);
template <>
inline F load_as<F>(const float* p) {
  return load(p);
}
template <>
inline Half load_as<Half>(const float* p) {
  return _mm256_loadu_ps(p);
}
template <typename V>
static inline V set_as(float x);
template <>
inline F set_as<F>(float x) {
  return set(x);
}
template <>
inline Half set_as<Half>(float x) {
  return _mm256_set1_ps(x);
}
#else
using Half = F;
template <typename V>
static inline V load_as(const float* p) {
  return load(p);
}
template <typename V>
static inline V set_as(float x) {
  return set(x);
}
#endif

// Four neighbouring values, whatever the widest vector is.
#if defined(GM_USE_AVX512) || defined(GM_USE_AVX2) || defined(GM_USE_SSE2)
using Quad = __m128;
static inline Quad load4(const float* p) { return _mm_loadu_ps(p); }
static inline void store4(float* p, Quad x) { _mm_storeu_ps(p, x); }
static inline Quad set4(float x) { return _mm_set1_ps(x); }
static inline Quad mul4(Quad a, Quad b) { return _mm_mul_ps(a, b); }
#if defined(GM_USE_SSE2)
static inline Quad fma4(Quad a, Quad b, Quad c) { return _mm_add_ps(_mm_mul_ps(a, b), c); }
#else
static inline Quad fma4(Quad a, Quad b, Quad c) { return _mm_fmadd_ps(a, b, c); }
#endif
#elif defined(GM_USE_NEON)
using Quad = float32x4_t;
static inline Quad load4(const float* p) { return vld1q_f32(p); }
static inline void store4(float* p, Quad x) { vst1q_f32(p, x); }
static inline Quad set4(float x) { return vdupq_n_f32(x); }
static inline Quad mul4(Quad a, Quad b) { return vmulq_f32(a, b); }
static inline Quad fma4(Quad a, Quad b, Quad c) { return vfmaq_f32(c, a, b); }
#else
struct Quad {
  float x[4];
};
static inline Quad load4(const float* p) { return {{p[0], p[1], p[2], p[3]}}; }
static inline void store4(float* p, Quad a) {
  for (int k = 0; k < 4; ++k) p[k] = a.x[k];
}
static inline Quad set4(float x) { return {{x, x, x, x}}; }
static inline Quad mul4(Quad a, Quad b) {
  return {{a.x[0] * b.x[0], a.x[1] * b.x[1], a.x[2] * b.x[2], a.x[3] * b.x[3]}};
}
static inline Quad fma4(Quad a, Quad b, Quad c) {
  return {{a.x[0] * b.x[0] + c.x[0], a.x[1] * b.x[1] + c.x[1], a.x[2] * b.x[2] + c.x[2], a.x[3] * b.x[3] + c.x[3]}};
}
#endif

// Sums over the lanes of seven vectors, as a tree: the same order every time. total has room for eight.
#if defined(GM_USE_AVX512) || defined(GM_USE_AVX2)
static inline void sum8(__m256 a, __m256 b, __m256 c, __m256 d, __m256 e, __m256 f, __m256 g, float* total) {
  const __m256 ab = _mm256_hadd_ps(a, b), cd = _mm256_hadd_ps(c, d);
  const __m256 ef = _mm256_hadd_ps(e, f), gg = _mm256_hadd_ps(g, g);
  const __m256 low = _mm256_hadd_ps(ab, cd), high = _mm256_hadd_ps(ef, gg);
  _mm256_storeu_ps(total,
                   _mm256_add_ps(_mm256_permute2f128_ps(low, high, 0x20), _mm256_permute2f128_ps(low, high, 0x31)));
}
#if defined(GM_USE_AVX512)
static inline void sum8(F a, F b, F c, F d, F e, F f, F g, float* total) {
  const auto fold = [](F x) { return _mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1)); };
  sum8(fold(a), fold(b), fold(c), fold(d), fold(e), fold(f), fold(g), total);
}
#endif
#else
static inline void sum8(F a, F b, F c, F d, F e, F f, F g, float* total) {
  const F values[7] = {a, b, c, d, e, f, g};
  for (int k = 0; k < 7; ++k) {
    float lane[kLanes];
    store(lane, values[k]);
    for (int step = kLanes / 2; step > 0; step /= 2)
      for (int i = 0; i < step; ++i) lane[i] += lane[i + step];
    total[k] = lane[0];
  }
  total[7] = 0.0f;
}
#endif

// The first `count` floats, zeros after them; for the ends of rows that are not padded.
static inline F load_part(const float* p, int count) {
  if (count >= kLanes) return load(p);
  float lane[kLanes] = {};
  for (int k = 0; k < count; ++k) lane[k] = p[k];
  return load(lane);
}

static inline void store_part(float* p, F x, int count) {
  if (count >= kLanes) return store(p, x);
  float lane[kLanes];
  store(lane, x);
  for (int k = 0; k < count; ++k) p[k] = lane[k];
}

// exp(-q/2) for 0 <= q < 7.82 * 2^Squarings, relative error 3e-6 * 2^Squarings, of q times exp_scale: exp(-q/8)'s
// minimax polynomial, squared twice, and once more for each doubling of the range. At this scale the polynomial's
// leading coefficient is 1, which saves a multiplication; its sign falls to the squares.
static inline int exp_squarings(float cut) { return cut <= 7.82f ? 0 : cut <= 15.6f ? 1 : cut <= 31.2f ? 2 : 3; }
static inline float exp_scale(float cut) { return 4.343903437e-02f / static_cast<float>(1 << exp_squarings(cut)); }

template <int Squarings, typename V>
static inline V exp_half(V scaled_q) {
  V p = add(scaled_q, set_as<V>(-2.622365991e+00f));
  p = fma(p, scaled_q, set_as<V>(3.929641283e+00f));
  p = fma(p, scaled_q, set_as<V>(-4.136807455e+00f));
  p = fma(p, scaled_q, set_as<V>(2.877486653e+00f));
  p = fma(p, scaled_q, set_as<V>(-9.999994127e-01f));
  p = mul(p, p);
  p = mul(p, p);
  for (int k = 0; k < Squarings; ++k) p = mul(p, p);
  return p;
}

}  // namespace GM_ISA
