// Faces that planes cut into a path tracer's volume, without tracing, for CPU and CUDA.
#pragma once

#include "trace_math.h"

// As displayed, 0..1: 1 - exp(-exposure x), then sRGB's curve.
GM_FUNCTION float gm_trace_tone(float x, float exposure) {
  x = 1.0f - expf(-exposure * x);
  return x <= 0.0031308f ? 12.92f * x : 1.055f * powf(x, 1.0f / 2.4f) - 0.055f;
}

// Irradiance of the lights at a point of a plane that nothing hides: the light's power from four points on each.
GM_FUNCTION void gm_trace_irradiance(const GmTraceScene& s, const float* position, const float* normal,
                                     float* irradiance) {
  for (int l = 0; l < s.lights; ++l) {
    const GmTraceLight& light = s.light[l];
    float total = 0.0f;
    for (int corner = 0; corner < 4; ++corner) {
      const float u = corner & 1 ? 0.5f : -0.5f, w = corner & 2 ? 0.5f : -0.5f;
      float to[3];
      for (int k = 0; k < 3; ++k) to[k] = light.centre[k] + u * light.u[k] + w * light.v[k] - position[k];
      const float square = gm_dot(to, to[0], to[1], to[2]);
      const float here = gm_dot(normal, to[0], to[1], to[2]), there = -gm_dot(light.normal, to[0], to[1], to[2]);
      if (here > 0.0f && there > 0.0f) total += here * there / (square * square);
    }
    for (int k = 0; k < 3; ++k) irradiance[k] += light.radiance[k] * (0.25f * light.area * total);
  }
}

// The face of what is left that one ray enters through, where there is one: colour as displayed and depth (mm along
// the camera's z), both times its opacity, which is returned. What planes leave is convex, so a face is lit by all
// of every light before it, and its light is in closed form; its opacity is that of the `face` mm behind it.
// dome: irradiance rgb of the dome on each plane.
GM_FUNCTION float gm_trace_face(const GmTraceScene& s, const GmTraceVolume& v, const float* dome, float exposure,
                                float x, float y, float* colour, float* depth) {
  float direction[3], at[3], position[3];
  for (int k = 0; k < 3; ++k) direction[k] = s.corner[k] + x * s.right[k] + y * s.down[k];
  const GmTraceRay ray = gm_trace_ray(s, s.eye, direction);  // distances along it are depths
  float enter = 0.0f, leave = 3.0e38f;
  const int face = gm_trace_clip(s, ray, &enter, &leave);
  if (face < 0 || !(enter < leave)) return 0.0f;
  for (int a = 0; a < 3; ++a) at[a] = ray.from[a] + enter * ray.along[a];
  const float here = gm_trace_extinction(s, v, at);
  if (here <= 0.0f) return 0.0f;
  const float* const albedo = v.table + s.levels + 3 * gm_trace_level(s, v, at);
  const float length = sqrtf(gm_dot(direction, direction[0], direction[1], direction[2]));
  const float most = s.face / length, reach = most < leave - enter ? most : leave - enter;
  for (int a = 0; a < 3; ++a) at[a] += (2.0f / 3.0f) * reach * ray.along[a];
  // Radau's two points.
  const float thickness = (0.25f * here + 0.75f * gm_trace_extinction(s, v, at)) * reach * length;
  const float cover = 1.0f - expf(-thickness);
  float irradiance[3];
  for (int k = 0; k < 3; ++k) {
    position[k] = s.eye[k] + enter * direction[k];
    irradiance[k] = dome[3 * face + k];
  }
  gm_trace_irradiance(s, position, s.plane[face].normal, irradiance);
  for (int k = 0; k < 3; ++k)
    colour[k] = cover * gm_trace_tone(albedo[k] * irradiance[k] * (1.0f / kTracePi), exposure);
  *depth = cover * enter;
  return cover;
}

// The faces in front of a pixel of a picture: image rgb as displayed, alpha, depth; side^2 rays.
GM_FUNCTION void gm_trace_face_pixel(const GmTraceScene& s, const GmTraceVolume& v, const float* dome, float exposure,
                                     int side, int column, int row, float* image, float* alpha, float* depth) {
  float colour[3] = {0.0f, 0.0f, 0.0f}, cover = 0.0f, far = 0.0f;
  const float part = 1.0f / (float)side, weight = part * part;
  for (int n = 0; n < side * side; ++n) {
    const float x = (float)column + ((float)(n % side) + 0.5f) * part;
    const float y = (float)row + ((float)(n / side) + 0.5f) * part;
    float shown[3], away;
    const float opacity = gm_trace_face(s, v, dome, exposure, x, y, shown, &away);
    if (opacity <= 0.0f) continue;
    for (int k = 0; k < 3; ++k) colour[k] += weight * shown[k];
    cover += weight * opacity;
    far += weight * away;
  }
  if (cover <= 0.0f) return;
  const float behind = (1.0f - cover) * *alpha;
  for (int k = 0; k < 3; ++k) image[k] = colour[k] + (1.0f - cover) * image[k];
  *depth = (far + behind * *depth) / (cover + behind);
  *alpha = cover + behind;
}
