"""The lattice's operators on CUDA; kernels: csrc/lattice/cuda.cuh.

Everything but the launcher is torch, so the same code runs with a host emulation of the kernels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..cuda_launch import Launcher
from ..cuda_operators import _tiling
from .reference import SIDE

_THREADS = 256


class CudaLattice:
    """The operators of `operators` on one launcher; tensors have been checked and are contiguous."""

    def __init__(self, launcher: Launcher) -> None:
        self.launcher = launcher

    def render(
        self, nodes: Tensor, table: Tensor, ras_to_node: Tensor, frames: Tensor, shapes: Tensor, offsets: Tensor,
        weights: Tensor, background: float,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """Image and density (total)."""
        tiling = _tiling(shapes, nodes.device)
        image, density = nodes.new_empty(tiling.total), nodes.new_empty(tiling.total)
        if tiling.tiles:
            self.launcher.launch(
                "gm_lattice_render", (tiling.tiles, 1), _THREADS, nodes, _padded(table), _planes(ras_to_node, frames),
                tiling.planes, tiling.tile_planes, offsets, weights, image, density, *table.shape[::-1],
                offsets.shape[1], background,
            )  # fmt: skip
        return image, density

    def render_backward(
        self, grad_image: Tensor, table: Tensor, ras_to_node: Tensor, frames: Tensor, shapes: Tensor, offsets: Tensor,
        weights: Tensor, background: float, *, brick_count: int,
    ) -> Tensor:  # fmt: skip
        """Gradient (B, 8, 8, 8) by the nodes."""
        gradient = grad_image.new_zeros(brick_count, SIDE, SIDE, SIDE)
        padded = _padded(table)
        cells = _named(padded)
        tiling = _tiling(shapes, grad_image.device)
        if len(cells) and tiling.total:
            self.launcher.launch(
                "gm_lattice_render_backward", (len(cells), 1), 32, grad_image, padded, _planes(ras_to_node, frames),
                tiling.planes, cells, offsets, weights, gradient, *table.shape[::-1], *offsets.shape, background,
            )  # fmt: skip
        return gradient

    def smooth(
        self, nodes: Tensor, guide: Tensor, table: Tensor, scales: Sequence[float], edge: float
    ) -> Tensor:
        """The smoothness prior's gradient (B, 8, 8, 8)."""
        out = torch.zeros_like(nodes)
        padded = _padded(table)
        cells = _named(padded)
        if len(cells):
            self.launcher.launch(
                "gm_lattice_smooth", (len(cells), 1), SIDE**3, nodes, guide, padded, cells, out, padded.stride(1),
                padded.stride(0), *scales, edge,
            )  # fmt: skip
        return out


def _padded(table: Tensor) -> Tensor:
    """The table with the border of missing bricks that math.h asks for: one before, two after."""
    return torch.nn.functional.pad(table, (1, 2) * 3, value=-1)


def _named(padded: Tensor) -> Tensor:
    """Places (n,) int32 of the bricks in the padded table."""
    return torch.nonzero(padded.reshape(-1) >= 0).reshape(-1).int()


def _planes(ras_to_node: Tensor, frames: Tensor) -> Tensor:
    """GmLatticePlane of each frame: (P, 4, 3) float64, start, steps per column, row and millimetre."""
    matrix = ras_to_node.to(frames.device)
    planes = frames.double().reshape(-1, 4, 3) @ matrix[:, :3].T
    planes[:, 0] += matrix[:, 3]
    return planes.contiguous()


def lattice() -> CudaLattice:
    """The operators on this machine's GPU.

    Raises:
        GaussianMRIError: the package cuda-core is missing.
    """
    from ..cuda import _operators

    return CudaLattice(_operators().launcher)
