// Comparisons, and functions of vectors by polynomials, on top of simd.h.
#pragma once

#include <stdint.h>

#include "support/simd.h"

#if defined(_MSC_VER)
#include <intrin.h>
#endif

namespace GM_ISA {

#if defined(GM_USE_AVX512)
using M = __mmask16;
static inline M less(F a, F b) { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ); }
static inline M both(M a, M b) { return static_cast<M>(a & b); }
static inline M first_only(M a, M b) { return static_cast<M>(a & ~b); }
static inline bool any(M m) { return m != 0; }
static inline unsigned bits(M m) { return m; }
static inline F select(M m, F yes, F no) { return _mm512_mask_blend_ps(m, no, yes); }
static inline F keep(M m, F x) { return _mm512_maskz_mov_ps(m, x); }
static inline F drop(M m, F x) { return _mm512_maskz_mov_ps(static_cast<M>(~m), x); }
static inline F least(F a, F b) { return _mm512_min_ps(a, b); }
static inline F most(F a, F b) { return _mm512_max_ps(a, b); }
static inline F root(F x) { return _mm512_sqrt_ps(x); }
static inline F magnitude(F x) { return _mm512_abs_ps(x); }
#elif defined(GM_USE_AVX2)
using M = __m256;
static inline M less(F a, F b) { return _mm256_cmp_ps(a, b, _CMP_LT_OQ); }
static inline M both(M a, M b) { return _mm256_and_ps(a, b); }
static inline M first_only(M a, M b) { return _mm256_andnot_ps(b, a); }
static inline bool any(M m) { return _mm256_movemask_ps(m) != 0; }
static inline unsigned bits(M m) { return static_cast<unsigned>(_mm256_movemask_ps(m)); }
static inline F select(M m, F yes, F no) { return _mm256_blendv_ps(no, yes, m); }
static inline F keep(M m, F x) { return _mm256_and_ps(m, x); }
static inline F drop(M m, F x) { return _mm256_andnot_ps(m, x); }
static inline F least(F a, F b) { return _mm256_min_ps(a, b); }
static inline F most(F a, F b) { return _mm256_max_ps(a, b); }
static inline F root(F x) { return _mm256_sqrt_ps(x); }
static inline F magnitude(F x) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), x); }
#elif defined(GM_USE_SSE2)
using M = __m128;
static inline M less(F a, F b) { return _mm_cmplt_ps(a, b); }
static inline M both(M a, M b) { return _mm_and_ps(a, b); }
static inline M first_only(M a, M b) { return _mm_andnot_ps(b, a); }
static inline bool any(M m) { return _mm_movemask_ps(m) != 0; }
static inline unsigned bits(M m) { return static_cast<unsigned>(_mm_movemask_ps(m)); }
static inline F select(M m, F yes, F no) { return _mm_or_ps(_mm_and_ps(m, yes), _mm_andnot_ps(m, no)); }
static inline F keep(M m, F x) { return _mm_and_ps(m, x); }
static inline F drop(M m, F x) { return _mm_andnot_ps(m, x); }
static inline F least(F a, F b) { return _mm_min_ps(a, b); }
static inline F most(F a, F b) { return _mm_max_ps(a, b); }
static inline F root(F x) { return _mm_sqrt_ps(x); }
static inline F magnitude(F x) { return _mm_andnot_ps(_mm_set1_ps(-0.0f), x); }
#elif defined(GM_USE_NEON)
using M = uint32x4_t;
static inline M less(F a, F b) { return vcltq_f32(a, b); }
static inline M both(M a, M b) { return vandq_u32(a, b); }
static inline M first_only(M a, M b) { return vbicq_u32(a, b); }
static inline bool any(M m) { return vmaxvq_u32(m) != 0; }
static inline unsigned bits(M m) {
  const uint32x4_t ones = {1, 2, 4, 8};
  return vaddvq_u32(vandq_u32(m, ones));
}
static inline F select(M m, F yes, F no) { return vbslq_f32(m, yes, no); }
static inline F keep(M m, F x) { return vreinterpretq_f32_u32(vandq_u32(m, vreinterpretq_u32_f32(x))); }
static inline F drop(M m, F x) { return vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(x), m)); }
static inline F least(F a, F b) { return vminq_f32(a, b); }
static inline F most(F a, F b) { return vmaxq_f32(a, b); }
static inline F root(F x) { return vsqrtq_f32(x); }
static inline F magnitude(F x) { return vabsq_f32(x); }
#else
using M = bool;
static inline M less(F a, F b) { return a < b; }
static inline M both(M a, M b) { return a && b; }
static inline M first_only(M a, M b) { return a && !b; }
static inline bool any(M m) { return m; }
static inline unsigned bits(M m) { return m; }
static inline F select(M m, F yes, F no) { return m ? yes : no; }
static inline F keep(M m, F x) { return m ? x : 0.0f; }
static inline F drop(M m, F x) { return m ? 0.0f : x; }
static inline F least(F a, F b) { return a < b ? a : b; }
static inline F most(F a, F b) { return a > b ? a : b; }
static inline F root(F x) { return sqrtf(x); }
static inline F magnitude(F x) { return fabsf(x); }
#endif

static inline int lowest_bit(uint64_t bits) {  // of those that are set; there is one
#if defined(_MSC_VER)
  unsigned long index;
  _BitScanForward64(&index, bits);
  return static_cast<int>(index);
#else
  return __builtin_ctzll(bits);
#endif
}

// Of pixels next to each other, as many as the widest vectors hold.
alignas(64) static const float kLaneNumbers[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

static inline F subtract_product(F a, F b, F c) { return sub(c, mul(a, b)); }  // c - a b

// The operations by name, for what is written once for floats and vectors.
struct Lanes {
  static F set(float x) { return GM_ISA::set(x); }
  static F add(F a, F b) { return GM_ISA::add(a, b); }
  static F sub(F a, F b) { return GM_ISA::sub(a, b); }
  static F mul(F a, F b) { return GM_ISA::mul(a, b); }
  static F div(F a, F b) { return GM_ISA::div(a, b); }
  static F fma(F a, F b, F c) { return GM_ISA::fma(a, b, c); }
  static F subtract_product(F a, F b, F c) { return GM_ISA::subtract_product(a, b, c); }
  static F root(F x) { return GM_ISA::root(x); }
  static F most(F a, F b) { return GM_ISA::most(a, b); }
  static F magnitude(F x) { return GM_ISA::magnitude(x); }
};

// A vector with the operators of a float, for formulas that are written once for both.
struct Wide {
  F v;
  Wide() = default;
  Wide(F all) : v(all) {}
#if defined(GM_USE_AVX512) || defined(GM_USE_AVX2) || defined(GM_USE_SSE2) || defined(GM_USE_NEON)
  Wide(float each) : v(set(each)) {}
#endif
};
struct WideMask {
  M m;
};

static inline Wide operator+(Wide a, Wide b) { return add(a.v, b.v); }
static inline Wide operator-(Wide a, Wide b) { return sub(a.v, b.v); }
static inline Wide operator*(Wide a, Wide b) { return mul(a.v, b.v); }
static inline Wide operator/(Wide a, Wide b) { return div(a.v, b.v); }
static inline WideMask operator<(Wide a, Wide b) { return {less(a.v, b.v)}; }
static inline WideMask operator&(WideMask a, WideMask b) { return {both(a.m, b.m)}; }
static inline Wide gm_root(Wide x) { return root(x.v); }
static inline Wide gm_magnitude(Wide x) { return magnitude(x.v); }
static inline Wide gm_select(WideMask which, Wide yes, Wide no) { return select(which.m, yes.v, no.v); }
static inline Wide gm_logarithm(Wide x) {
  float lane[kLanes];
  store(lane, x.v);
  for (int i = 0; i < kLanes; ++i) lane[i] = logf(lane[i]);
  return load(lane);
}

// exp(-q/2) for 0 <= q <= 1.4 * 2^Squarings, relative error 6e-8 * 2^Squarings: a minimax polynomial of
// exp(-q / 2^(Squarings + 1)), squared. Outside the range it is finite, not meant.
template <int Squarings>
static inline F exp_minus_half(F q) {
  const F u = mul(q, set(0.5f / static_cast<float>(1 << Squarings)));
  F p = set(9.749933007e-04f);
  p = fma(p, u, set(-7.949696579e-03f));
  p = fma(p, u, set(4.148356510e-02f));
  p = fma(p, u, set(-1.666208784e-01f));
  p = fma(p, u, set(4.999944551e-01f));
  p = fma(p, u, set(-9.999997435e-01f));
  p = fma(p, u, set(1.0f));
  for (int k = 0; k < Squarings; ++k) p = mul(p, p);
  return p;
}

constexpr float kPhiEnd = 4.6f;

// The normal distribution function at z, |z| <= kPhiEnd, error 1e-6, and its density (Abramowitz & Stegun 26.2.17).
static inline F normal_distribution(F z, F* density) {
  const F size = magnitude(z);
  *density = mul(exp_minus_half<4>(mul(z, z)), set(0.3989422804f));
  const F t = div(set(1.0f), fma(size, set(0.2316419f), set(1.0f)));
  F p = set(1.330274429f);
  p = fma(p, t, set(-1.821255978f));
  p = fma(p, t, set(1.781477937f));
  p = fma(p, t, set(-0.356563782f));
  p = fma(p, t, set(0.319381530f));
  const F beyond = mul(mul(p, t), *density);
  return select(less(z, set(0.0f)), beyond, sub(set(1.0f), beyond));
}

}  // namespace GM_ISA
