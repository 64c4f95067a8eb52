// The lattice's inner loops, compiled for each instruction set.
//
// A run of 16 pixels has its taps and weights computed in vectors over the pixels; then each sample reads, or adds to,
// its 16 rows of four nodes. Such a row lies in two of the aligned quads (four nodes) of one brick or of two
// neighbours. The adjoint reads and writes whole quads, never four nodes across them: a sample often adds to what the
// sample before has just written, and processors hand that on quickly only at the same address and size.
#include "lattice/kernels.h"

#include "support/simd.h"

namespace GM_ISA {

// weight[axis][tap][pixel]; place[axis][pixel]: of the first tap in its brick; cell: of that brick in the padded table.
struct LatticeRunWeights {
  alignas(64) float weight[3][kTaps][kLatticeRun];
  alignas(64) float sum[kLatticeRun];
  alignas(64) int32_t place[3][kLatticeRun];
  alignas(64) int32_t cell[kLatticeRun];
};

static inline void lattice_run(const GmLattice& g, const LatticeRow& row, int first, LatticeRunWeights* run) {
  const int stride[3] = {1, g.stride[0], g.stride[1]};
  for (int n = 0; n < kLatticeRun; ++n) run->cell[n] = 0;
  for (int n = 0; n < kLatticeRun; ++n) run->sum[n] = 1.0f;
  for (int axis = 0; axis < 3; ++axis) {
    const GmLatticeRun along =
        gm_lattice_run(row.start[axis] + static_cast<double>(first) * row.step[axis], row.step[axis]);
    float (*const w)[kLatticeRun] = run->weight[axis];
    const int bricks = g.bricks[axis], step = stride[axis];
    for (int n = 0; n < kLatticeRun; ++n) {
      float fraction, w0, w1, w2, w3;
      const int tap = gm_lattice_tap(along, n, bricks, &fraction);
      gm_lattice_weights(fraction, &w0, &w1, &w2, &w3);
      w[0][n] = w0;
      w[1][n] = w1;
      w[2][n] = w2;
      w[3][n] = w3;
      run->sum[n] *= (w0 + w1) + (w2 + w3);
      run->place[axis][n] = tap & (kBrickSide - 1);
      run->cell[n] += (tap >> 3) * step;
    }
  }
}

// The 2 x 2 x 2 bricks around a sample, looked up again only when the sample enters another cell.
struct LatticeCorners {
  int cell = -1;
  unsigned there = 0;
  int32_t brick[8];

  bool enter(const GmLattice& g, int to) {
    if (to == cell) return false;
    cell = to;
    there = 0;
    for (int corner = 0; corner < 8; ++corner) {
      brick[corner] = gm_lattice_brick(g, to, corner);
      there |= static_cast<unsigned>(brick[corner] >= 0) << corner;
    }
    return true;
  }

  float weight(const LatticeRunWeights& run, int n) const {
    if (there == 255u) return run.sum[n];
    return gm_lattice_existing(run.weight[0][0] + n, run.weight[1][0] + n, run.weight[2][0] + n, kLatticeRun,
                               run.place[0][n], run.place[1][n], run.place[2][n], there);
  }
};

// Calls visit(j, k, a, b) for the row of tap j of y and tap k of z: a is node `first` of this row in the `left` bricks,
// b node `second` in the `right` ones.
template <typename Float, typename Visit>
static inline void lattice_rows(Float* const* left, Float* const* right, int first, int second, int y, int z,
                                Visit&& visit) {
  const int below = kBrickSide - z;
  const int near = z * kBrickLayer, far = -below * kBrickLayer;
  if (z <= kBrickSide - kTaps) {
    for (int j = 0; j < kTaps; ++j) {
      const int side = (y + j) >> 3 << 1, offset = ((y + j) & 7) * kBrickRow + near;
      Float *const a = left[side] + offset + first, *const b = right[side] + offset + second;
      for (int k = 0; k < kTaps; ++k) visit(j, k, a + k * kBrickLayer, b + k * kBrickLayer);
    }
  } else {
    for (int j = 0; j < kTaps; ++j) {
      const int side = (y + j) >> 3 << 1, offset = ((y + j) & 7) * kBrickRow;
      for (int k = 0; k < kTaps; ++k) {
        const int corner = k < below ? side : side + 4;
        const int at = offset + k * kBrickLayer + (k < below ? near : far);
        visit(j, k, left[corner] + at + first, right[corner] + at + second);
      }
    }
  }
}

// The same for the two quads that the four taps from x on lie in.
template <typename Float, typename Visit>
static inline void lattice_quads(Float* const* corners, int x, int y, int z, Visit&& visit) {
  const int half = x >> 2;
  lattice_rows(corners, corners + half, 4 * half, 4 - 4 * half, y, z, visit);
}

// image += row.weight I, density += row.weight sum w at pixels row.first .. row.end - 1.
static void lattice_gather(const GmLattice& g, const float* nodes, const LatticeRow& row, float background,
                           float* image, float* density) {
  alignas(64) static const float nothing[kBrickNodes] = {};
  LatticeRunWeights run;
  LatticeCorners corners;
  const float* bricks[8];
  alignas(64) float numerator[kLatticeRun], weight[kLatticeRun];
  for (int first = row.first & -kLatticeRun; first < row.end; first += kLatticeRun) {
    lattice_run(g, row, first, &run);
    const int begin = row.first > first ? row.first - first : 0;
    const int end = row.end - first < kLatticeRun ? row.end - first : kLatticeRun;
    for (int n = begin; n < end; ++n) {
      if (corners.enter(g, run.cell[n]))
        for (int k = 0; k < 8; ++k)
          bricks[k] = corners.brick[k] < 0 ? nothing : nodes + static_cast<int64_t>(kBrickNodes) * corners.brick[k];
      numerator[n] = weight[n] = 0.0f;
      if (corners.there == 0) continue;
      weight[n] = corners.weight(run, n);
      const int x = run.place[0][n], y = run.place[1][n], z = run.place[2][n];
      const Quad wz[kTaps] = {set4(run.weight[2][0][n]), set4(run.weight[2][1][n]), set4(run.weight[2][2][n]),
                              set4(run.weight[2][3][n])};
      Quad sum[2] = {set4(0.0f), set4(0.0f)}, part[2];
      float taps[8];
      const float* t = taps;
      if (x <= kBrickSide - kTaps) {  // all in one brick; nothing is written, so it may be read across quads
        lattice_rows(bricks, bricks, x, x, y, z, [&](int j, int k, const float* a, const float*) {
          part[0] = k == 0 ? mul4(wz[0], load4(a)) : fma4(wz[k], load4(a), part[0]);
          if (k == kTaps - 1) sum[0] = fma4(set4(run.weight[1][j][n]), part[0], sum[0]);
        });
      } else {
        lattice_quads(bricks, x, y, z, [&](int j, int k, const float* a, const float* b) {
          part[0] = k == 0 ? mul4(wz[0], load4(a)) : fma4(wz[k], load4(a), part[0]);
          part[1] = k == 0 ? mul4(wz[0], load4(b)) : fma4(wz[k], load4(b), part[1]);
          if (k < kTaps - 1) return;
          const Quad wy = set4(run.weight[1][j][n]);
          sum[0] = fma4(wy, part[0], sum[0]);
          sum[1] = fma4(wy, part[1], sum[1]);
        });
        store4(taps + 4, sum[1]);
        t += x & 3;  // the others are no taps of this sample and may be anything
      }
      store4(taps, sum[0]);
      numerator[n] = (run.weight[0][0][n] * t[0] + run.weight[0][1][n] * t[1]) +
                     (run.weight[0][2][n] * t[2] + run.weight[0][3][n] * t[3]);
    }
    for (int n = begin; n < end; ++n) {
      image[first + n] += row.weight * numerator[n] * gm_lattice_inverse(weight[n], background);
      density[first + n] += row.weight * weight[n];
    }
  }
}

// The adjoint, for the nodes of one block: nodes += w / (sum w + background) row.weight grad_image.
static void lattice_scatter(const GmLattice& g, const LatticeBlock& block, const LatticeRow& row, float background,
                            const float* grad_image) {
  LatticeRunWeights run;
  LatticeCorners corners;
  float* bricks[8];
  bool ours = false;
  float padded[kLatticeRun][12] = {};  // the weights along x between zeros: a load at 4 - k moves them up by k
  for (int first = row.first & -kLatticeRun; first < row.end; first += kLatticeRun) {
    lattice_run(g, row, first, &run);
    for (int n = 0; n < kLatticeRun; ++n)
      for (int k = 0; k < kTaps; ++k) padded[n][4 + k] = run.weight[0][k][n];
    const int begin = row.first > first ? row.first - first : 0;
    const int end = row.end - first < kLatticeRun ? row.end - first : kLatticeRun;
    for (int n = begin; n < end; ++n) {
      if (corners.enter(g, run.cell[n])) {
        const int cell[3] = {run.cell[n] % g.stride[0], run.cell[n] % g.stride[1] / g.stride[0],
                             run.cell[n] / g.stride[1]};
        ours = false;
        for (int k = 0; k < 8; ++k) {
          bool inside = corners.brick[k] >= 0;
          for (int axis = 0; axis < 3; ++axis) {
            const int at = cell[axis] + (k >> axis & 1);
            inside = inside && at >= block.low[axis] && at < block.high[axis];
          }
          bricks[k] = inside ? block.nodes + static_cast<int64_t>(kBrickNodes) * corners.brick[k] : block.rest;
          ours = ours || inside;
        }
      }
      const float gradient = row.weight * grad_image[first + n];
      if (!ours || gradient == 0.0f) continue;
      const Quad scale = set4(gradient * gm_lattice_inverse(corners.weight(run, n), background));
      const int x = run.place[0][n], shift = x & 3;
      const Quad left = mul4(scale, load4(padded[n] + 4 - shift)), right = mul4(scale, load4(padded[n] + 8 - shift));
      const Quad z[kTaps] = {set4(run.weight[2][0][n]), set4(run.weight[2][1][n]), set4(run.weight[2][2][n]),
                             set4(run.weight[2][3][n])};
      Quad part[2];
      lattice_quads(bricks, x, run.place[1][n], run.place[2][n], [&](int j, int k, float* a, float* b) {
        if (k == 0) {
          const Quad y = set4(run.weight[1][j][n]);
          part[0] = mul4(y, left);
          part[1] = mul4(y, right);
        }
        store4(a, fma4(z[k], part[0], load4(a)));
        store4(b, fma4(z[k], part[1], load4(b)));
      });
    }
  }
}

constexpr int kHaloRow = 16, kHaloLayer = 10 * kHaloRow;  // a brick with its neighbours' nodes around it
constexpr int kHalo = 10 * kHaloLayer, kHaloFirst = kHaloLayer + kHaloRow + 1;

// The brick and one node more on each face; where there is no neighbour the brick's own node, so that it pulls nothing.
static inline void lattice_halo(const float* nodes, const int32_t* neighbours, int brick, float* halo) {
  const int step[3] = {1, kHaloRow, kHaloLayer}, in[3] = {1, kBrickRow, kBrickLayer};
  const float* const own = nodes + static_cast<int64_t>(kBrickNodes) * brick;
  for (int z = 0; z < kBrickSide; ++z)
    for (int y = 0; y < kBrickSide; ++y)
      for (int x = 0; x < kBrickSide; ++x)
        halo[kHaloFirst + z * kHaloLayer + y * kHaloRow + x] = own[z * kBrickLayer + y * kBrickRow + x];
  for (int face = 0; face < 6; ++face) {
    const int axis = face >> 1, a = axis == 0 ? 1 : 0, b = axis == 2 ? 1 : 2, up = face & 1;
    const int other = neighbours[face];
    const float* const from = other < 0 ? own : nodes + static_cast<int64_t>(kBrickNodes) * other;
    const int at = (other < 0) == (up != 0) ? (kBrickSide - 1) * in[axis] : 0;
    float* const to = halo + kHaloFirst + (up ? kBrickSide : -1) * step[axis];
    for (int v = 0; v < kBrickSide; ++v)
      for (int u = 0; u < kBrickSide; ++u) to[v * step[b] + u * step[a]] = from[at + v * in[b] + u * in[a]];
  }
}

// One brick of the smoothness prior's gradient; neighbours: bricks below and above along x, y, z, or -1.
static void lattice_smooth(const float* nodes, const float* reference, const int32_t* neighbours, int brick,
                           const float* scales, float edge, float* out) {
  alignas(64) float c[kHalo], r[kHalo];
  lattice_halo(nodes, neighbours, brick, c);
  if (edge > 0.0f) lattice_halo(reference, neighbours, brick, r);
  float* const to = out + static_cast<int64_t>(kBrickNodes) * brick;
  const int step[3] = {1, kHaloRow, kHaloLayer};
  for (int row = 0; row < kBrickSide * kBrickSide; ++row) {
    const int at = kHaloFirst + (row >> 3) * kHaloLayer + (row & 7) * kHaloRow;
    float sum[kBrickSide] = {};
    for (int axis = 0; axis < 3; ++axis) {
      const float scale2 = scales[axis] * scales[axis];
      for (int way = -1; way <= 1; way += 2) {
        const float *const m = c + at + way * step[axis], *const s = r + at + way * step[axis];
        if (edge > 0.0f)
          for (int x = 0; x < kBrickSide; ++x)
            sum[x] += gm_lattice_pull(c[at + x] - m[x], r[at + x] - s[x], scale2, edge);
        else
          for (int x = 0; x < kBrickSide; ++x) sum[x] += scale2 * (c[at + x] - m[x]);
      }
    }
    for (int x = 0; x < kBrickSide; ++x) to[row * kBrickRow + x] = sum[x];
  }
}

const LatticeKernels lattice_kernels = {lattice_gather, lattice_scatter, lattice_smooth};

}  // namespace GM_ISA
