// Compiled once per instruction set, with GM_ISA naming it; nothing here may be shared with other translation units.
#include "planes/kernels.h"

#include "planes/adam_math.h"
#include "planes/cull.h"
#include "planes/gather.h"
#include "planes/scatter.h"
#include "planes/ssim_kernels.h"

#if defined(_MSC_VER)
#define GM_RESTRICT __restrict
#else
#define GM_RESTRICT __restrict__
#endif

namespace GM_ISA {

template <int Mode>
static void adam_row(float* GM_RESTRICT value, const float* GM_RESTRICT gradient, float* GM_RESTRICT m,
                     float* GM_RESTRICT v, int64_t count, float rate, float beta1, float beta2, float correction1,
                     float correction2, float epsilon) {
  for (int64_t i = 0; i < count; ++i)
    gm_adam(Mode, rate, beta1, beta2, correction1, correction2, epsilon, gradient[i], value + i, m + i, v + i);
}

static void adam(float* value, const float* gradient, float* m, float* v, int64_t count, int mode, float rate,
                 float beta1, float beta2, float correction1, float correction2, float epsilon) {
  const auto row = mode == kAdamLog     ? adam_row<kAdamLog>
                   : mode == kAdamLogit ? adam_row<kAdamLogit>
                                        : adam_row<kAdamPlain>;
  row(value, gradient, m, v, count, rate, beta1, beta2, correction1, correction2, epsilon);
}

const PlaneKernels plane_kernels = {reach,  cull,           place, scatter,  resolve,           pull,
                                    gather, add_plane_sums, chain, ssim_row, ssim_gradient_row, adam};

}  // namespace GM_ISA
