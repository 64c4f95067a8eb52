"""Planes of pixels cut into tiles, a block of CUDA threads for each: the tables of csrc/support/tiles.cuh."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import Tensor

from ...errors import GaussianMRIError

TILE = 16  # pixels along each side
THREADS = 256  # of a block: a tile's pixels
NUMBERS = {"kTile": TILE}


@dataclass(frozen=True)
class Tiling:
    """The tables of csrc/support/tiles.cuh for one list of plane shapes."""

    planes: Tensor  # int32 (P, 5): rows, columns, first pixel, first tile, tiles in a row
    tile_planes: Tensor  # int32 (tiles,)
    first_tiles: list[int]  # P + 1
    total: int

    @property
    def tiles(self) -> int:
        return self.first_tiles[-1]

    def tile_of(self, parallel: int) -> int:
        """First tile of a parallel (sample * planes + plane) among all samples' tiles."""
        sample, plane = divmod(parallel, len(self.first_tiles) - 1)
        return sample * self.tiles + self.first_tiles[plane]


@functools.lru_cache(maxsize=64)
def _tile(shapes: tuple[tuple[int, int], ...], device: torch.device) -> Tiling:
    table, tile_planes, first_tiles, total = [], [], [0], 0
    for plane, (rows, columns) in enumerate(shapes):
        tiles_x = -(-columns // TILE)
        tiles = tiles_x * -(-rows // TILE)
        table.append((rows, columns, total, first_tiles[-1], tiles_x))
        tile_planes.append(torch.full((tiles,), plane, dtype=torch.int32))
        first_tiles.append(first_tiles[-1] + tiles)
        total += rows * columns
    if total >= 2**31:
        raise GaussianMRIError(f"{total} pixels in one call are too many; render fewer planes at a time.")
    planes = torch.tensor(table, dtype=torch.int32).reshape(-1, 5)
    owners = torch.cat(tile_planes or [torch.empty(0, dtype=torch.int32)])
    return Tiling(planes.to(device), owners.to(device), first_tiles, total)


def tiling_of(shapes: Tensor, device: torch.device) -> Tiling:
    return _tile(tuple((int(rows), int(columns)) for rows, columns in shapes.tolist()), device)


def blocks(threads: int, block: int = THREADS) -> tuple[int, int]:
    """Grid of as many blocks as it takes for so many threads."""
    return -(-threads // block), 1
