"""The lattice's operators on CUDA; kernels: csrc/lattice/cuda.cuh.

Everything but the launcher is torch, so the same code runs with a host emulation of the kernels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..support.cuda_launch import Launcher
from ..support.tiles import THREADS, tiling_of
from .arguments import AROUND, BELOW, SIDE, LatticePlanes


class CudaLattice:
    """The operators on one launcher."""

    def __init__(self, launcher: Launcher) -> None:
        self.launcher = launcher

    def lattice_render(self, nodes: Tensor, planes: LatticePlanes) -> tuple[Tensor, Tensor]:
        """Image and density (total)."""
        tiling = tiling_of(planes.shapes, nodes.device)
        image, density = nodes.new_empty(tiling.total), nodes.new_empty(tiling.total)
        if tiling.tiles:
            self.launcher.launch(
                "gm_lattice_render", (tiling.tiles, 1), THREADS, nodes, _padded(planes.table), _in_lattice(planes),
                tiling.planes, tiling.tile_planes, planes.offsets, planes.weights, image, density,
                *planes.table.shape[::-1], planes.offsets.shape[1], planes.background,
            )  # fmt: skip
        return image, density

    def lattice_render_backward(self, grad_image: Tensor, planes: LatticePlanes, brick_count: int) -> Tensor:
        """Gradient (brick_count, 8, 8, 8) by the nodes."""
        gradient = grad_image.new_zeros(brick_count, SIDE, SIDE, SIDE)
        padded = _padded(planes.table)
        cells = _named(padded)
        tiling = tiling_of(planes.shapes, grad_image.device)
        if len(cells) and tiling.total:
            self.launcher.launch(
                "gm_lattice_render_backward", (len(cells), 1), 32, grad_image, padded, _in_lattice(planes),
                tiling.planes, cells, planes.offsets, planes.weights, gradient, *planes.table.shape[::-1],
                *planes.offsets.shape, planes.background,
            )  # fmt: skip
        return gradient

    def lattice_smooth(
        self, nodes: Tensor, reference: Tensor, table: Tensor, scales: Sequence[float], edge: float
    ) -> Tensor:
        """The smoothness prior's gradient (B, 8, 8, 8)."""
        out = torch.zeros_like(nodes)
        padded = _padded(table)
        cells = _named(padded)
        if len(cells):
            self.launcher.launch(
                "gm_lattice_smooth", (len(cells), 1), SIDE**3, nodes, reference, padded, cells, out, padded.stride(1),
                padded.stride(0), *scales, edge,
            )  # fmt: skip
        return out


def _padded(table: Tensor) -> Tensor:
    """The table with the border of missing bricks that math.h asks for: some before, some after each axis."""
    return torch.nn.functional.pad(table, (BELOW, AROUND - BELOW) * 3, value=-1)


def _named(padded: Tensor) -> Tensor:
    """Places (n,) int32 of the bricks in the padded table."""
    return torch.nonzero(padded.reshape(-1) >= 0).reshape(-1).int()


def _in_lattice(planes: LatticePlanes) -> Tensor:
    """GmLatticePlane of each frame: (P, 4, 3) float64, start, steps per column, row and millimetre."""
    matrix = planes.ras_to_node.to(planes.frames.device)
    steps = planes.frames.double().reshape(-1, 4, 3) @ matrix[:, :3].T
    steps[:, 0] += matrix[:, 3]
    return steps.contiguous()
