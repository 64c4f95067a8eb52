// How a plane cuts a splat: the one place of its derivation, its value and its gradient, for CPU and CUDA.
//
// Along the ray eye + t r through a pixel the splat is a Gaussian of t with mean r^T P p / r^T P r and variance
// 1 / r^T P r, so the fraction on the kept side of n.x = d is Phi(z), z = (d - n.(eye + t r)) sqrt(r^T P r) / |n.r| at
// the mean t. With r = r0 + dr, r0 = p / p_z the ray through the mean, B = r0^T P dr, C = dr^T P dr and S = r^T P r =
// r0^T P r0 + 2 B + C:
//     n.(eye + t r) - d = side + depth (n.dr - n.r T),   T = (B + C) / S,   side = n.mean - d,   depth = p_z.
// It is exact, and nothing large cancels. dr is linear in the pixel's place (dx, dy) from the mean, so six products of
// r0, dr/dx and dr/dy ("gram") hold all of P.
//
// Gradient. With h = sqrt(S) / |n.r|, z = -(side + depth (n.dr - n.r T)) h:
//     dz/dside = -h,   dz/ddepth = -h (n.dr - n.r T),   dz/d(n.r0) = h depth T - z / n.r,
//     dz/d(n.dr) = dz/d(n.r0) - h depth,                    since n.r = n.r0 + n.dr,
//     dz/dT = h depth n.r,   dT/dB = (1 - 2 T) / S,   dT/dC = (1 - T) / S,   dT/d(r0^T P r0) = -T / S,
//     dz/dS at fixed T = z / (2 S).
// |n.r| below kParallel counts as that; 1 / n.r is then n.r / kParallel^2.
//
// Written once for floats and for vectors of them: V says which, and Ops has their operations by name.
#pragma once

#include "splats/math.h"

template <typename V>
struct GmCutRay {                      // the cut at a pixel, and what its derivatives need
  V dx, dy;                            // pixel minus mean
  V change, across, inverse, t, h, z;  // n.dr, n.r, 1 / S, T, h, z
};

struct GmCutView {  // the camera's part: n.dr is x dx + y dy
  float x, y;
};

GM_FUNCTION GmCutView gm_cut_view(const GmCamera& camera) {
  return {camera.normal[0] / camera.fx, camera.normal[1] / camera.fy};
}

template <typename Ops, typename V>
GM_FUNCTION GmCutRay<V> gm_cut_ray(const GmSplat& splat, const GmCut& cut, const GmCutView& view, V dx, V dy) {
  GmCutRay<V> r;
  r.dx = dx;
  r.dy = dy;
  r.change = Ops::fma(dx, Ops::set(view.x), Ops::mul(dy, Ops::set(view.y)));
  r.across = Ops::add(r.change, Ops::set(cut.slope));
  const V b = Ops::fma(dx, Ops::set(cut.g01), Ops::mul(dy, Ops::set(cut.g02)));
  const V cross = Ops::fma(dx, Ops::set(cut.g11), Ops::mul(dy, Ops::set(2.0f * cut.g12)));
  const V c = Ops::fma(cross, dx, Ops::mul(Ops::mul(dy, dy), Ops::set(cut.g22)));
  const V bc = Ops::add(b, c), precision = Ops::add(Ops::add(bc, b), Ops::set(cut.g00));
  r.inverse = Ops::div(Ops::set(1.0f), precision);
  r.t = Ops::mul(bc, r.inverse);
  r.h = Ops::div(Ops::root(precision), Ops::most(Ops::magnitude(r.across), Ops::set(kParallel)));
  const V distance =
      Ops::fma(Ops::subtract_product(r.across, r.t, r.change), Ops::set(splat.depth), Ops::set(cut.side));
  r.z = Ops::sub(Ops::set(0.0f), Ops::mul(distance, r.h));
  return r;
}

// Adds a pixel's share to the sums of depth and of the cut; gz = dL/dz.
template <typename Ops, typename V>
GM_FUNCTION void gm_cut_gradient(const GmSplat& splat, const GmCut& cut, const GmCutView& view, const GmCutRay<V>& r,
                                 V gz, V* s) {
  const V zero = Ops::set(0.0f), half = Ops::set(0.5f), two = Ops::set(2.0f);
  const V size = Ops::most(Ops::magnitude(r.across), Ops::set(kParallel));
  const V over = Ops::div(Ops::mul(r.z, r.across), Ops::mul(size, size)), hd = Ops::mul(r.h, Ops::set(splat.depth));
  const V hz = Ops::mul(Ops::mul(hd, r.across), r.inverse), zp = Ops::mul(r.z, r.inverse), ht = Ops::mul(hz, r.t);
  const V da = Ops::mul(gz, Ops::fma(zp, half, Ops::sub(zero, ht)));
  const V db = Ops::mul(gz, Ops::add(zp, Ops::sub(hz, Ops::add(ht, ht))));
  const V dc = Ops::mul(gz, Ops::fma(zp, half, Ops::sub(hz, ht)));
  const V dslope = Ops::mul(gz, Ops::sub(Ops::mul(hd, r.t), over));
  const V dchange = Ops::subtract_product(hd, gz, dslope);
  const V bx = Ops::mul(db, r.dx), cx = Ops::mul(dc, r.dx), cy = Ops::mul(dc, r.dy);
  s[kSplatDepth] =
      Ops::subtract_product(Ops::mul(gz, r.h), Ops::subtract_product(r.across, r.t, r.change), s[kSplatDepth]);
  s[kCutG00] = Ops::add(s[kCutG00], da);
  s[kCutG01] = Ops::add(s[kCutG01], bx);
  s[kCutG02] = Ops::fma(db, r.dy, s[kCutG02]);
  s[kCutG11] = Ops::fma(cx, r.dx, s[kCutG11]);
  s[kCutG12] = Ops::fma(Ops::add(cx, cx), r.dy, s[kCutG12]);
  s[kCutG22] = Ops::fma(cy, r.dy, s[kCutG22]);
  s[kCutSide] = Ops::subtract_product(gz, r.h, s[kCutSide]);
  s[kCutSlope] = Ops::add(s[kCutSlope], dslope);
  const V gx = Ops::fma(cx, Ops::set(cut.g11), Ops::mul(cy, Ops::set(cut.g12)));
  const V gy = Ops::fma(cx, Ops::set(cut.g12), Ops::mul(cy, Ops::set(cut.g22)));
  const V to_x = Ops::fma(db, Ops::set(cut.g01), Ops::mul(two, gx));
  const V to_y = Ops::fma(db, Ops::set(cut.g02), Ops::mul(two, gy));
  s[kCutX] = Ops::add(s[kCutX], Ops::fma(dchange, Ops::set(view.x), to_x));
  s[kCutY] = Ops::add(s[kCutY], Ops::fma(dchange, Ops::set(view.y), to_y));
}
