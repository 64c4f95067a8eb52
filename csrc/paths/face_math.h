// Faces that planes cut into a path tracer's volume, without tracing, for CPU and CUDA.
#pragma once

#include "paths/math.h"

// sRGB's curve.
GM_FUNCTION float gm_trace_screen(float x) {
  return x <= 0.0031308f ? 12.92f * x : 1.055f * powf(x, 1.0f / 2.4f) - 0.055f;
}

// As displayed, 0..1: 1 - exp(-exposure x), then the screen's curve.
GM_FUNCTION float gm_trace_tone(float x, float exposure) { return gm_trace_screen(1.0f - expf(-exposure * x)); }

// Irradiance at a point of a plane that nothing hides: the dome's (rgb of each plane), and the lights' power from four
// points on each.
GM_FUNCTION Vec3 gm_trace_irradiance(const GmTraceScene& s, const float* dome, int face, const Vec3& position) {
  const Vec3& normal = s.normal[face];
  Vec3 irradiance = {dome[3 * face], dome[3 * face + 1], dome[3 * face + 2]};
  for (int l = 0; l < s.lights; ++l) {
    const GmTraceLight& light = s.light[l];
    float total = 0.0f;
    for (int corner = 0; corner < 4; ++corner) {
      const float u = corner & 1 ? 0.5f : -0.5f, w = corner & 2 ? 0.5f : -0.5f;
      const Vec3 to = light.centre + u * light.u + w * light.v - position;
      const float square = gm_dot(to, to);
      const float here = gm_dot(normal, to), there = -gm_dot(light.normal, to);
      if (here > 0.0f && there > 0.0f) total += here * there / (square * square);
    }
    irradiance = irradiance + (0.25f * light.area * total) * light.radiance;
  }
  return irradiance;
}

// Optical depth of the `face` mm behind a face, by Radau's two points, and the share of light that its colours reflect;
// 0 where nothing is on the face. The ray is at `at` (voxels) there, goes on by `along` for each unit of `length` mm,
// and has `room` such units before it leaves.
GM_FUNCTION float gm_trace_face_depth(const GmTraceScene& s, const GmTraceVolume& v, const float* at,
                                      const float* along, float length, float room, Vec3* reflected) {
  const float here = gm_trace_extinction(s, v, at);
  if (here <= 0.0f) return 0.0f;
  const float* const albedo = v.table + s.levels + 3 * gm_trace_level(s, v, at);
  *reflected = (1.0f / kTracePi) * Vec3{albedo[0], albedo[1], albedo[2]};
  const float most = s.face / length, reach = most < room ? most : room;
  float inner[3];
  for (int a = 0; a < 3; ++a) inner[a] = at[a] + (2.0f / 3.0f) * reach * along[a];
  return (0.25f * here + 0.75f * gm_trace_extinction(s, v, inner)) * reach * length;
}

// The face of what is left that one ray enters through, where there is one: colour as displayed and depth (mm along
// the camera's z), both times its opacity, which is returned. What planes leave without a hole is convex, so a face is
// lit by all of every light before it, and its light is in closed form; its opacity is that of the `face` mm behind it.
GM_FUNCTION float gm_trace_face(const GmTraceScene& s, const GmTraceVolume& v, const float* dome, float exposure,
                                float x, float y, Vec3* colour, float* depth) {
  float at[3];
  const Vec3 direction = s.corner + x * s.right + y * s.down;
  const GmTraceRay ray = gm_trace_ray(s, s.eye, direction);  // distances along it are depths
  float enter = 0.0f, leave = 3.0e38f;
  const int face = gm_trace_clip(s, s.planes, ray, false, &enter, &leave);
  if (face < 0 || !(enter < leave)) return 0.0f;
  for (int a = 0; a < 3; ++a) at[a] = ray.from[a] + enter * ray.along[a];
  Vec3 reflected;
  const float length = sqrtf(gm_dot(direction, direction));
  const float thickness = gm_trace_face_depth(s, v, at, ray.along, length, leave - enter, &reflected);
  if (thickness <= 0.0f) return 0.0f;
  const float cover = 1.0f - expf(-thickness);
  const Vec3 light = reflected * gm_trace_irradiance(s, dome, face, s.eye + enter * direction);
  *colour = cover *
            Vec3{gm_trace_tone(light.x, exposure), gm_trace_tone(light.y, exposure), gm_trace_tone(light.z, exposure)};
  *depth = cover * enter;
  return cover;
}

// What faces show (rgb as displayed and depth, both times their cover) in front of a pixel.
GM_FUNCTION void gm_trace_face_over(const Vec3& colour, float cover, float far, float* image, float* alpha,
                                    float* depth) {
  if (cover <= 0.0f) return;
  const float behind = (1.0f - cover) * *alpha;
  const Vec3 mixed = colour + (1.0f - cover) * Vec3{image[0], image[1], image[2]};
  image[0] = mixed.x, image[1] = mixed.y, image[2] = mixed.z;
  *depth = (far + behind * *depth) / (cover + behind);
  *alpha = cover + behind;
}

// The faces in front of a pixel of a picture: image rgb as displayed, alpha, depth; side^2 rays.
GM_FUNCTION void gm_trace_face_pixel(const GmTraceScene& s, const GmTraceVolume& v, const float* dome, float exposure,
                                     int side, int column, int row, float* image, float* alpha, float* depth) {
  Vec3 colour = {0.0f, 0.0f, 0.0f};
  float cover = 0.0f, far = 0.0f;
  const float part = 1.0f / (float)side, weight = part * part;
  for (int n = 0; n < side * side; ++n) {
    const float x = (float)column + ((float)(n % side) + 0.5f) * part;
    const float y = (float)row + ((float)(n / side) + 0.5f) * part;
    Vec3 shown;
    float away;
    const float opacity = gm_trace_face(s, v, dome, exposure, x, y, &shown, &away);
    if (opacity <= 0.0f) continue;
    colour = colour + weight * shown;
    cover += weight * opacity;
    far += weight * away;
  }
  gm_trace_face_over(colour, cover, far, image, alpha, depth);
}
