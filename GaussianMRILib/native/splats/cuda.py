"""Rasterising of splats on CUDA: order of kernel launches, sorts and prefix sums; kernels: csrc/splats/cuda.cuh.

Everything but the launcher is torch, so the same code runs with a host emulation of the kernels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ...errors import GaussianMRIError
from ..support.cuda_launch import Launcher
from ..support.tiles import THREADS, TILE, blocks
from .arguments import CUT, CUT_SUMS, SPLAT, SUMS, Pictures, SplatScene


@dataclass(frozen=True)
class _Lists:
    """The splats of every tile, nearest first."""

    splats: Tensor  # (N,) SPLAT
    cuts: Tensor  # (N,) CUT
    radii: Tensor
    order: Tensor  # (N,) rank by depth to splat
    ends: Tensor  # (N,) entries of the ranks up to this one
    entry_splats: Tensor  # (entries,)
    entry_order: Tensor  # (entries,) by tile
    starts: Tensor  # (tiles + 1,)


class CudaSplats:
    """The operators on one launcher."""

    def __init__(self, launcher: Launcher) -> None:
        self.launcher = launcher

    def rasterise(self, scene: SplatScene) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Image, alpha, depth and radii."""
        size = scene.height, scene.width
        camera = scene.camera.to(scene.means.device)
        lists = self._lists(scene, camera)
        image, alpha, depth = (scene.means.new_empty(shape) for shape in ((*size, 3), size, size))
        self.launcher.launch(
            "gm_splat_draw", _grid(scene), THREADS, camera, *_given(lists), image, alpha, depth, scene.width,
            scene.height,
        )  # fmt: skip
        return image, alpha, depth, lists.radii

    def rasterise_backward(
        self, drawn: Pictures, gradients: Pictures, scene: SplatScene
    ) -> tuple[Tensor, ...]:
        """Gradients of means, quaternions, scales, sh, opacities, screen."""
        means, size = scene.means, (scene.width, scene.height)
        stride = CUT_SUMS if scene.cuts else SUMS
        camera = scene.camera.to(means.device)
        lists = self._lists(scene, camera)
        records = means.new_zeros(len(lists.entry_splats), stride)  # of entries without a tile nobody writes them
        self.launcher.launch(
            "gm_splat_pull_tiles", _grid(scene), THREADS, camera, *_given(lists), *drawn.tensors, *gradients.tensors,
            records, stride, *size,
        )  # fmt: skip
        out = tuple(torch.zeros_like(t) for t in (*scene.splats, scene.screen))
        if len(means):
            self.launcher.launch(
                "gm_splat_chain_sums", blocks(len(means), 128), 128, camera, lists.splats, *scene.splats, lists.order,
                lists.ends, records, *out, len(means), scene.sh.shape[1], stride, *size,
            )  # fmt: skip
        return out

    def _lists(self, scene: SplatScene, camera: Tensor) -> _Lists:
        means, size = scene.means, (scene.width, scene.height)
        count, device = len(means), means.device
        placed, cuts = (means.new_empty(max(count, 1), kind.itemsize // 4) for kind in (SPLAT, CUT))
        depths, radii = means.new_empty(2, count)
        counts = torch.empty(count, dtype=torch.int32, device=device)
        if count:
            self.launcher.launch(
                "gm_splat_place_all", blocks(count), THREADS, camera, *scene.splats, placed, cuts, depths, counts, radii,
                count, scene.sh.shape[1], *size,
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
                "gm_splat_scatter", blocks(count), THREADS, placed, order, ends, keys, entry_splats, count, *size
            )
        keys, entry_order = torch.sort(keys, stable=True)
        across, down = _grid(scene)
        bounds = torch.arange(across * down + 1, dtype=torch.int32, device=device)
        starts = torch.searchsorted(keys, bounds, out_int32=True)
        return _Lists(placed, cuts, radii, order, ends, entry_splats, entry_order, starts)


def _given(lists: _Lists) -> tuple[Tensor, ...]:
    return lists.splats, lists.cuts, lists.entry_splats, lists.entry_order, lists.starts


def _grid(scene: SplatScene) -> tuple[int, int]:
    return -(-scene.width // TILE), -(-scene.height // TILE)
