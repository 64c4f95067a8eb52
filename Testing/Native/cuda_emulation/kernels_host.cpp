// The CUDA kernels on the host: one exported function for each kernel, with cuLaunchKernel's kind of arguments.
// clang-format off
#include "cuda_emulation.h"  // first: it stands in for CUDA's language
#include "cuda/kernels.cuh"
// clang-format on

#define EMULATE(kernel)                                                                                  \
  extern "C" void emulate_##kernel(unsigned grid_x, unsigned grid_y, unsigned block, void** arguments) { \
    emulation::launch(kernel, dim3{grid_x, grid_y, 1}, dim3{block, 1, 1}, arguments);                    \
  }

EMULATE(gm_adam_step)
EMULATE(gm_add_entries)
EMULATE(gm_count_tiles)
EMULATE(gm_finish_pixels)
EMULATE(gm_lattice_render)
EMULATE(gm_lattice_render_backward)
EMULATE(gm_lattice_smooth)
EMULATE(gm_prepare_planes)
EMULATE(gm_render_backward)
EMULATE(gm_splat_chain_sums)
EMULATE(gm_splat_draw)
EMULATE(gm_splat_place_all)
EMULATE(gm_splat_pull_tiles)
EMULATE(gm_splat_scatter)
EMULATE(gm_ssim_gradient)
EMULATE(gm_ssim_maps)
EMULATE(gm_ssim_mean)
EMULATE(gm_trace)
EMULATE(gm_trace_faces)
EMULATE(gm_write_entries)

// 0: threads and blocks run in their natural order; else in an order drawn from the seed.
extern "C" void emulation_seed(unsigned long long seed) { emulation::seed = seed; }
