/* C interface of the GaussianMRI kernels: raw pointers and sizes, no torch, no Python; each folder's api.h has its own.
 *
 * All arrays are C-contiguous float32 unless said otherwise. Functions return 0, or a positive code with a sentence in
 * `message` (at most `message_size` bytes, zero-terminated). Results are bitwise equal for every thread count.
 */
#pragma once

#include <stdint.h>

#if defined(_WIN32)
#define GAUSSIANMRI_API __declspec(dllexport)
#else
#define GAUSSIANMRI_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

#define GAUSSIANMRI_ABI 5

enum { GAUSSIANMRI_OK = 0, GAUSSIANMRI_INVALID = 1, GAUSSIANMRI_NO_MEMORY = 2, GAUSSIANMRI_FAILED = 3 };

GAUSSIANMRI_API int gaussianmri_abi(void);
/* What callers in other languages need to know of the library, a line each: "name letters" for a function that reports
 * errors, with a letter for each parameter (p pointer, q 64-bit integer, i 32-bit integer, f float); "name number" for
 * the bytes of a structure, or for a constant. */
GAUSSIANMRI_API const char* gaussianmri_describe(void);
/* Instruction set in use: "avx512", "avx2", "sse2", "neon" or "scalar". GAUSSIANMRI_SIMD in the environment of the
 * first call asks for one; one that this machine lacks is ignored. */
GAUSSIANMRI_API const char* gaussianmri_simd(void);
/* Change it (for tests): 0 if done, GAUSSIANMRI_INVALID if the name is unknown or this machine lacks it. */
GAUSSIANMRI_API int gaussianmri_set_simd(const char* name);

#ifdef __cplusplus
}
#endif
