// All CUDA kernels: the one source that NVRTC compiles on the user's machine (include path: csrc).
#pragma once
#include "common/adam_math.h"
#include "common/plane_math.h"
#include "common/splat_math.h"
#include "cuda/adam.cuh"
#include "cuda/render.cuh"
#include "cuda/render_backward.cuh"
#include "cuda/splat.cuh"
#include "cuda/ssim.cuh"
#include "cuda/trace.cuh"
#include "lattice/cuda.cuh"
