// Lattices: the C interface, and the tasks that threads take.
//   forward: tiles of pixels;
//   adjoint: blocks of bricks. A task visits the pixels whose taps reach its block, in the order of planes, samples,
//            rows and columns, and adds to its own nodes alone, so there are no atomics, and the sum at a node does not
//            depend on threads or blocks. A sample near a border is visited by every block that it reaches, which costs
//            less the larger blocks are; they are halved until there are enough for some ten threads;
//   smoothness: bricks.
#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "lattice/api.h"
#include "lattice/kernels.h"
#include "planes/checks.h"
#include "support/exports.h"
#include "support/guard.h"
#include "support/thread_pool.h"

namespace {

GM_EXPORT_FUNCTION(gaussianmri_lattice_render);
GM_EXPORT_FUNCTION(gaussianmri_lattice_render_backward);
GM_EXPORT_FUNCTION(gaussianmri_lattice_smooth);
GM_EXPORT_SIZE(GmLatticePlane);
GM_EXPORT_NUMBER(kBrickSide);
GM_EXPORT_NUMBER(kLatticeBelow);
GM_EXPORT_NUMBER(kLatticeAround);

constexpr int kTileRows = 16, kTileColumns = 512;
constexpr int kEnoughBlocks = 96, kLeastBlock = 2;  // blocks; bricks along an axis of a block
constexpr int64_t kTilesAtOnce = int64_t{1} << 20;

struct Planes {
  const double* to_node;
  const float *frames, *offsets, *weights;
  const int32_t* shapes;
  int64_t count, samples;
};

// The table with its border, checked.
struct Lattice {
  GmLattice view;
  std::vector<int32_t> padded;
  std::vector<int64_t> named;  // padded cells that have a brick, in the order of the table

  Lattice(const int32_t* table, const int32_t* size, int64_t bricks) {
    require(size, "size is a null pointer");
    require(bricks >= 0 && bricks < (int64_t{1} << 31) / 2, "the number of bricks is negative or 2^30 or more");
    int64_t cells = 1, all = 1;
    for (int axis = 0; axis < 3; ++axis) {
      require(size[axis] >= 0 && size[axis] <= kLatticeMostBricks, "a table has 0 to 65536 cells along each axis");
      cells *= size[axis];
      all *= size[axis] + kLatticeAround;
      require(all < (int64_t{1} << 30), "the table has too many cells");
    }
    require(cells == 0 || table, "table is a null pointer");
    view.stride[0] = size[0] + kLatticeAround;
    view.stride[1] = view.stride[0] * (size[1] + kLatticeAround);
    std::copy_n(size, 3, view.bricks);
    padded.assign(static_cast<size_t>(all), -1);
    std::vector<uint8_t> seen(static_cast<size_t>(bricks));
    named.reserve(seen.size());
    for (int z = 0; z < size[2]; ++z)
      for (int y = 0; y < size[1]; ++y) {
        const int64_t first = (z + kLatticeBelow) * int64_t{view.stride[1]} + (y + kLatticeBelow) * view.stride[0];
        for (int x = 0; x < size[0]; ++x) {
          const int32_t brick = *table++;
          require(brick >= -1 && brick < bricks, "the table names a brick that there is not");
          if (brick < 0) continue;
          require(!seen[static_cast<size_t>(brick)], "the table names a brick twice");
          seen[static_cast<size_t>(brick)] = 1;
          named.push_back(first + x + kLatticeBelow);
          padded[static_cast<size_t>(named.back())] = brick;
        }
      }
    view.table = padded.data();
  }

  // Open interval of lattice coordinates at which a sample reaches the nodes of padded cells low .. high - 1.
  static void reach(const int32_t* low, const int32_t* high, double* from, double* to) {
    for (int axis = 0; axis < 3; ++axis) {
      from[axis] = kBrickSide * (low[axis] - kLatticeBelow) - 2.0;
      to[axis] = kBrickSide * (high[axis] - kLatticeBelow) + 1.0;
    }
  }
};

int64_t check(const Planes& p, float background, int threads) {
  const int64_t total = check_shapes(p.shapes, p.count);
  check_planes(p.frames, p.offsets, p.weights, p.count, p.samples);
  require(p.to_node, "ras_to_node is a null pointer");
  for (int k = 0; k < 12; ++k) require(std::isfinite(p.to_node[k]), "ras_to_node has a value that is not finite");
  require(std::isfinite(background) && background >= 0.0f, "background must be finite and not negative");
  require(threads >= 1, "the number of threads must be at least 1");
  return total;
}

LatticeRow row_of(const GmLatticePlane& plane, int row, float offset, float weight) {
  LatticeRow result;
  gm_lattice_row(plane, row, offset, result.start);
  std::copy_n(plane.column, 3, result.step);
  result.weight = weight;
  return result;
}

std::vector<GmLatticePlane> in_lattice(const Planes& p) {
  std::vector<GmLatticePlane> result(static_cast<size_t>(p.count));
  for (size_t i = 0; i < result.size(); ++i) gm_lattice_plane(p.to_node, p.frames + 12 * i, &result[i]);
  return result;
}

struct Tile {
  int64_t plane, first_pixel;  // of the plane
  int32_t row, column;
};

void render(const Lattice& lattice, const float* nodes, const Planes& p, float background, int threads, float* image,
            float* density) {
  const LatticeKernels& kernels = gm_lattice_kernels();
  const std::vector<GmLatticePlane> planes = in_lattice(p);
  const int32_t low[3] = {kLatticeBelow, kLatticeBelow, kLatticeBelow};
  int32_t high[3];
  for (int axis = 0; axis < 3; ++axis) high[axis] = lattice.view.bricks[axis] + kLatticeBelow;
  double from[3], to[3];
  Lattice::reach(low, high, from, to);
  std::vector<Tile> tiles;
  const auto draw = [&](const Tile& tile) {
    const int32_t rows = p.shapes[2 * tile.plane], columns = p.shapes[2 * tile.plane + 1];
    const GmLatticePlane& plane = planes[static_cast<size_t>(tile.plane)];
    const int end_column = std::min(columns - tile.column, kTileColumns) + tile.column;
    for (int row = tile.row; row < std::min(rows, tile.row + kTileRows); ++row) {
      const int64_t pixel = tile.first_pixel + static_cast<int64_t>(row) * columns;
      std::fill(image + pixel + tile.column, image + pixel + end_column, 0.0f);
      std::fill(density + pixel + tile.column, density + pixel + end_column, 0.0f);
      if (lattice.named.empty()) continue;
      for (int64_t q = tile.plane * p.samples; q < (tile.plane + 1) * p.samples; ++q) {
        LatticeRow at = row_of(plane, row, p.offsets[q], p.weights[q]);
        at.first = tile.column;
        at.end = end_column;
        gm_lattice_clip(at.start, at.step, from, to, &at.first, &at.end);
        if (at.first < at.end) kernels.gather(lattice.view, nodes, at, background, image + pixel, density + pixel);
      }
    }
  };
  const auto flush = [&] {
    parallel_for(static_cast<int64_t>(tiles.size()), threads,
                 [&](int64_t index, int) { draw(tiles[static_cast<size_t>(index)]); });
    tiles.clear();
  };
  int64_t pixel = 0;
  for (int64_t plane = 0; plane < p.count; ++plane) {
    const int32_t rows = p.shapes[2 * plane], columns = p.shapes[2 * plane + 1];
    for (int32_t row = 0; row < rows && columns > 0; row += kTileRows)
      for (int32_t column = 0; column < columns; column += kTileColumns) {
        tiles.push_back({plane, pixel, row, column});
        if (static_cast<int64_t>(tiles.size()) == kTilesAtOnce) flush();
      }
    pixel += static_cast<int64_t>(rows) * columns;
  }
  flush();
}

// The padded cells cut into blocks that have bricks: low[3], then high[3].
std::vector<std::array<int32_t, 6>> blocks(const Lattice& lattice) {
  const int32_t* const size = lattice.view.bricks;
  int32_t parts[3] = {1, 1, 1};
  const auto side = [&](int axis) { return (size[axis] + parts[axis] - 1) / parts[axis]; };
  while (parts[0] * parts[1] * parts[2] < kEnoughBlocks) {
    int axis = 2;  // of two equal sides the outer one is cut
    for (int k = 1; k >= 0; --k)
      if (side(k) > side(axis)) axis = k;
    if (side(axis) < 2 * kLeastBlock) break;
    parts[axis] *= 2;
  }
  const size_t count = static_cast<size_t>(parts[0] * parts[1] * parts[2]);
  std::vector<bool> used(count);
  for (const int64_t cell : lattice.named) {
    const int at[3] = {static_cast<int>(cell % lattice.view.stride[0]) - kLatticeBelow,
                       static_cast<int>(cell % lattice.view.stride[1] / lattice.view.stride[0]) - kLatticeBelow,
                       static_cast<int>(cell / lattice.view.stride[1]) - kLatticeBelow};
    used[static_cast<size_t>((at[2] / side(2) * parts[1] + at[1] / side(1)) * parts[0] + at[0] / side(0))] = true;
  }
  std::vector<std::array<int32_t, 6>> result;
  for (size_t i = 0; i < count; ++i) {
    if (!used[i]) continue;
    const int index = static_cast<int>(i);
    const int at[3] = {index % parts[0], index / parts[0] % parts[1], index / parts[0] / parts[1]};
    std::array<int32_t, 6> block;
    for (int axis = 0; axis < 3; ++axis) {
      block[static_cast<size_t>(axis)] = kLatticeBelow + at[axis] * side(axis);
      block[static_cast<size_t>(axis + 3)] = kLatticeBelow + std::min(size[axis], (at[axis] + 1) * side(axis));
    }
    result.push_back(block);
  }
  return result;
}

void render_backward(const Lattice& lattice, const float* grad_image, int64_t bricks, const Planes& p, float background,
                     int threads, float* grad_nodes) {
  const LatticeKernels& kernels = gm_lattice_kernels();
  const std::vector<GmLatticePlane> planes = in_lattice(p);
  constexpr int64_t kCleared = 64;
  parallel_for((bricks + kCleared - 1) / kCleared, threads, [&](int64_t part, int) {
    std::fill(grad_nodes + part * kCleared * kBrickNodes,
              grad_nodes + std::min(bricks, (part + 1) * kCleared) * kBrickNodes, 0.0f);
  });
  const std::vector<std::array<int32_t, 6>> all = blocks(lattice);
  parallel_for(static_cast<int64_t>(all.size()), threads, [&](int64_t index, int) {
    alignas(64) float rest[kBrickNodes] = {};
    LatticeBlock block{grad_nodes, rest, {}, {}};
    std::copy_n(all[static_cast<size_t>(index)].data(), 3, block.low);
    std::copy_n(all[static_cast<size_t>(index)].data() + 3, 3, block.high);
    double from[3], to[3];
    Lattice::reach(block.low, block.high, from, to);
    int64_t pixel = 0;
    for (int64_t plane = 0; plane < p.count; ++plane) {
      const int32_t rows = p.shapes[2 * plane], columns = p.shapes[2 * plane + 1];
      const GmLatticePlane& place = planes[static_cast<size_t>(plane)];
      for (int64_t q = plane * p.samples; columns > 0 && q < (plane + 1) * p.samples; ++q) {
        int first_row = 0, end_row = rows;
        gm_lattice_clip_rows(place, p.offsets[q], columns, from, to, &first_row, &end_row);
        for (int row = first_row; row < end_row; ++row) {
          LatticeRow at = row_of(place, row, p.offsets[q], p.weights[q]);
          at.first = 0;
          at.end = columns;
          gm_lattice_clip(at.start, at.step, from, to, &at.first, &at.end);
          if (at.first < at.end)
            kernels.scatter(lattice.view, block, at, background,
                            grad_image + pixel + static_cast<int64_t>(row) * columns);
        }
      }
      pixel += static_cast<int64_t>(rows) * columns;
    }
  });
}

}  // namespace

int gaussianmri_lattice_render(const float* nodes, int64_t bricks, const int32_t* table, const int32_t* size,
                               const double* ras_to_node, const float* frames, const int32_t* shapes,
                               const float* offsets, const float* weights, int64_t planes, int64_t sample_count,
                               float background, int threads, float* image, float* density, char* message,
                               int64_t message_size) {
  return guarded(message, message_size, [&] {
    const Planes p{ras_to_node, frames, offsets, weights, shapes, planes, sample_count};
    const int64_t total = check(p, background, threads);
    const Lattice lattice(table, size, bricks);
    require(lattice.named.empty() || nodes, "nodes is a null pointer");
    require(total == 0 || (image && density), "image or density is a null pointer");
    render(lattice, nodes, p, background, threads, image, density);
  });
}

int gaussianmri_lattice_render_backward(const float* grad_image, int64_t bricks, const int32_t* table,
                                        const int32_t* size, const double* ras_to_node, const float* frames,
                                        const int32_t* shapes, const float* offsets, const float* weights,
                                        int64_t planes, int64_t sample_count, float background, int threads,
                                        float* grad_nodes, char* message, int64_t message_size) {
  return guarded(message, message_size, [&] {
    const Planes p{ras_to_node, frames, offsets, weights, shapes, planes, sample_count};
    const int64_t total = check(p, background, threads);
    const Lattice lattice(table, size, bricks);
    require(total == 0 || grad_image, "grad_image is a null pointer");
    require(bricks == 0 || grad_nodes, "grad_nodes is a null pointer");
    render_backward(lattice, grad_image, bricks, p, background, threads, grad_nodes);
  });
}

int gaussianmri_lattice_smooth(const float* nodes, const float* reference, int64_t bricks, const int32_t* table,
                               const int32_t* size, const float* scales, float edge, int threads, float* out,
                               char* message, int64_t message_size) {
  return guarded(message, message_size, [&] {
    const Lattice lattice(table, size, bricks);
    require(bricks == 0 || (nodes && out), "nodes or out is a null pointer");
    require(bricks == 0 || edge == 0.0f || reference, "reference is a null pointer");
    require(scales && finite(scales, 3), "scales must be three finite numbers");
    require(edge == 0.0f || (edge >= 1e-15f && edge <= 1e15f), "edge must be 0 or lie between 1e-15 and 1e15");
    require(threads >= 1, "the number of threads must be at least 1");
    const LatticeKernels& kernels = gm_lattice_kernels();
    if (static_cast<int64_t>(lattice.named.size()) < bricks) std::fill_n(out, bricks * kBrickNodes, 0.0f);
    const int step[3] = {1, lattice.view.stride[0], lattice.view.stride[1]};
    parallel_for(static_cast<int64_t>(lattice.named.size()), threads, [&](int64_t index, int) {
      const int32_t* const cell = lattice.view.table + lattice.named[static_cast<size_t>(index)];
      int32_t neighbours[6];
      for (int face = 0; face < 6; ++face) neighbours[face] = cell[face & 1 ? step[face >> 1] : -step[face >> 1]];
      kernels.smooth(nodes, reference, neighbours, *cell, scales, edge, out);
    });
  });
}
