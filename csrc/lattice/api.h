/* Lattices of Gaussians. Planes are given as in planes/api.h. */
#pragma once

#include "support/api.h"

#ifdef __cplusplus
extern "C" {
#endif

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
