"""Rasterising of splats on CUDA: order of kernel launches, sorts and prefix sums; kernels: csrc/cuda/splat.cuh.

Everything but the launcher is torch, so the same code runs with a host emulation of the kernels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import GaussianMRIError
from .cuda_launch import Launcher

_TILE, _THREADS = 16, 256
_SPLAT_FLOATS, _CUT_FLOATS = 16, 8  # GmSplat, GmCut of splat_math.h
_SUMS, _CUT_SUMS = 10, 20  # kSplatSums, kSplatCutSums


@dataclass(frozen=True)
class _Lists:
    """The splats of every tile, nearest first."""

    splats: Tensor  # (N, _SPLAT_FLOATS)
    cuts: Tensor  # (N, _CUT_FLOATS)
    radii: Tensor
    order: Tensor  # (N,) rank by depth to splat
    ends: Tensor  # (N,) entries of the ranks up to this one
    entry_splats: Tensor  # (entries,)
    entry_order: Tensor  # (entries,) by tile
    starts: Tensor  # (tiles + 1,)


class CudaRasteriser:
    """The operators of `splat_ops` on one launcher."""

    def __init__(self, launcher: Launcher) -> None:
        self.launcher = launcher

    def rasterise(
        self, splats: tuple[Tensor, ...], camera: Tensor, width: int, height: int
    ) -> tuple[Tensor, ...]:
        """Image, alpha, depth and radii."""
        means = splats[0]
        camera = camera.to(means.device)
        lists = self._lists(splats, camera, width, height)
        out = (means.new_empty(height, width, 3), *(means.new_empty(height, width) for _ in range(2)))
        self.launcher.launch(
            "gm_splat_draw", _grid(width, height), _THREADS, camera, *_given(lists), *out, width, height
        )
        return *out, lists.radii

    def rasterise_backward(
        self, images: tuple[Tensor, ...], gradients: tuple[Tensor, ...], splats: tuple[Tensor, ...], camera: Tensor,
        width: int, height: int,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        """Gradients of means, quaternions, scales, sh, opacities, screen."""
        means, sh = splats[0], splats[3]
        stride = _CUT_SUMS if camera[26] > 0 else _SUMS
        camera = camera.to(means.device)
        lists = self._lists(splats, camera, width, height)
        records = means.new_empty(len(lists.entry_splats), stride)
        self.launcher.launch(
            "gm_splat_pull_tiles", _grid(width, height), _THREADS, camera, *_given(lists), *images, *gradients,
            records, stride, width, height,
        )  # fmt: skip
        out = (*(torch.zeros_like(t) for t in splats), means.new_zeros(len(means), 2))
        if len(means):
            self.launcher.launch(
                "gm_splat_chain_sums", _blocks(len(means), 128), 128, camera, lists.splats, *splats, lists.order,
                lists.ends, records, *out, len(means), sh.shape[1], stride, width, height,
            )  # fmt: skip
        return out

    def _lists(self, splats: tuple[Tensor, ...], camera: Tensor, width: int, height: int) -> _Lists:
        means, sh = splats[0], splats[3]
        count, device = len(means), means.device
        placed, cuts = means.new_empty(count, _SPLAT_FLOATS), means.new_empty(max(count, 1), _CUT_FLOATS)
        depths, radii = means.new_empty(2, count)
        counts = torch.empty(count, dtype=torch.int32, device=device)
        if count:
            self.launcher.launch(
                "gm_splat_place_all", _blocks(count), _THREADS, camera, *splats, placed, cuts, depths, counts, radii,
                count, sh.shape[1], width, height,
            )  # fmt: skip
        order = torch.sort(depths, stable=True).indices
        ends = counts[order].long().cumsum(0)
        entries = int(ends[-1]) if count else 0  # the only wait for the GPU
        if entries >= 2**31:
            raise GaussianMRIError(
                f"{entries} splats in tiles are too many for one picture; render a smaller one."
            )
        keys, entry_splats = torch.empty(2, entries, dtype=torch.int32, device=device)
        if entries:
            self.launcher.launch(
                "gm_splat_scatter", _blocks(count), _THREADS, placed, order, ends, keys, entry_splats, count, width,
                height,
            )  # fmt: skip
        keys, entry_order = torch.sort(keys, stable=True)
        across, down = _grid(width, height)
        bounds = torch.arange(across * down + 1, dtype=torch.int32, device=device)
        starts = torch.searchsorted(keys, bounds, out_int32=True)
        return _Lists(placed, cuts, radii, order, ends, entry_splats, entry_order, starts)


def _given(lists: _Lists) -> tuple[Tensor, ...]:
    return lists.splats, lists.cuts, lists.entry_splats, lists.entry_order, lists.starts


def _grid(width: int, height: int) -> tuple[int, int]:
    return -(-width // _TILE), -(-height // _TILE)


def _blocks(threads: int, block: int = _THREADS) -> tuple[int, int]:
    return -(-threads // block), 1


def rasteriser() -> CudaRasteriser:
    """The rasteriser on this machine's GPU.

    Raises:
        GaussianMRIError: the package cuda-core is missing.
    """
    from .cuda import _operators

    return CudaRasteriser(_operators().launcher)
