/* C interface of the GaussianMRI kernels: raw pointers and sizes, no torch, no Python.
 *
 * All arrays are C-contiguous float32 unless said otherwise. Functions return 0, or a positive code with a sentence in
 * `message` (at most `message_size` bytes, zero-terminated). Results are bitwise equal for every thread count.
 *
 * Packed parameters (11, N), rows: mean x y z (mm, RAS), M00 M01 M02 M11 M12 M22 (1/mm), colour, amplitude.
 * frames (P, 12): origin, step per column, step per row, unit normal (mm, RAS); shapes (P, 2) int32: rows, columns;
 * offsets, weights (P, Q): samples along the normal (mm) and their weights. total = sum of rows x columns; the planes'
 * pixels lie one after another. A Gaussian with a non-finite value, a singular M or an amplitude <= 0 adds nothing.
 */
#ifndef GAUSSIANMRI_H
#define GAUSSIANMRI_H

#include <stdint.h>

#if defined(_WIN32)
#define GAUSSIANMRI_API __declspec(dllexport)
#else
#define GAUSSIANMRI_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

#define GAUSSIANMRI_ABI 4

enum { GAUSSIANMRI_OK = 0, GAUSSIANMRI_INVALID = 1, GAUSSIANMRI_NO_MEMORY = 2, GAUSSIANMRI_FAILED = 3 };

GAUSSIANMRI_API int gaussianmri_abi(void);
/* Instruction set in use: "avx512", "avx2", "sse2", "neon" or "scalar". GAUSSIANMRI_SIMD in the environment of the
 * first call asks for one; one that this machine lacks is ignored. */
GAUSSIANMRI_API const char* gaussianmri_simd(void);
/* Change it (for tests): 0 if done, GAUSSIANMRI_INVALID if the name is unknown or this machine lacks it. */
GAUSSIANMRI_API int gaussianmri_set_simd(const char* name);

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

/* Path tracing (common/trace_math.h): samples [first, first + count) of every pixel, added to sums (height, width, 12):
 * radiance rgb, alpha, then of the first collision albedo rgb, normal xyz and depth (mm), and the squared mean of the
 * radiance. scene: the scene_floats 4-byte members of GmTraceScene. values, gradients (may be NULL): voxels (k, j, i);
 * majorants (1/mm) and skips (0 where there is a majorant, else empty cells around and itself) per cell of 4^3 voxels;
 * table: the levels' extinctions (1/mm), their albedos rgb, 256 factors for gradients. */
GAUSSIANMRI_API int gaussianmri_trace(const float* scene, int64_t scene_floats, const uint16_t* values,
                                      const uint8_t* gradients, const float* majorants, const uint8_t* skips,
                                      const float* table, uint32_t seed, int32_t first, int32_t count, int threads,
                                      float* sums, char* message, int64_t message_size);

/* Cut faces (common/face_math.h) in front of a picture, in place: image (height, width, 3) as displayed, alpha and
 * depth (height, width; mm along the camera's z). scene, values, gradients, table: as gaussianmri_trace; dome:
 * irradiance rgb on each of the scene's planes; side^2 rays for each pixel. */
GAUSSIANMRI_API int gaussianmri_trace_faces(const float* scene, int64_t scene_floats, const uint16_t* values,
                                            const uint8_t* gradients, const float* table, const float* dome,
                                            float exposure, int32_t side, int threads, float* image, float* alpha,
                                            float* depth, char* message, int64_t message_size);

/* Rasterising of N splats (common/splat_math.h): means (N, 3) mm, quaternions (N, 4) w x y z, scales (N, 3) mm, sh
 * (N, coefficients, 3), opacities (N); camera: the 27 members of GmCamera. image (height, width, 3), alpha and depth
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

/* A lattice of Gaussians of one shape in sparse bricks (lattice/math.h). nodes (bricks, 8, 8, 8): colours [z][y][x];
 * table (size[2], size[1], size[0]): the brick of each cell of 8 x 8 x 8 nodes, or -1, no brick twice; size: cells
 * along x, y, z; ras_to_node (3, 4) float64. image[total] = sum_s weight_s I_s, density[total] = sum_s weight_s sum w
 * without background; both 0 where no node reaches. */
GAUSSIANMRI_API int gaussianmri_lattice_render(const float* nodes, int64_t bricks, const int32_t* table,
                                               const int32_t* size, const double* ras_to_node, const float* frames,
                                               const int32_t* shapes, const float* offsets, const float* weights,
                                               int64_t planes, int64_t sample_count, float background, int threads,
                                               float* image, float* density, char* message, int64_t message_size);

/* Its adjoint: grad_nodes (bricks, 8, 8, 8) of sum grad_image . image; 0 for a brick that the table does not name. */
GAUSSIANMRI_API int gaussianmri_lattice_render_backward(const float* grad_image, int64_t bricks, const int32_t* table,
                                                        const int32_t* size, const double* ras_to_node,
                                                        const float* frames, const int32_t* shapes,
                                                        const float* offsets, const float* weights, int64_t planes,
                                                        int64_t sample_count, float background, int threads,
                                                        float* grad_nodes, char* message, int64_t message_size);

/* out_n = sum over the neighbours m that there are of scale^2 w (nodes_n - nodes_m), scales of x, y, z,
 * w = edge / sqrt((scale (reference_n - reference_m))^2 + edge^2), or 1 if edge is 0. */
GAUSSIANMRI_API int gaussianmri_lattice_smooth(const float* nodes, const float* reference, int64_t bricks,
                                               const int32_t* table, const int32_t* size, const float* scales,
                                               float edge, int threads, float* out, char* message,
                                               int64_t message_size);

#ifdef __cplusplus
}
#endif
#endif
