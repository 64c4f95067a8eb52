/* Path tracing. */
#pragma once

#include "support/api.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Path tracing (paths/math.h): samples [first, first + count) of every pixel, added to sums (height, width, 12):
 * radiance rgb, alpha, then of the first collision albedo rgb, normal xyz and depth (mm), and the squared mean of the
 * radiance. scene: the scene_floats 4-byte members of GmTraceScene. values, gradients (may be NULL): voxels (k, j, i);
 * majorants (1/mm) and skips (0 where there is a majorant, else empty cells around and itself) per cell of 4^3 voxels
 * and half a voxel round it;
 * table: the levels' extinctions (1/mm), their albedos rgb, 256 factors for gradients. */
GAUSSIANMRI_API int gaussianmri_trace(const float* scene, int64_t scene_floats, const uint16_t* values,
                                      const uint8_t* gradients, const float* majorants, const uint8_t* skips,
                                      const float* table, uint32_t seed, int32_t first, int32_t count, int threads,
                                      float* sums, char* message, int64_t message_size);

/* Cut faces (paths/face_math.h) in front of a picture, in place: image (height, width, 3) as displayed, alpha and
 * depth (height, width; mm along the camera's z). scene, values, gradients, table: as gaussianmri_trace; dome:
 * irradiance rgb on each of the scene's planes; side^2 rays for each pixel. */
GAUSSIANMRI_API int gaussianmri_trace_faces(const float* scene, int64_t scene_floats, const uint16_t* values,
                                            const uint8_t* gradients, const float* table, const float* dome,
                                            float exposure, int32_t side, int threads, float* image, float* alpha,
                                            float* depth, char* message, int64_t message_size);

#ifdef __cplusplus
}
#endif
