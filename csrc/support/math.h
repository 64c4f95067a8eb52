// What the mathematics of every kernel begins with; it compiles for processors and, without a header of theirs, for
// CUDA.
#pragma once

#if defined(__CUDACC__) || defined(__CUDACC_RTC__)
#define GM_INLINE __device__ __forceinline__
#define GM_FUNCTION GM_INLINE
#else
#include <math.h>
#define GM_INLINE inline
#define GM_FUNCTION static GM_INLINE
#endif

GM_FUNCTION float gm_dot(const float* a, float x, float y, float z) { return a[0] * x + a[1] * y + a[2] * z; }

struct Vec3 {  // a point, a direction, or a colour
  float x, y, z;
};

GM_FUNCTION Vec3 operator+(const Vec3& a, const Vec3& b) { return {a.x + b.x, a.y + b.y, a.z + b.z}; }
GM_FUNCTION Vec3 operator-(const Vec3& a, const Vec3& b) { return {a.x - b.x, a.y - b.y, a.z - b.z}; }
GM_FUNCTION Vec3 operator-(const Vec3& a) { return {-a.x, -a.y, -a.z}; }
GM_FUNCTION Vec3 operator*(float s, const Vec3& a) { return {s * a.x, s * a.y, s * a.z}; }
GM_FUNCTION Vec3 operator*(const Vec3& a, const Vec3& b) { return {a.x * b.x, a.y * b.y, a.z * b.z}; }  // of colours
GM_FUNCTION Vec3 operator*(const Vec3& a, float s) { return s * a; }
GM_FUNCTION Vec3 operator/(const Vec3& a, float s) { return {a.x / s, a.y / s, a.z / s}; }
GM_FUNCTION float gm_dot(const Vec3& a, const Vec3& b) { return a.x * b.x + a.y * b.y + a.z * b.z; }
GM_FUNCTION float gm_dot(const float* a, const Vec3& b) { return gm_dot(a, b.x, b.y, b.z); }
GM_FUNCTION float gm_largest(const Vec3& a) {
  const float most = a.x > a.y ? a.x : a.y;
  return most > a.z ? most : a.z;
}
GM_FUNCTION void gm_add(const Vec3& a, float* to) {
  to[0] += a.x;
  to[1] += a.y;
  to[2] += a.z;
}

constexpr int kTile = 16;  // pixels along each side of the tiles that pictures are cut into
constexpr int kTilePixels = kTile * kTile;
