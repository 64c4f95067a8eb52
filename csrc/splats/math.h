// A 3D Gaussian on a camera's screen, its colour, and how a plane cuts it: the mathematics that CPU and CUDA share.
//
// Projection (elliptical weighted average splatting, Zwicker et al. 2001, as in 3DGS, Kerbl et al. 2023): with the mean
// p = (x, y, z) in camera axes, principal axes V diag(s) and J the projection's derivative at p, T = J V diag(s) and
// the covariance on the screen is T T^T + kLowPass I = [[a, b], [b, c]]. Completing the square along a row,
//     q = A (dx + shear dy)^2 + D dy^2,   A = c / det,   shear = -b / c,   D = 1 / c,
// det is not taken from a c - b^2, which cancels for long thin splats, but from |T0 x T1|^2 + kLowPass tr + kLowPass^2.
// So that the low-pass filter spreads a splat's light and adds none, whatever the distance, its opacity is multiplied
// by |T0 x T1| / sqrt(det) (Mip-Splatting, Yu et al. 2024), unless the camera says not to.
//
// Cut: the alpha is multiplied by the part of the splat that a plane leaves of it along the pixel's ray; see
// cut_math.h.
//
// Gradients. With f = dL/dalpha alpha at a pixel, everything on the screen follows from the sums GmSplatSums; one chain
// per splat turns them into gradients of mean, quaternion, scale, colour and opacity.
#pragma once

#include "support/math.h"

constexpr float kNear = 1.0f;     // mm from the eye's plane
constexpr float kLowPass = 0.3f;  // square pixels
constexpr float kAlphaMin = 1.0f / 255.0f;
constexpr float kAlphaMax = 0.99f;
constexpr float kTransmittanceMin = 1e-4f;
constexpr float kCutSigmas = 3.3f;                   // a splat all of whose rays are further from the plane is not cut
constexpr float kSmallest = 1e-6f, kLargest = 1e6f;  // mm, of scales and (largest) of positions: no overflow
constexpr float kParallel = 1e-6f;                   // smallest |n.r|

struct GmCamera {     // Python packs it (GaussianMRILib/native/splats)
  float rotation[9];  // world to camera, by rows
  float eye[3];       // mm, RAS
  float fx, fy, cx, cy;
  float normal[3];  // of the clip plane, camera axes
  float plane[3];   // the same, RAS
  float offset;     // mm
  float background[3];
  float clipped;      // 1: the plane cuts
  float antialiased;  // 1: the low-pass filter adds no light
};
static_assert(sizeof(GmCamera) == 28 * sizeof(float), "packed");

struct alignas(64) GmSplat {  // one that can be seen, on the screen
  float x, y;                 // centre, pixels
  float A, shear, D;
  float q_max;           // alpha < kAlphaMin beyond
  float half_x, half_y;  // extents of q < q_max
  float opacity, depth;
  float colour[3];
  int straddles;  // the plane cuts it
  int index;      // among all splats
  float spare;
};
static_assert(sizeof(GmSplat) == 64, "one cache line");

struct GmCut {
  float g00, g01, g02, g11, g12, g22;  // products of the rays r0, dr/dx, dr/dy in the splat's metric
  float side, slope;                   // n.mean - d, n.r0
};

// Sums over pixels: f and f times X = dx + shear dy, Y = dy; colour and depth: what arrives times dL/d(image, depth);
// of the cut: derivatives by GmCut's members and by (dx, dy).
enum {
  kSplatF = 0,
  kSplatX,
  kSplatY,
  kSplatXX,
  kSplatXY,
  kSplatYY,
  kSplatRed,
  kSplatGreen,
  kSplatBlue,
  kSplatDepth,
  kSplatSums,
  kCutG00 = kSplatSums,
  kCutG01,
  kCutG02,
  kCutG11,
  kCutG12,
  kCutG22,
  kCutSide,
  kCutSlope,
  kCutX,
  kCutY,
  kSplatCutSums
};

// A splat in the camera's axes. V: float, or vectors of as many splats as they have lanes.
template <typename V>
struct GmSplatPose {
  V p[3];                         // mean in camera axes
  V lx, ly;                       // x / z and y / z where the projection is made affine
  V axes[9];                      // V: columns are the principal axes in camera axes
  V t0[3], t1[3];                 // rows of T
  V white[9];                     // rows: r0, dr/dx, dr/dy in principal axes over scales
  V quaternion[4], inverse_norm;  // of unit norm; 1 / norm before
};

GM_FUNCTION float gm_root(float x) { return sqrtf(x); }
GM_FUNCTION float gm_logarithm(float x) { return logf(x); }
GM_FUNCTION float gm_magnitude(float x) { return fabsf(x); }
GM_FUNCTION float gm_select(bool which, float yes, float no) { return which ? yes : no; }

template <typename V>
GM_FUNCTION V gm_dot3(const V* a, const V* b) {
  return a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
}
template <typename V>
GM_FUNCTION V gm_limit(V x, float low, float high) {
  return gm_select(x < V(low), V(low), gm_select(V(high) < x, V(high), x));
}

// Whether the splat may be drawn, wherever it lies on the screen; if not, what is written has no meaning.
template <typename V>
GM_FUNCTION auto gm_splat_pose(const GmCamera& camera, int width, int height, const V* mean, const V* quaternion,
                               const V* scale, GmSplatPose<V>* out) {
  const float* const r = camera.rotation;
  const V relative[3] = {mean[0] - camera.eye[0], mean[1] - camera.eye[1], mean[2] - camera.eye[2]};
  for (int i = 0; i < 3; ++i)
    out->p[i] = r[3 * i] * relative[0] + r[3 * i + 1] * relative[1] + r[3 * i + 2] * relative[2];
  const V z = out->p[2];
  const V norm2 = quaternion[0] * quaternion[0] + quaternion[1] * quaternion[1] + quaternion[2] * quaternion[2] +
                  quaternion[3] * quaternion[3];
  const V smallest(kSmallest), largest(kLargest), beside = gm_magnitude(out->p[0]), above = gm_magnitude(out->p[1]);
  auto valid =
      (V(kNear) < z) & (z < largest) & (beside < largest) & (above < largest) & (V(0.0f) < norm2) & (norm2 < V(3e38f));
  for (int i = 0; i < 3; ++i) valid = valid & (smallest < scale[i]) & (scale[i] < largest);
  out->inverse_norm = 1.0f / gm_root(norm2);
  for (int i = 0; i < 4; ++i) out->quaternion[i] = quaternion[i] * out->inverse_norm;
  const V w = out->quaternion[0], x = out->quaternion[1], y = out->quaternion[2], t = out->quaternion[3];
  const V R[9] = {1.0f - 2.0f * (y * y + t * t), 2.0f * (x * y - w * t),        2.0f * (x * t + w * y),
                  2.0f * (x * y + w * t),        1.0f - 2.0f * (x * x + t * t), 2.0f * (y * t - w * x),
                  2.0f * (x * t - w * y),        2.0f * (y * t + w * x),        1.0f - 2.0f * (x * x + y * y)};
  for (int m = 0; m < 3; ++m)
    for (int k = 0; k < 3; ++k)
      out->axes[3 * m + k] = r[3 * m] * R[k] + r[3 * m + 1] * R[3 + k] + r[3 * m + 2] * R[6 + k];
  const V iz = 1.0f / z;
  // 3DGS takes the affine approximation no further outside than 30 % of the half view.
  const float ix = 1.0f / camera.fx, iy = 1.0f / camera.fy;
  const float wider = 0.15f * (float)width, higher = 0.15f * (float)height;
  out->lx = gm_limit(out->p[0] * iz, (-camera.cx - wider) * ix, ((float)width - camera.cx + wider) * ix);
  out->ly = gm_limit(out->p[1] * iz, (-camera.cy - higher) * iy, ((float)height - camera.cy + higher) * iy);
  for (int k = 0; k < 3; ++k) {
    out->t0[k] = camera.fx * iz * scale[k] * (out->axes[k] - out->lx * out->axes[6 + k]);
    out->t1[k] = camera.fy * iz * scale[k] * (out->axes[3 + k] - out->ly * out->axes[6 + k]);
  }
  return valid;
}

template <typename V>
GM_FUNCTION void gm_splat_whiten(const GmCamera& camera, const V* scale, GmSplatPose<V>* pose) {
  const V iz = 1.0f / pose->p[2];
  const float ix = 1.0f / camera.fx, iy = 1.0f / camera.fy;
  for (int k = 0; k < 3; ++k) {
    const V is = 1.0f / scale[k];
    pose->white[k] = (pose->p[0] * iz * pose->axes[k] + pose->p[1] * iz * pose->axes[3 + k] + pose->axes[6 + k]) * is;
    pose->white[3 + k] = ix * pose->axes[k] * is;
    pose->white[6 + k] = iy * pose->axes[3 + k] * is;
  }
}

constexpr int kPlaceNumbers = 10, kCutNumbers = sizeof(GmCut) / sizeof(float);

template <typename V>
struct GmSplatShape {
  V place[kPlaceNumbers];  // x to depth of GmSplat
  V cut[kCutNumbers];      // GmCut
  V radius;                // pixels: three standard deviations along the longer axis
  decltype(V() < V()) straddles;
};

// Place splats, all but their colour; whether they can be seen. The cut is there if the camera is clipped.
template <typename V>
GM_FUNCTION auto gm_splat_shape(const GmCamera& camera, int width, int height, const V* mean, const V* quaternion,
                                const V* scale, V opacity, GmSplatShape<V>* out) {
  GmSplatPose<V> pose;
  const V zero(0.0f), one(1.0f), right((float)width), bottom((float)height);
  auto seen = gm_splat_pose(camera, width, height, mean, quaternion, scale, &pose);
  seen = seen & (opacity < V(3e38f));
  opacity = gm_select(one < opacity, one, opacity);
  const V z = pose.p[2], iz = 1.0f / z;
  const V a0 = gm_dot3(pose.t0, pose.t0), b = gm_dot3(pose.t0, pose.t1), c0 = gm_dot3(pose.t1, pose.t1);
  const V cross[3] = {pose.t0[1] * pose.t1[2] - pose.t0[2] * pose.t1[1],
                      pose.t0[2] * pose.t1[0] - pose.t0[0] * pose.t1[2],
                      pose.t0[0] * pose.t1[1] - pose.t0[1] * pose.t1[0]};
  const V a = a0 + kLowPass, c = c0 + kLowPass;
  const V flat = gm_dot3(cross, cross), det = flat + kLowPass * (a0 + c0) + kLowPass * kLowPass;
  if (camera.antialiased > 0.0f) opacity = opacity * gm_root(flat / det);
  const V x = camera.fx * pose.p[0] * iz + camera.cx, y = camera.fy * pose.p[1] * iz + camera.cy;
  const V D = 1.0f / c, q_max = 2.0f * gm_logarithm(opacity * 255.0f);
  const V half_x = gm_root(q_max * a), half_y = gm_root(q_max * c);
  const V place[kPlaceNumbers] = {x, y, c / det, zero - b * D, D, q_max, half_x, half_y, opacity, z};
  for (int i = 0; i < kPlaceNumbers; ++i) out->place[i] = place[i];
  const V half_difference = 0.5f * (a0 - c0);
  out->radius = 3.0f * gm_root(0.5f * (a + c) + gm_root(half_difference * half_difference + b * b));
  seen = seen & (zero < x + half_x) & (x - half_x < right) & (zero < y + half_y) & (y - half_y < bottom) &
         (det < V(3e38f));
  out->straddles = one < zero;
  if (camera.clipped > 0.0f) {
    gm_splat_whiten(camera, scale, &pose);
    const V *const r0 = pose.white, *const rx = r0 + 3, *const ry = r0 + 6;
    const V g00 = gm_dot3(r0, r0), g01 = gm_dot3(r0, rx), g02 = gm_dot3(r0, ry);
    const V side = camera.plane[0] * mean[0] + camera.plane[1] * mean[1] + camera.plane[2] * mean[2] - camera.offset;
    const V slope = (camera.normal[0] * pose.p[0] + camera.normal[1] * pose.p[1]) * iz + camera.normal[2];
    // The mean along the ray moves by g per pixel; the margin covers all rays of q < q_max.
    const V gx = z * (camera.normal[0] / camera.fx - slope * g01 / g00);
    const V gy = z * (camera.normal[1] / camera.fy - slope * g02 / g00);
    const V spread = a * gx * gx + 2.0f * b * gx * gy + c * gy * gy;
    const V widest = gm_root(q_max * gm_select(zero < spread, spread, zero));
    const V margin = widest + kCutSigmas * gm_magnitude(slope) / gm_root(g00);
    seen = seen & (side < margin);
    out->straddles = zero - margin < side;
    const V cut[kCutNumbers] = {g00, g01, g02, gm_dot3(rx, rx), gm_dot3(rx, ry), gm_dot3(ry, ry), side, slope};
    for (int i = 0; i < kCutNumbers; ++i) out->cut[i] = cut[i];
  }
  return seen & (V(kAlphaMin) < opacity);
}

constexpr float kSh0 = 0.28209479177387814f, kSh1 = 0.4886025119029199f;
constexpr float kSh20 = 1.0925484305920792f, kSh21 = 0.31539156525252005f, kSh22 = 0.5462742152960396f;
constexpr float kSh30 = 0.5900435899266435f, kSh31 = 2.890611442640554f, kSh32 = 0.4570457994644658f;
constexpr float kSh33 = 0.3731763325901154f, kSh34 = 1.445305721320277f;

// The first `count` (1, 4, 9 or 16) real spherical harmonics at the unit vector d, 3DGS's order and signs.
GM_FUNCTION void gm_sh_basis(const float* d, int count, float* basis) {
  const float x = d[0], y = d[1], z = d[2];
  basis[0] = kSh0;
  if (count < 4) return;
  basis[1] = -kSh1 * y;
  basis[2] = kSh1 * z;
  basis[3] = -kSh1 * x;
  if (count < 9) return;
  const float xx = x * x, yy = y * y, zz = z * z;
  basis[4] = kSh20 * x * y;
  basis[5] = -kSh20 * y * z;
  basis[6] = kSh21 * (2 * zz - xx - yy);
  basis[7] = -kSh20 * x * z;
  basis[8] = kSh22 * (xx - yy);
  if (count < 16) return;
  basis[9] = -kSh30 * y * (3 * xx - yy);
  basis[10] = kSh31 * x * y * z;
  basis[11] = -kSh32 * y * (4 * zz - xx - yy);
  basis[12] = kSh33 * z * (2 * zz - 3 * xx - 3 * yy);
  basis[13] = -kSh32 * x * (4 * zz - xx - yy);
  basis[14] = kSh34 * z * (xx - yy);
  basis[15] = -kSh30 * x * (xx - 3 * yy);
}

// Gradient of sum w_k basis_k with respect to d.
GM_FUNCTION void gm_sh_gradient(const float* d, int count, const float* w, float* out) {
  const float x = d[0], y = d[1], z = d[2];
  out[0] = out[1] = out[2] = 0.0f;
  if (count < 4) return;
  out[0] = -kSh1 * w[3];
  out[1] = -kSh1 * w[1];
  out[2] = kSh1 * w[2];
  if (count < 9) return;
  out[0] += kSh20 * (y * w[4] - z * w[7]) - 2 * kSh21 * x * w[6] + 2 * kSh22 * x * w[8];
  out[1] += kSh20 * (x * w[4] - z * w[5]) - 2 * kSh21 * y * w[6] - 2 * kSh22 * y * w[8];
  out[2] += -kSh20 * (y * w[5] + x * w[7]) + 4 * kSh21 * z * w[6];
  if (count < 16) return;
  const float xx = x * x, yy = y * y, zz = z * z, xy = x * y, xz = x * z, yz = y * z;
  out[0] += -6 * kSh30 * xy * w[9] + kSh31 * yz * w[10] + 2 * kSh32 * xy * w[11] - 6 * kSh33 * xz * w[12] -
            kSh32 * (4 * zz - 3 * xx - yy) * w[13] + 2 * kSh34 * xz * w[14] - 3 * kSh30 * (xx - yy) * w[15];
  out[1] += -3 * kSh30 * (xx - yy) * w[9] + kSh31 * xz * w[10] - kSh32 * (4 * zz - xx - 3 * yy) * w[11] -
            6 * kSh33 * yz * w[12] + 2 * kSh32 * xy * w[13] - 2 * kSh34 * yz * w[14] + 6 * kSh30 * xy * w[15];
  out[2] += kSh31 * xy * w[10] - 8 * kSh32 * yz * w[11] + 3 * kSh33 * (2 * zz - xx - yy) * w[12] -
            8 * kSh32 * xz * w[13] + kSh34 * (xx - yy) * w[14];
}

// Unit vector from the eye to the mean; returns 1 / distance.
GM_FUNCTION float gm_splat_direction(const GmCamera& camera, const float* mean, float* d) {
  for (int i = 0; i < 3; ++i) d[i] = mean[i] - camera.eye[i];
  const float inverse = 1.0f / sqrtf(gm_dot3(d, d));
  for (int i = 0; i < 3; ++i) d[i] *= inverse;
  return inverse;
}

// False if it is not finite.
GM_FUNCTION bool gm_splat_colour(const float* basis, const float* sh, int count, float* colour) {
  float sum[4] = {0.5f, 0.5f, 0.5f, 0.0f};  // the fourth makes it one vector; only the last coefficient has no fourth
  for (int k = 0; k + 1 < count; ++k)
    for (int i = 0; i < 4; ++i) sum[i] += basis[k] * sh[3 * k + i];
  for (int i = 0; i < 3; ++i) {
    sum[i] += basis[count - 1] * sh[3 * count - 3 + i];
    colour[i] = sum[i] > 0.0f ? sum[i] : 0.0f;
  }
  return fabsf(sum[0]) < 3e38f && fabsf(sum[1]) < 3e38f && fabsf(sum[2]) < 3e38f;
}

struct GmSplatGradient {
  float mean[3], quaternion[4], scale[3], opacity, screen[2];
};

// The chain rule from a visible splat's sums to its parameters, all but the colour's. `straddles`: the sums of the cut
// are there. Adds nothing: writes.
GM_FUNCTION void gm_splat_chain(const GmCamera& camera, int width, int height, const float* mean,
                                const float* quaternion, const float* scale, float opacity, bool straddles,
                                const float* sums, GmSplatGradient* out) {
  GmSplatPose<float> pose;
  gm_splat_pose(camera, width, height, mean, quaternion, scale, &pose);
  const float x = pose.p[0], y = pose.p[1], z = pose.p[2], iz = 1.0f / z;
  const float a0 = gm_dot3(pose.t0, pose.t0), b = gm_dot3(pose.t0, pose.t1), c0 = gm_dot3(pose.t1, pose.t1);
  const float cross[3] = {pose.t0[1] * pose.t1[2] - pose.t0[2] * pose.t1[1],
                          pose.t0[2] * pose.t1[0] - pose.t0[0] * pose.t1[2],
                          pose.t0[0] * pose.t1[1] - pose.t0[1] * pose.t1[0]};
  const float flat = gm_dot3(cross, cross), det = flat + kLowPass * (a0 + c0) + kLowPass * kLowPass;
  const float D = 1.0f / (c0 + kLowPass), A = (c0 + kLowPass) / det, shear = -b * D;
  out->opacity = opacity > 1.0f ? 0.0f : sums[kSplatF] / opacity;  // above 1 it counts as 1
  out->screen[0] = A * sums[kSplatX];
  out->screen[1] = A * shear * sums[kSplatX] + D * sums[kSplatY];
  if (straddles) {
    out->screen[0] -= sums[kCutX];
    out->screen[1] -= sums[kCutY];
  }
  // dL/dcovariance = [[u, v], [v, w]], then T, then axes and scales.
  float u = 0.5f * A * A * sums[kSplatXX];
  float v = u * shear + 0.5f * A * D * sums[kSplatXY];
  float w = shear * (v + 0.5f * A * D * sums[kSplatXY]) + 0.5f * D * D * sums[kSplatYY];
  float by_flat = 0.0f;
  if (camera.antialiased > 0.0f) {  // the opacity's factor has the logarithm (log flat - log det) / 2
    by_flat = sums[kSplatF] / flat;
    u -= 0.5f * sums[kSplatF] * A;
    v -= 0.5f * sums[kSplatF] * A * shear;
    w -= 0.5f * sums[kSplatF] * (A * shear * shear + D);
  }
  const float fx = camera.fx * iz, fy = camera.fy * iz;
  float dp[3] = {0, 0, sums[kSplatDepth]}, dlx = 0, dly = 0, along0 = 0, along1 = 0, daxes[9];
  for (int k = 0; k < 3; ++k) {
    const int l = (k + 1) % 3, m = (k + 2) % 3;
    const float d0 =
        2.0f * (u * pose.t0[k] + v * pose.t1[k]) + by_flat * (pose.t1[l] * cross[m] - pose.t1[m] * cross[l]);
    const float d1 =
        2.0f * (v * pose.t0[k] + w * pose.t1[k]) + by_flat * (cross[l] * pose.t0[m] - cross[m] * pose.t0[l]);
    along0 += d0 * pose.t0[k];
    along1 += d1 * pose.t1[k];
    dlx -= fx * d0 * scale[k] * pose.axes[6 + k];
    dly -= fy * d1 * scale[k] * pose.axes[6 + k];
    const float dm0 = fx * d0, dm1 = fy * d1, dm2 = -pose.lx * dm0 - pose.ly * dm1;
    out->scale[k] = dm0 * pose.axes[k] + dm1 * pose.axes[3 + k] + dm2 * pose.axes[6 + k];
    daxes[k] = dm0 * scale[k];
    daxes[3 + k] = dm1 * scale[k];
    daxes[6 + k] = dm2 * scale[k];
  }
  dp[2] -= (along0 + along1) * iz;                                           // T is proportional to 1 / z
  float dray[2] = {camera.fx * out->screen[0], camera.fy * out->screen[1]};  // dL/d(x / z, y / z)
  if (pose.lx == x * iz) dray[0] += dlx;                                     // not at its limit
  if (pose.ly == y * iz) dray[1] += dly;
  for (int i = 0; i < 3; ++i) out->mean[i] = 0.0f;
  if (straddles) {
    gm_splat_whiten(camera, scale, &pose);
    const float ix = 1.0f / camera.fx, iy = 1.0f / camera.fy;
    const float* const g = sums + kCutG00;  // g00, g01, g02, g11, g12, g22
    dray[0] += sums[kCutSlope] * camera.normal[0];
    dray[1] += sums[kCutSlope] * camera.normal[1];
    for (int k = 0; k < 3; ++k) {
      const float is = 1.0f / scale[k], y0 = pose.white[k], y1 = pose.white[3 + k], y2 = pose.white[6 + k];
      const float d0 = 2.0f * g[0] * y0 + g[1] * y1 + g[2] * y2;
      const float d1 = g[1] * y0 + 2.0f * g[3] * y1 + g[4] * y2;
      const float d2 = g[2] * y0 + g[4] * y1 + 2.0f * g[5] * y2;
      out->scale[k] -= (d0 * y0 + d1 * y1 + d2 * y2) * is;
      daxes[k] += (x * iz * d0 + ix * d1) * is;
      daxes[3 + k] += (y * iz * d0 + iy * d2) * is;
      daxes[6 + k] += d0 * is;
      dray[0] += d0 * pose.axes[k] * is;
      dray[1] += d0 * pose.axes[3 + k] * is;
    }
    for (int i = 0; i < 3; ++i) out->mean[i] = sums[kCutSide] * camera.plane[i];
  }
  dp[0] = dray[0] * iz;
  dp[1] = dray[1] * iz;
  dp[2] -= (dray[0] * x + dray[1] * y) * iz * iz;
  for (int i = 0; i < 3; ++i)
    out->mean[i] += camera.rotation[i] * dp[0] + camera.rotation[3 + i] * dp[1] + camera.rotation[6 + i] * dp[2];
  float g[9];  // dL/dR
  for (int i = 0; i < 3; ++i)
    for (int k = 0; k < 3; ++k)
      g[3 * i + k] =
          camera.rotation[i] * daxes[k] + camera.rotation[3 + i] * daxes[3 + k] + camera.rotation[6 + i] * daxes[6 + k];
  const float qw = pose.quaternion[0], qx = pose.quaternion[1], qy = pose.quaternion[2], qz = pose.quaternion[3];
  const float dq[4] = {2 * (qz * (g[3] - g[1]) + qy * (g[2] - g[6]) + qx * (g[7] - g[5])),
                       2 * (qy * (g[1] + g[3]) + qz * (g[2] + g[6]) + qw * (g[7] - g[5]) - 2 * qx * (g[4] + g[8])),
                       2 * (qx * (g[1] + g[3]) + qz * (g[5] + g[7]) + qw * (g[2] - g[6]) - 2 * qy * (g[0] + g[8])),
                       2 * (qx * (g[2] + g[6]) + qy * (g[5] + g[7]) + qw * (g[3] - g[1]) - 2 * qz * (g[0] + g[4]))};
  const float radial = qw * dq[0] + qx * dq[1] + qy * dq[2] + qz * dq[3];
  for (int i = 0; i < 4; ++i) out->quaternion[i] = (dq[i] - radial * pose.quaternion[i]) * pose.inverse_norm;
}

// The colour's part: dsh [count, 3] is written, the direction's share added to dmean. basis: of gm_sh_basis.
GM_FUNCTION void gm_splat_colour_chain(const GmCamera& camera, const float* mean, const float* sh, int count,
                                       const float* dcolour, float* dsh, float* dmean) {
  float d[3], basis[16], colour[3], masked[3], w[16], dd[3];
  const float inverse = gm_splat_direction(camera, mean, d);
  gm_sh_basis(d, count, basis);
  gm_splat_colour(basis, sh, count, colour);
  for (int i = 0; i < 3; ++i) masked[i] = colour[i] > 0.0f ? dcolour[i] : 0.0f;
  for (int k = 0; k < count; ++k) {
    for (int i = 0; i < 3; ++i) dsh[3 * k + i] = basis[k] * masked[i];
    w[k] = gm_dot3(sh + 3 * k, masked);
  }
  gm_sh_gradient(d, count, w, dd);
  const float radial = gm_dot3(d, dd);
  for (int i = 0; i < 3; ++i) dmean[i] += (dd[i] - radial * d[i]) * inverse;
}

// What a pixel's gradients of image, alpha and depth make a splat worth that adds one unit of weight there:
//     worth = pull[0..2].colour + pull[3] (its depth - the pixel's depth) + pull[4].
// Returns the sum over splats of weight times worth; `image` is the picture over the background.
GM_FUNCTION float gm_splat_pull(const GmCamera& camera, const float* image, float alpha, const float* grad_image,
                                float grad_alpha, float grad_depth, float* pull) {
  float total = 0.0f;
  pull[3] = alpha > 0.0f ? grad_depth / alpha : 0.0f;
  pull[4] = grad_alpha;
  for (int i = 0; i < 3; ++i) {
    pull[i] = grad_image[i];
    pull[4] -= grad_image[i] * camera.background[i];
    total += grad_image[i] * (image[i] - (1.0f - alpha) * camera.background[i]);
  }
  return total + pull[4] * alpha;
}
