// Planes of pixels cut into tiles, a block of kTilePixels threads for each: all pixels of all planes lie in one
// row-major array, plane after plane.
#pragma once

#include "support/math.h"

// One row of the table `planes` (int32 [planes, 5]).
struct PlaneGrid {
  int rows, columns;
  int pixels;      // index of the plane's first pixel
  int first_tile;  // index of the plane's first tile among all planes' tiles
  int tiles_x;     // tiles in a row of tiles
};

constexpr int kNoTile = 0x7fffffff;  // sorted behind all tiles, where nobody looks

struct Tile {
  int plane;
  int rows, columns, pixels;  // of its plane
  int row0, column0;          // the tile's first pixel
};

GM_FUNCTION PlaneGrid read_plane_grid(const int* planes, int index) {
  const int* row = planes + 5 * index;
  return {row[0], row[1], row[2], row[3], row[4]};
}

// `tile_planes` (int32 [tiles]) names the plane of each tile.
GM_FUNCTION Tile find_tile(const int* planes, const int* tile_planes, int index) {
  const int plane = tile_planes[index];
  const PlaneGrid grid = read_plane_grid(planes, plane);
  const int local = index - grid.first_tile;
  return {plane, grid.rows, grid.columns, grid.pixels, local / grid.tiles_x * kTile, local % grid.tiles_x * kTile};
}
