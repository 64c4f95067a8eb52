// Rendering of many planes and its gradient; arguments as in planes/api.h, checked already.
#pragma once

#include <cstdint>

struct RenderArguments {
  const float* parameters;
  int64_t gaussians;
  const float* frames;
  const int32_t* shapes;
  const float* offsets;
  const float* weights;
  int64_t planes;
  int32_t sample_count;
  float background, cut;
  int threads;
};

void gm_render(const RenderArguments& a, float* image, float* samples, float* density);
void gm_render_backward(const RenderArguments& a, const float* grad_image, const float* samples, const float* density,
                        float* gradient);
