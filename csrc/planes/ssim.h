// Structural similarity of many planes; arguments as in planes/api.h, checked already.
#pragma once

#include <cstdint>

void gm_ssim(const float* image, const float* target, const int32_t* shapes, int64_t planes, int threads, float* mean,
             float* gradient);
