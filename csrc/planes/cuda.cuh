// Every CUDA kernel of planes, similarity and Adam.
#pragma once
#include "planes/adam.cuh"
#include "planes/render.cuh"
#include "planes/render_backward.cuh"
#include "planes/ssim.cuh"
