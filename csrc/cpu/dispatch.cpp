// Which instruction set to use: the best that was built and that this processor has, or the one asked for.
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <initializer_list>

#include "kernels.h"

#if defined(GM_HAVE_X86) && defined(_MSC_VER)
#include <intrin.h>
#endif

#if defined(GM_HAVE_X86)
namespace avx512 {
extern const Kernels kernels;
}
namespace avx2 {
extern const Kernels kernels;
}
namespace sse2 {
extern const Kernels kernels;
}
#elif defined(GM_HAVE_NEON)
namespace neon {
extern const Kernels kernels;
}
#endif
namespace scalar {
extern const Kernels kernels;
}

namespace {

#if defined(GM_HAVE_X86)
#if defined(_MSC_VER)
bool leaf7(int bit) {
  int r[4];
  __cpuid(r, 0);
  if (r[0] < 7) return false;
  __cpuidex(r, 7, 0);
  return (r[1] >> bit) & 1;
}
bool has_avx2() {
  int r[4];
  __cpuid(r, 1);
  const bool saved = (r[2] >> 27) & 1, fma = (r[2] >> 12) & 1;
  return saved && fma && leaf7(5) && (_xgetbv(0) & 6) == 6;
}
bool has_avx512() {  // F, DQ, BW, VL, and the operating system saves the registers
  return has_avx2() && leaf7(16) && leaf7(17) && leaf7(30) && leaf7(31) && (_xgetbv(0) & 0xe6) == 0xe6;
}
#else
bool has_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
bool has_avx512() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
}
#endif
#endif

std::atomic<const Kernels*> selected{nullptr};

const Kernels* choose() {
  const char* const wish = std::getenv("GAUSSIANMRI_SIMD");
  const Kernels* best = wish ? gm_find_kernels(wish) : nullptr;
  for (const char* name : {"avx512", "avx2", "sse2", "neon", "scalar"})
    if (!best) best = gm_find_kernels(name);
  return best;
}

}  // namespace

const Kernels* gm_find_kernels(const char* name) {
#if defined(GM_HAVE_X86)
  if (!std::strcmp(name, "avx512")) return has_avx512() ? &avx512::kernels : nullptr;
  if (!std::strcmp(name, "avx2")) return has_avx2() ? &avx2::kernels : nullptr;
  if (!std::strcmp(name, "sse2")) return &sse2::kernels;
#elif defined(GM_HAVE_NEON)
  if (!std::strcmp(name, "neon")) return &neon::kernels;
#endif
  return !std::strcmp(name, "scalar") ? &scalar::kernels : nullptr;
}

const Kernels& gm_kernels() {
  const Kernels* kernels = selected.load();
  if (!kernels) selected.store(kernels = choose());
  return *kernels;
}

bool gm_select_kernels(const char* name) {
  const Kernels* const kernels = gm_find_kernels(name);
  if (kernels) selected.store(kernels);
  return kernels != nullptr;
}
