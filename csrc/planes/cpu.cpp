// The C interface of planes, similarity and Adam.
#include <cmath>

#include "planes/api.h"
#include "planes/checks.h"
#include "planes/kernels.h"
#include "planes/render.h"
#include "planes/ssim.h"
#include "support/exports.h"
#include "support/guard.h"
#include "support/thread_pool.h"

namespace {

RenderArguments check_render(const float* parameters, int64_t gaussians, const float* frames, const int32_t* shapes,
                             const float* offsets, const float* weights, int64_t planes, int64_t sample_count,
                             float background, float cut, int threads, int64_t* total) {
  require(gaussians >= 0, "the number of Gaussians is negative");
  require(gaussians < (int64_t{1} << 31), "there are 2^31 Gaussians or more");
  require(gaussians == 0 || parameters, "parameters is a null pointer");
  *total = check_shapes(shapes, planes);
  check_planes(frames, offsets, weights, planes, sample_count);
  require(std::isfinite(background) && background >= 0.0f, "background must be finite and not negative");
  require(cut > 0.0f && cut <= kMaximumCut, "cut must be above 0 and at most 62");
  require(threads >= 1, "the number of threads must be at least 1");
  return RenderArguments{parameters, gaussians, frames, shapes,
                         offsets,    weights,   planes, static_cast<int32_t>(sample_count),
                         background, cut,       threads};
}

GM_EXPORT_FUNCTION(gaussianmri_render);
GM_EXPORT_FUNCTION(gaussianmri_render_backward);
GM_EXPORT_FUNCTION(gaussianmri_ssim);
GM_EXPORT_FUNCTION(gaussianmri_adam);
GM_EXPORT_SIZE(GmPlane);
GM_EXPORT_NUMBER(kParameterRows);
GM_EXPORT_NUMBER(kEntryBits);

}  // namespace

int gaussianmri_render(const float* parameters, int64_t gaussians, const float* frames, const int32_t* shapes,
                       const float* offsets, const float* weights, int64_t planes, int64_t sample_count,
                       float background, float cut, int threads, float* image, float* samples, float* density,
                       char* message, int64_t message_size) {
  return guarded(message, message_size, [&] {
    int64_t total;
    const RenderArguments a = check_render(parameters, gaussians, frames, shapes, offsets, weights, planes,
                                           sample_count, background, cut, threads, &total);
    require(total == 0 || (image && samples && density), "image, samples or density is a null pointer");
    gm_render(a, image, samples, density);
  });
}

int gaussianmri_render_backward(const float* grad_image, const float* samples, const float* density,
                                const float* parameters, int64_t gaussians, const float* frames, const int32_t* shapes,
                                const float* offsets, const float* weights, int64_t planes, int64_t sample_count,
                                float background, float cut, int threads, float* gradient, char* message,
                                int64_t message_size) {
  return guarded(message, message_size, [&] {
    int64_t total;
    const RenderArguments a = check_render(parameters, gaussians, frames, shapes, offsets, weights, planes,
                                           sample_count, background, cut, threads, &total);
    require(total == 0 || (grad_image && samples && density), "grad_image, samples or density is a null pointer");
    require(gaussians == 0 || gradient, "gradient is a null pointer");
    gm_render_backward(a, grad_image, samples, density, gradient);
  });
}

int gaussianmri_ssim(const float* image, const float* target, const int32_t* shapes, int64_t planes, int threads,
                     float* mean, float* gradient, char* message, int64_t message_size) {
  return guarded(message, message_size, [&] {
    const int64_t total = check_shapes(shapes, planes);
    require(total == 0 || (image && target), "image or target is a null pointer");
    require(planes == 0 || mean, "mean is a null pointer");
    require(threads >= 1, "the number of threads must be at least 1");
    gm_ssim(image, target, shapes, planes, threads, mean, gradient);
  });
}

int gaussianmri_adam(float* parameters, const float* gradient, float* m, float* v, int64_t rows, int64_t columns,
                     const float* rates, const int32_t* modes, int64_t step, float beta1, float beta2, float epsilon,
                     int threads, char* message, int64_t message_size) {
  return guarded(message, message_size, [&] {
    require(rows >= 0 && columns >= 0, "the number of rows or columns is negative");
    require(rows == 0 || (rates && modes), "rates or modes is a null pointer");
    require(rows * columns == 0 || (parameters && gradient && m && v), "an array of values is a null pointer");
    require(step >= 1, "step counts from 1");
    require(beta1 >= 0.0f && beta1 < 1.0f && beta2 >= 0.0f && beta2 < 1.0f, "beta1 and beta2 must lie in [0, 1)");
    require(threads >= 1, "the number of threads must be at least 1");
    for (int64_t r = 0; r < rows; ++r) require(modes[r] >= 0 && modes[r] <= 2, "a mode is not 0, 1 or 2");
    const double t = static_cast<double>(step);
    const auto correction1 = static_cast<float>(1.0 / (1.0 - std::pow(static_cast<double>(beta1), t)));
    const auto correction2 = static_cast<float>(1.0 / (1.0 - std::pow(static_cast<double>(beta2), t)));
    constexpr int64_t kBlock = 8192;
    const int64_t blocks = (columns + kBlock - 1) / kBlock;
    const PlaneKernels& kernels = gm_plane_kernels();
    parallel_for(rows * blocks, threads, [&](int64_t index, int) {
      const int64_t row = index / blocks, first = index % blocks * kBlock;
      const int64_t at = row * columns + first, count = columns - first < kBlock ? columns - first : kBlock;
      kernels.adam(parameters + at, gradient + at, m + at, v + at, count, modes[row], rates[row], beta1, beta2,
                   correction1, correction2, epsilon);
    });
  });
}
