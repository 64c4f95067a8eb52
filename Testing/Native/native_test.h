// What the native test programs share: checks that are counted, and a run with every instruction set.
#pragma once

#include <support/api.h>

#include <cstdio>
#include <cstdlib>
#include <functional>
#include <random>
#include <string>

inline int failures = 0;
inline char message[256];  // what a kernel says of its error

inline void check(bool condition, const std::string& what) {
  if (condition) return;
  std::printf("FAILED: %s %s\n", what.c_str(), message);
  ++failures;
}

using Test = std::function<void(std::mt19937& random, const std::string& simd)>;

// A test program's main: `test` with each instruction set of this processor, each time on the same random numbers, then
// `once`. The first argument is the seed; without it another one is drawn in every run.
inline int run_tests(int count, char** arguments, const Test& test, const std::function<void()>& once = [] {}) {
  const unsigned seed = count > 1 ? static_cast<unsigned>(std::atoi(arguments[1])) : std::random_device{}();
  std::printf("seed %u\n", seed);
  for (const char* simd : {"scalar", "sse2", "neon", "avx2", "avx512"}) {
    if (gaussianmri_set_simd(simd) != GAUSSIANMRI_OK) continue;
    std::mt19937 random(seed);
    test(random, simd);
    std::printf("%s done\n", gaussianmri_simd());
  }
  once();
  std::printf(failures ? "%d failures\n" : "all passed\n", failures);
  return failures ? 1 : 0;
}
