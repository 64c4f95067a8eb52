"""The operators of planes on CUDA: order of kernel launches, prefix sums, sorting and memory limits.

`CudaPlanes` takes its launcher as an argument, and everything else it calls is torch, so the same code
runs with a host emulation of the kernels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..support.cuda_launch import Launcher
from ..support.tiles import THREADS, Tiling, blocks, tiling_of
from .arguments import ENTRY_BITS, PLANE, AdamStep, PlaneScene


@dataclass(frozen=True)
class _Forward:
    """What every range of units of one forward pass has in common."""

    parameters: Tensor
    frames: Tensor  # prepared
    tiling: Tiling
    offsets: Tensor
    cut: float
    numerator: Tensor  # (Q, total), as density
    density: Tensor


class CudaPlanes:
    """The operators on one launcher.

    Args:
        launcher: where kernels run.
        max_units: Gaussians x parallels looked at in one pass (8 bytes each).
        max_entries: footprints x tiles sorted in one pass (about 50 bytes each).
    """

    def __init__(self, launcher: Launcher, max_units: int = 1 << 23, max_entries: int = 1 << 24) -> None:
        self.launcher = launcher
        self.max_units = max_units
        self.max_entries = max_entries

    def render_planes(self, scene: PlaneScene) -> tuple[Tensor, Tensor, Tensor]:
        """Image (total,), samples (Q, total), density (Q, total)."""
        parameters, offsets = scene.parameters, scene.offsets
        tiling = tiling_of(scene.shapes, parameters.device)
        samples = parameters.new_zeros(offsets.shape[1], tiling.total)
        density = torch.zeros_like(samples)
        image = parameters.new_empty(tiling.total)
        if tiling.tiles == 0:
            return image, samples, density
        forward = _Forward(parameters, self._prepare(scene.frames), tiling, offsets, scene.cut, samples, density)
        units = parameters.shape[1] * offsets.numel()
        # The prefix sum has ENTRY_BITS for entries: enough even if every unit met every tile of its plane.
        step = max(1, min(self.max_units, (1 << ENTRY_BITS) // tiling.tiles - 1))
        for first in range(0, units, step):
            self._add_units(forward, first, min(step, units - first))
        self.launcher.launch(
            "gm_finish_pixels", (tiling.tiles, 1), THREADS, tiling.planes, tiling.tile_planes,
            scene.weights, samples, density, image, offsets.shape[1], tiling.total, scene.background,
        )  # fmt: skip
        return image, samples, density

    def _add_units(self, forward: _Forward, first: int, units: int) -> None:
        """Add the units [first, first + units); halves a range that would need too much memory."""
        tiling, cut, device = forward.tiling, forward.cut, forward.parameters.device
        gaussians, (planes, samples) = forward.parameters.shape[1], forward.offsets.shape
        scene = (forward.parameters, forward.frames, tiling.planes, forward.offsets)
        ends = torch.empty(units, dtype=torch.int64, device=device)
        self.launcher.launch(
            "gm_count_tiles", blocks(units), THREADS, *scene, ends, first, units, gaussians, planes,
            samples, cut,
        )  # fmt: skip
        ends.cumsum_(0)
        packed = int(ends[-1])  # the forward pass's only wait for the GPU
        visible, entries = packed >> ENTRY_BITS, packed & ((1 << ENTRY_BITS) - 1)
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
            "gm_write_entries", blocks(units), THREADS, *scene, ends, records, keys, entry_records, first,
            units, gaussians, planes, samples, tiling.tiles, cut,
        )  # fmt: skip
        keys, order = torch.sort(keys, stable=True)
        first_tile = tiling.tile_of(first // gaussians)
        end_tile = tiling.tile_of((first + units - 1) // gaussians + 1)
        bounds = torch.arange(first_tile, end_tile + 1, dtype=torch.int32, device=device)
        starts = torch.searchsorted(keys, bounds, out_int32=True)
        self.launcher.launch(
            "gm_add_entries", (end_tile - first_tile, 1), THREADS, tiling.planes, tiling.tile_planes,
            records, entry_records, order, starts, forward.numerator, forward.density, first_tile,
            tiling.tiles, tiling.total, cut,
        )  # fmt: skip

    def _prepare(self, frames: Tensor) -> Tensor:
        prepared = frames.new_empty(frames.shape[0], PLANE.itemsize // 4)
        if frames.shape[0]:
            self.launcher.launch("gm_prepare_planes", (len(frames), 1), 32, frames, prepared)
        return prepared

    def render_planes_backward(
        self, grad_image: Tensor, samples: Tensor, density: Tensor, scene: PlaneScene
    ) -> Tensor:
        """Gradient (11, N). The background is part of `density` already."""
        tiling = tiling_of(scene.shapes, scene.parameters.device)
        gaussians = scene.parameters.shape[1]
        gradient = scene.parameters.new_empty(scene.parameters.shape)
        if gaussians:
            self.launcher.launch(
                "gm_render_backward", blocks(gaussians, 4), 128, grad_image, samples, density, scene.parameters,
                self._prepare(scene.frames), tiling.planes, scene.offsets, scene.weights, gradient, gaussians,
                *scene.offsets.shape, tiling.total, scene.cut,
            )  # fmt: skip
        return gradient

    def ssim(self, image: Tensor, target: Tensor, shapes: Tensor) -> tuple[Tensor, Tensor]:
        """Mean SSIM (P,) and its gradient (total,)."""
        tiling = tiling_of(shapes, image.device)
        gradient, mean = image.new_empty(image.shape), image.new_empty(len(shapes))
        maps, sums = image.new_empty(3, tiling.total), image.new_empty(tiling.tiles)
        given = (tiling.planes, tiling.tile_planes, image, target, maps)
        grid = (tiling.tiles, 1)
        if tiling.tiles:
            self.launcher.launch("gm_ssim_maps", grid, THREADS, *given, sums, tiling.total)
            self.launcher.launch("gm_ssim_gradient", grid, THREADS, *given, gradient, tiling.total)
        if len(shapes):
            self.launcher.launch("gm_ssim_mean", (len(shapes), 1), THREADS, tiling.planes, sums, mean)
        return mean, gradient

    def adam_(self, step: AdamStep) -> None:
        """One step in place."""
        rows, columns = step.parameters.shape
        if step.parameters.numel():
            corrections = (1.0 / (1.0 - beta**step.step) for beta in (step.beta1, step.beta2))
            self.launcher.launch(
                "gm_adam_step", (blocks(columns)[0], rows), THREADS, step.parameters, step.grad, step.m, step.v,
                step.rates, step.modes, columns, step.beta1, step.beta2, *corrections, step.eps,
            )  # fmt: skip
