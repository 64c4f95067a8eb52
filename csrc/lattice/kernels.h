// The lattice's inner loops that are compiled once per instruction set.
#pragma once

#include <stdint.h>

#include "lattice/math.h"
#include "support/dispatch.h"

// Pixels [first, end) of a row at one sample of a plane: pixel i lies at start + i step in lattice coordinates.
struct LatticeRow {
  double start[3], step[3];
  int32_t first, end;
  float weight;  // of the sample
};

// The bricks that one task adds to: those of padded cells low <= (x, y, z) < high. What other bricks should get goes to
// `rest`, the task's own brick that nobody reads.
struct LatticeBlock {
  float* nodes;
  float* rest;
  int32_t low[3], high[3];
};

struct LatticeKernels {
  void (*gather)(const GmLattice& lattice, const float* nodes, const LatticeRow& row, float background, float* image,
                 float* density);
  void (*scatter)(const GmLattice& lattice, const LatticeBlock& block, const LatticeRow& row, float background,
                  const float* grad_image);
  void (*smooth)(const float* nodes, const float* reference, const int32_t* neighbours, int brick, const float* scales,
                 float edge, float* out);
};

GM_TABLE(LatticeKernels, lattice_kernels)
