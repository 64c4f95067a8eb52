// Which instruction set to use: the best that was built and that this processor has, or the one asked for.
#include "support/dispatch.h"

#include <atomic>
#include <cstdlib>
#include <cstring>

#if defined(GM_HAVE_X86) && defined(_MSC_VER)
#include <intrin.h>
#endif

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

#define GM_STRING(isa, type, name) #isa,
constexpr const char* kNames[] = {GM_EACH_INSTRUCTION_SET(GM_STRING, , )};
constexpr int kCount = static_cast<int>(sizeof kNames / sizeof *kNames);

bool available(int index) {
#if defined(GM_HAVE_X86)
  if (!std::strcmp(kNames[index], "avx512")) return has_avx512();
  if (!std::strcmp(kNames[index], "avx2")) return has_avx2();
#endif
  return index >= 0;
}

// The index of an instruction set that this processor has, or -1.
int find(const char* name) {
  for (int index = 0; index < kCount; ++index)
    if (!std::strcmp(kNames[index], name) && available(index)) return index;
  return -1;
}

int choose() {
  const char* const wish = std::getenv("GAUSSIANMRI_SIMD");
  int index = wish ? find(wish) : -1;
  if (index < 0)
    while (!available(++index)) {
    }
  return index;
}

std::atomic<int> selected{-1};

}  // namespace

int gm_instruction_set() {
  int index = selected.load();
  if (index < 0) selected.store(index = choose());
  return index;
}

const char* gm_instruction_set_name() { return kNames[gm_instruction_set()]; }

bool gm_select_instruction_set(const char* name) {
  const int index = find(name);
  if (index >= 0) selected.store(index);
  return index >= 0;
}
