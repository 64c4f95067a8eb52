"""The CUDA operators: order of kernel launches, prefix sums, sorting and memory limits.

`CudaOperators` takes its launcher as an argument, and everything else it calls is torch, so the same code
runs with a host emulation of the kernels.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import GaussianMRIError
from .cuda_launch import Launcher

_TILE = 16  # kTile of tiles.cuh
_THREADS = 256
_ENTRY_BITS = 36  # kEntryBits of render.cuh
_PLANE_FLOATS = 19  # sizeof(GmPlane) / 4


@dataclass(frozen=True)
class _Tiling:
    """The tables of csrc/cuda/tiles.cuh for one list of plane shapes."""

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
def _tile(shapes: tuple[tuple[int, int], ...], device: torch.device) -> _Tiling:
    table, tile_planes, first_tiles, total = [], [], [0], 0
    for plane, (rows, columns) in enumerate(shapes):
        tiles_x = -(-columns // _TILE)
        tiles = tiles_x * -(-rows // _TILE)
        table.append((rows, columns, total, first_tiles[-1], tiles_x))
        tile_planes.append(torch.full((tiles,), plane, dtype=torch.int32))
        first_tiles.append(first_tiles[-1] + tiles)
        total += rows * columns
    if total >= 2**31:
        raise GaussianMRIError(f"{total} pixels in one call are too many; render fewer planes at a time.")
    planes = torch.tensor(table, dtype=torch.int32).reshape(-1, 5)
    owners = torch.cat(tile_planes or [torch.empty(0, dtype=torch.int32)])
    return _Tiling(planes.to(device), owners.to(device), first_tiles, total)


def _tiling(shapes: Tensor, device: torch.device) -> _Tiling:
    return _tile(tuple((int(rows), int(columns)) for rows, columns in shapes.tolist()), device)


def _blocks(threads: int, block: int = _THREADS) -> tuple[int, int]:
    return -(-threads // block), 1


@dataclass(frozen=True)
class _Forward:
    """What every range of units of one forward pass has in common."""

    parameters: Tensor
    frames: Tensor  # prepared
    tiling: _Tiling
    offsets: Tensor
    cut: float
    numerator: Tensor  # (Q, total), as density
    density: Tensor


class CudaOperators:
    """The operators on one launcher; arguments and results as in `GaussianMRILib.native`.

    Args:
        launcher: where kernels run.
        max_units: Gaussians x parallels looked at in one pass (8 bytes each).
        max_entries: footprints x tiles sorted in one pass (about 50 bytes each).
    """

    def __init__(self, launcher: Launcher, max_units: int = 1 << 23, max_entries: int = 1 << 24) -> None:
        self.launcher = launcher
        self.max_units = max_units
        self.max_entries = max_entries

    def render_planes(
        self, parameters: Tensor, frames: Tensor, shapes: Tensor, offsets: Tensor, weights: Tensor,
        background: float, cut: float,
    ) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
        """Image (total,), samples (Q, total), density (Q, total)."""
        parameters, offsets = parameters.contiguous(), offsets.contiguous()
        tiling = _tiling(shapes, parameters.device)
        samples = parameters.new_zeros(offsets.shape[1], tiling.total)
        density = torch.zeros_like(samples)
        image = parameters.new_empty(tiling.total)
        if tiling.tiles == 0:
            return image, samples, density
        forward = _Forward(parameters, self._prepare(frames), tiling, offsets, cut, samples, density)
        units = parameters.shape[1] * offsets.numel()
        # The prefix sum has _ENTRY_BITS for entries: enough even if every unit met every tile of its plane.
        step = max(1, min(self.max_units, (1 << _ENTRY_BITS) // tiling.tiles - 1))
        for first in range(0, units, step):
            self._add_units(forward, first, min(step, units - first))
        self.launcher.launch(
            "gm_finish_pixels", (tiling.tiles, 1), _THREADS, tiling.planes, tiling.tile_planes,
            weights.contiguous(), samples, density, image, offsets.shape[1], tiling.total, background,
        )  # fmt: skip
        return image, samples, density

    def _add_units(self, forward: _Forward, first: int, units: int) -> None:
        """Add the units [first, first + units); halves a range that would need too much memory."""
        tiling, cut, device = forward.tiling, forward.cut, forward.parameters.device
        gaussians, (planes, samples) = forward.parameters.shape[1], forward.offsets.shape
        scene = (forward.parameters, forward.frames, tiling.planes, forward.offsets)
        ends = torch.empty(units, dtype=torch.int64, device=device)
        self.launcher.launch(
            "gm_count_tiles", _blocks(units), _THREADS, *scene, ends, first, units, gaussians, planes,
            samples, cut,
        )  # fmt: skip
        ends.cumsum_(0)
        packed = int(ends[-1])  # the forward pass's only wait for the GPU
        visible, entries = packed >> _ENTRY_BITS, packed & ((1 << _ENTRY_BITS) - 1)
        if visible == 0:
            return
        if entries > self.max_entries and units > 1:
            self._add_units(forward, first, units // 2)
            self._add_units(forward, first + units // 2, units - units // 2)
            return
        records = torch.empty(visible, 8, dtype=torch.float32, device=device)
        keys = torch.empty(entries, dtype=torch.int32, device=device)
        entry_records = torch.empty_like(keys)
        self.launcher.launch(
            "gm_write_entries", _blocks(units), _THREADS, *scene, ends, records, keys, entry_records, first,
            units, gaussians, planes, samples, tiling.tiles, cut,
        )  # fmt: skip
        keys, order = torch.sort(keys, stable=True)
        first_tile = tiling.tile_of(first // gaussians)
        end_tile = tiling.tile_of((first + units - 1) // gaussians + 1)
        bounds = torch.arange(first_tile, end_tile + 1, dtype=torch.int32, device=device)
        starts = torch.searchsorted(keys, bounds, out_int32=True)
        self.launcher.launch(
            "gm_add_entries", (end_tile - first_tile, 1), _THREADS, tiling.planes, tiling.tile_planes,
            records, entry_records, order, starts, forward.numerator, forward.density, first_tile,
            tiling.tiles, tiling.total, cut,
        )  # fmt: skip

    def _prepare(self, frames: Tensor) -> Tensor:
        prepared = frames.new_empty(frames.shape[0], _PLANE_FLOATS)
        if frames.shape[0]:
            self.launcher.launch("gm_prepare_planes", (len(frames), 1), 32, frames.contiguous(), prepared)
        return prepared

    def render_planes_backward(
        self, grad_image: Tensor, samples: Tensor, density: Tensor, parameters: Tensor, frames: Tensor,
        shapes: Tensor, offsets: Tensor, weights: Tensor, background: float, cut: float,
    ) -> Tensor:  # fmt: skip
        """Gradient (11, N). `background` is part of `density` already."""
        del background
        tiling = _tiling(shapes, parameters.device)
        gaussians = parameters.shape[1]
        gradient = parameters.new_empty(parameters.shape)
        if gaussians:
            pixels = (grad_image.contiguous(), samples.contiguous(), density.contiguous())
            self.launcher.launch(
                "gm_render_backward", _blocks(gaussians, 4), 128, *pixels, parameters.contiguous(),
                self._prepare(frames), tiling.planes, offsets.contiguous(), weights.contiguous(), gradient,
                gaussians, *offsets.shape, tiling.total, cut,
            )  # fmt: skip
        return gradient

    def ssim(self, image: Tensor, target: Tensor, shapes: Tensor) -> tuple[Tensor, Tensor]:
        """Mean SSIM (P,) and its gradient (total,)."""
        tiling = _tiling(shapes, image.device)
        gradient, mean = image.new_empty(image.shape), image.new_empty(len(shapes))
        maps, sums = image.new_empty(3, tiling.total), image.new_empty(tiling.tiles)
        given = (tiling.planes, tiling.tile_planes, image.contiguous(), target.contiguous(), maps)
        grid = (tiling.tiles, 1)
        if tiling.tiles:
            self.launcher.launch("gm_ssim_maps", grid, _THREADS, *given, sums, tiling.total)
            self.launcher.launch("gm_ssim_gradient", grid, _THREADS, *given, gradient, tiling.total)
        if len(shapes):
            self.launcher.launch("gm_ssim_mean", (len(shapes), 1), _THREADS, tiling.planes, sums, mean)
        return mean, gradient

    def adam_(
        self, parameters: Tensor, grad: Tensor, m: Tensor, v: Tensor, rates: Tensor, modes: Tensor, step: int,
        beta1: float, beta2: float, eps: float,
    ) -> None:  # fmt: skip
        """One Adam step in place; `step` counts from 1."""
        rows, columns = parameters.shape
        if parameters.numel():
            rates, modes = (x.to(parameters.device).contiguous() for x in (rates, modes))
            self.launcher.launch(
                "gm_adam_step", (_blocks(columns)[0], rows), _THREADS, parameters, grad.contiguous(), m, v,
                rates, modes, columns, beta1, beta2, 1.0 / (1.0 - beta1**step), 1.0 / (1.0 - beta2**step),
                eps,
            )  # fmt: skip
