// A 3D Gaussian seen on a plane: the mathematics that CPU and CUDA kernels share.
//
// A Gaussian has a mean m (mm, RAS), an upper triangular precision factor M (1/mm), a colour c and an amplitude a:
//     w(x) = a exp(-q(x)/2),   q(x) = |M (x - m)|^2,   Sigma = (M^T M)^-1,   only where q < cut.
// A plane has an origin o (centre of pixel (0,0)), steps u and v per column and per row (mm, any angle between them)
// and the unit normal n; one of its parallels lies `offset` mm further along n:
//     x(s, t) = o + s u + t v + offset n.
//
// Let d = n.(m - o) - offset be the signed distance of the mean from that parallel. The point of the parallel with
// the smallest q is m - d Sigma n / (n^T Sigma n), and the minimum there is q0 = d^2 / (n^T Sigma n). Around it q is
// a 2D quadratic with the conic A = |M u|^2, B = Mu.Mv, C = |M v|^2. Completing the square along a row (det = AC-B^2):
//     q(s, t) = q0 + A (s - s0 + shear (t - t0))^2 + D (t - t0)^2,   shear = B/A,   D = det/A.
// det is not taken from AC - B^2, which cancels for long thin Gaussians, but from
//     det = (M00 M11 M22)^2 (n^T Sigma n) |u x v|^2.
// Everything but d is the same on all parallels, so a slice profile costs one projection, not one per sample.
//
// Gradient. With f = dL/dw w at a pixel, dL/dq = -f/2. Every parameter follows from the sums over pixels
//     N = sum (w / density) dL/dI,   F = sum f,   and F times {X, Y, XX, XY, YY},
// where (X, Y) is the pixel's position relative to the mean's own pixel coordinates, for then
//     x - m = X u + Y v - d n,
// and sum f (x-m), sum f (x-m)(x-m)^T are linear in these moments. They add over parallels and planes in RAS, and the
// chain to (m, M, a, c) happens once per Gaussian:
//     dL/dm = P sum f (x-m),   dL/dM = -triu(M sum f (x-m)(x-m)^T),   dL/da = F / a,   dL/dc = N.
#pragma once

#include "support/math.h"

// Rows of the packed parameter tensor (kParameterRows, N).
enum { kMeanX = 0, kMeanY, kMeanZ, kM00, kM01, kM02, kM11, kM12, kM22, kColour, kAmplitude, kParameterRows };

// Sums over pixels, kept per Gaussian during the backward pass: F, N, sum f d (3), sum f d d^T (xx xy xz yy yz zz).
enum { kSumF = 0, kSumN, kSumX, kSumY, kSumZ, kSumXX, kSumXY, kSumXZ, kSumYY, kSumYZ, kSumZZ, kSumRows };

// Of a packed count of the CUDA kernels: visible units in the bits above, entries (unit, tile) in these, so that one
// prefix sum serves both.
constexpr int kEntryBits = 36;

struct GmPlane {
  float origin[3];
  float u[3], v[3], n[3];  // step along columns, step along rows, unit normal
  float du[3], dv[3];      // dual vectors: du.u = dv.v = 1, du.v = dv.u = 0, du.n = dv.n = 0
  float area2;             // |u x v|^2
};

struct GmFootprint {
  float s, t;       // pixel coordinates (column, row) of the mean, projected along the normal
  float ks, kt;     // the footprint's centre is (s - ks d, t - kt d) at distance d
  float distance;   // n.(m - o), mm: d = distance - offset
  float precision;  // 1 / (n^T Sigma n): q0 = d^2 precision
  float A, shear, D;
};

// frame: origin, u, v, n (12 floats). Plain floats suffice: the frame is exact to float precision anyway.
GM_FUNCTION GmPlane gm_make_plane(const float* frame) {
  GmPlane p;
  for (int k = 0; k < 3; ++k) {
    p.origin[k] = frame[k];
    p.u[k] = frame[3 + k];
    p.v[k] = frame[6 + k];
    p.n[k] = frame[9 + k];
  }
  for (int k = 0; k < 3; ++k) {
    const int i = (k + 1) % 3, j = (k + 2) % 3;
    p.du[k] = p.v[i] * p.n[j] - p.v[j] * p.n[i];
    p.dv[k] = p.n[i] * p.u[j] - p.n[j] * p.u[i];
  }
  const float su = gm_dot(p.du, p.u[0], p.u[1], p.u[2]), sv = gm_dot(p.dv, p.v[0], p.v[1], p.v[2]);
  for (int k = 0; k < 3; ++k) {
    p.du[k] /= su;
    p.dv[k] /= sv;
  }
  p.area2 = su * su;  // v x n . u = n . (u x v) = +-|u x v|, the normal being perpendicular to both
  return p;
}

// y = M^-T n by forward substitution; |y|^2 = n^T Sigma n is the variance along n (mm^2).
GM_FUNCTION float gm_variance_along(const float* n, float M00, float M01, float M02, float M11, float M12, float M22,
                                    float* y) {
  const float y0 = n[0] / M00;
  const float y1 = (n[1] - M01 * y0) / M11;
  const float y2 = (n[2] - M02 * y0 - M12 * y1) / M22;
  y[0] = y0;
  y[1] = y1;
  y[2] = y2;
  return y0 * y0 + y1 * y1 + y2 * y2;
}

GM_FUNCTION GmFootprint gm_project(const GmPlane& p, float mx, float my, float mz, float M00, float M01, float M02,
                                   float M11, float M12, float M22) {
  GmFootprint f;
  float y[3];
  const float variance = gm_variance_along(p.n, M00, M01, M02, M11, M12, M22, y);
  f.precision = 1.0f / variance;
  const float z2 = y[2] / M22;  // z = Sigma n = M^-1 y
  const float z1 = (y[1] - M12 * z2) / M11;
  const float z0 = (y[0] - M01 * z1 - M02 * z2) / M00;
  const float ex = mx - p.origin[0], ey = my - p.origin[1], ez = mz - p.origin[2];
  f.distance = gm_dot(p.n, ex, ey, ez);
  f.s = gm_dot(p.du, ex, ey, ez);
  f.t = gm_dot(p.dv, ex, ey, ez);
  f.ks = gm_dot(p.du, z0, z1, z2) * f.precision;
  f.kt = gm_dot(p.dv, z0, z1, z2) * f.precision;
  const float a0 = M00 * p.u[0] + M01 * p.u[1] + M02 * p.u[2], b0 = M00 * p.v[0] + M01 * p.v[1] + M02 * p.v[2];
  const float a1 = M11 * p.u[1] + M12 * p.u[2], b1 = M11 * p.v[1] + M12 * p.v[2];
  const float a2 = M22 * p.u[2], b2 = M22 * p.v[2];
  const float volume = M00 * M11 * M22;
  f.A = a0 * a0 + a1 * a1 + a2 * a2;
  f.shear = (a0 * b0 + a1 * b1 + a2 * b2) / f.A;
  f.D = volume * volume * variance * p.area2 / f.A;
  return f;
}

// True when the footprint can be drawn: finite, with a definite quadratic. NaN makes every comparison false.
GM_FUNCTION bool gm_valid(const GmFootprint& f, float colour, float amplitude) {
  const float sum = f.s + f.t + f.ks + f.kt + f.distance + f.precision + f.A + f.shear + f.D + colour + amplitude;
  return (sum - sum == 0.0f) & (f.A > 0.0f) & (f.D > 0.0f) & (f.precision > 0.0f) & (amplitude > 0.0f);
}

// Half extents (pixels) of the ellipse q - q0 < rest along rows and columns, rest = cut - q0 >= 0.
GM_FUNCTION float gm_half_rows(const GmFootprint& f, float rest) { return sqrtf(rest / f.D); }
GM_FUNCTION float gm_half_columns(const GmFootprint& f, float rest) {
  return sqrtf(rest * (1.0f / f.A + f.shear * f.shear / f.D));
}

// Add one parallel's moments to the plane's sums in the basis (u, v, n): F, FX, FY, FXX, FXY, FYY are sums of
// f {1, X, Y, XX, XY, YY} with X, Y relative to the mean's own pixel coordinates; d is the mean's distance.
// plane_sums: F, N, u, v, n, uu, uv, un, vv, vn, nn (kSumRows).
GM_FUNCTION void gm_add_parallel(float* plane_sums, float d, float N, float F, float FX, float FY, float FXX, float FXY,
                                 float FYY) {
  plane_sums[kSumF] += F;
  plane_sums[kSumN] += N;
  plane_sums[kSumX] += FX;
  plane_sums[kSumY] += FY;
  plane_sums[kSumZ] -= d * F;
  plane_sums[kSumXX] += FXX;
  plane_sums[kSumXY] += FXY;
  plane_sums[kSumXZ] -= d * FX;
  plane_sums[kSumYY] += FYY;
  plane_sums[kSumYZ] -= d * FY;
  plane_sums[kSumZZ] += d * d * F;
}

// Moments about another point: the kernels sum in coordinates (x, y) where X = x + sx - shear y, Y = y + sy.
GM_FUNCTION void gm_shift_moments(float shear, float sx, float sy, float F, float* Fx, float* Fy, float* Fxx,
                                  float* Fxy, float* Fyy) {
  const float x = *Fx - shear * *Fy, y = *Fy;
  const float xx = *Fxx - 2.0f * shear * *Fxy + shear * shear * *Fyy, xy = *Fxy - shear * *Fyy, yy = *Fyy;
  *Fx = x + sx * F;
  *Fy = y + sy * F;
  *Fxx = xx + 2.0f * sx * x + sx * sx * F;
  *Fxy = xy + sx * y + sy * x + sx * sy * F;
  *Fyy = yy + 2.0f * sy * y + sy * sy * F;
}

// Component (i, j) in RAS of sum f d d^T, given in the basis (u, v, n).
GM_FUNCTION float gm_second_moment(const GmPlane& p, const float* sums, int i, int j) {
  const float u = sums[kSumXX] * p.u[j] + sums[kSumXY] * p.v[j] + sums[kSumXZ] * p.n[j];
  const float v = sums[kSumXY] * p.u[j] + sums[kSumYY] * p.v[j] + sums[kSumYZ] * p.n[j];
  const float n = sums[kSumXZ] * p.u[j] + sums[kSumYZ] * p.v[j] + sums[kSumZZ] * p.n[j];
  return p.u[i] * u + p.v[i] * v + p.n[i] * n;
}

// Rotate the plane's sums from (u, v, n) to RAS: result[k] is to be added to the Gaussian's sums. Written out, because
// compilers vectorise loops over Gaussians only when there is no loop inside.
GM_FUNCTION void gm_plane_sums_to_ras(const GmPlane& p, const float* sums, float* result) {
  result[kSumF] = sums[kSumF];
  result[kSumN] = sums[kSumN];
  result[kSumX] = sums[kSumX] * p.u[0] + sums[kSumY] * p.v[0] + sums[kSumZ] * p.n[0];
  result[kSumY] = sums[kSumX] * p.u[1] + sums[kSumY] * p.v[1] + sums[kSumZ] * p.n[1];
  result[kSumZ] = sums[kSumX] * p.u[2] + sums[kSumY] * p.v[2] + sums[kSumZ] * p.n[2];
  result[kSumXX] = gm_second_moment(p, sums, 0, 0);
  result[kSumXY] = gm_second_moment(p, sums, 0, 1);
  result[kSumXZ] = gm_second_moment(p, sums, 0, 2);
  result[kSumYY] = gm_second_moment(p, sums, 1, 1);
  result[kSumYZ] = gm_second_moment(p, sums, 1, 2);
  result[kSumZZ] = gm_second_moment(p, sums, 2, 2);
}

// Chain rule from the sums (RAS) to the parameters; gradient has the rows of the packed tensor.
GM_FUNCTION void gm_chain_to_parameters(const float* sums, float M00, float M01, float M02, float M11, float M12,
                                        float M22, float amplitude, float* gradient) {
  const float x = sums[kSumX], y = sums[kSumY], z = sums[kSumZ];
  const float h0 = M00 * x + M01 * y + M02 * z, h1 = M11 * y + M12 * z, h2 = M22 * z;
  gradient[kMeanX] = M00 * h0;
  gradient[kMeanY] = M01 * h0 + M11 * h1;
  gradient[kMeanZ] = M02 * h0 + M12 * h1 + M22 * h2;
  const float xx = sums[kSumXX], xy = sums[kSumXY], xz = sums[kSumXZ];
  const float yy = sums[kSumYY], yz = sums[kSumYZ], zz = sums[kSumZZ];
  gradient[kM00] = -(M00 * xx + M01 * xy + M02 * xz);
  gradient[kM01] = -(M00 * xy + M01 * yy + M02 * yz);
  gradient[kM02] = -(M00 * xz + M01 * yz + M02 * zz);
  gradient[kM11] = -(M11 * yy + M12 * yz);
  gradient[kM12] = -(M11 * yz + M12 * zz);
  gradient[kM22] = -(M22 * zz);
  gradient[kColour] = sums[kSumN];
  gradient[kAmplitude] = sums[kSumF] / amplitude;
}
