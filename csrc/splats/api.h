/* Rasterising of splats. */
#pragma once

#include "support/api.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Rasterising of N splats (splats/math.h): means (N, 3) mm, quaternions (N, 4) w x y z, scales (N, 3) mm, sh
 * (N, coefficients, 3), opacities (N); camera: the 28 members of GmCamera. image (height, width, 3), alpha and depth
 * (height, width), radii (N) pixels, 0 where a splat is not drawn. */
GAUSSIANMRI_API int gaussianmri_splat(const float* camera, int32_t width, int32_t height, const float* means,
                                      const float* quaternions, const float* scales, const float* sh,
                                      const float* opacities, int64_t splats, int32_t coefficients, int threads,
                                      float* image, float* alpha, float* depth, float* radii, char* message,
                                      int64_t message_size);

/* Gradients of sum grad . picture, from the pictures that gaussianmri_splat drew; grad_screen (N, 2): with respect to
 * the splats' places on the screen, pixels. */
GAUSSIANMRI_API int gaussianmri_splat_backward(
    const float* image, const float* alpha, const float* depth, const float* grad_image, const float* grad_alpha,
    const float* grad_depth, const float* camera, int32_t width, int32_t height, const float* means,
    const float* quaternions, const float* scales, const float* sh, const float* opacities, int64_t splats,
    int32_t coefficients, int threads, float* grad_means, float* grad_quaternions, float* grad_scales, float* grad_sh,
    float* grad_opacities, float* grad_screen, char* message, int64_t message_size);

#ifdef __cplusplus
}
#endif
