/* Gaussians on planes, similarity of images, Adam.
 *
 * Packed parameters (11, N), rows: mean x y z (mm, RAS), M00 M01 M02 M11 M12 M22 (1/mm), colour, amplitude.
 * frames (P, 12): origin, step per column, step per row, unit normal (mm, RAS); shapes (P, 2) int32: rows, columns;
 * offsets, weights (P, Q): samples along the normal (mm) and their weights. total = sum of rows x columns; the planes'
 * pixels lie one after another. A Gaussian with a non-finite value, a singular M or an amplitude <= 0 adds nothing. */
#pragma once

#include "support/api.h"

#ifdef __cplusplus
extern "C" {
#endif

/* image[total] = sum_s weight_s I_s; samples[Q, total] = I_s; density[Q, total] = sum w + background. */
GAUSSIANMRI_API int gaussianmri_render(const float* parameters, int64_t gaussians, const float* frames,
                                       const int32_t* shapes, const float* offsets, const float* weights,
                                       int64_t planes, int64_t sample_count, float background, float cut, int threads,
                                       float* image, float* samples, float* density, char* message,
                                       int64_t message_size);

/* gradient[11, N] of sum grad_image . image, from the samples and densities that gaussianmri_render returned. */
GAUSSIANMRI_API int gaussianmri_render_backward(const float* grad_image, const float* samples, const float* density,
                                                const float* parameters, int64_t gaussians, const float* frames,
                                                const int32_t* shapes, const float* offsets, const float* weights,
                                                int64_t planes, int64_t sample_count, float background, float cut,
                                                int threads, float* gradient, char* message, int64_t message_size);

/* Structural similarity (Wang et al. 2004; 11x11 Gaussian window, sigma 1.5, data range 1, windows renormalised at the
 * borders): mean[P], and gradient[total] of each plane's mean with respect to its image (may be NULL). */
GAUSSIANMRI_API int gaussianmri_ssim(const float* image, const float* target, const int32_t* shapes, int64_t planes,
                                     int threads, float* mean, float* gradient, char* message, int64_t message_size);

/* One Adam step in place on parameters, m, v (rows, columns); rates, modes per row (0 plain, 1 log, 2 logit). */
GAUSSIANMRI_API int gaussianmri_adam(float* parameters, const float* gradient, float* m, float* v, int64_t rows,
                                     int64_t columns, const float* rates, const int32_t* modes, int64_t step,
                                     float beta1, float beta2, float epsilon, int threads, char* message,
                                     int64_t message_size);

#ifdef __cplusplus
}
#endif
