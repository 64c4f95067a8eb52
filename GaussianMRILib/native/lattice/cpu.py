"""The lattice's operators by the compiled library."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import torch
from torch import Tensor

from ..support.library import KernelLibrary, threads
from .arguments import NUMBERS, SIDE, LatticePlanes


class CpuLattice:
    """The operators on CPU tensors that have been checked."""

    def __init__(self, library: KernelLibrary) -> None:
        library.agree(NUMBERS)
        self.library = library

    def lattice_render(self, nodes: Tensor, planes: LatticePlanes) -> tuple[Tensor, Tensor]:
        """Image and density (total)."""
        out = torch.empty(planes.total, dtype=torch.float32), torch.empty(planes.total, dtype=torch.float32)
        self.library.call("lattice_render", nodes, nodes.shape[0], *_planes(planes), *out)
        return out

    def lattice_render_backward(self, grad_image: Tensor, planes: LatticePlanes, brick_count: int) -> Tensor:
        """Gradient (brick_count, 8, 8, 8) by the nodes."""
        gradient = torch.empty(brick_count, SIDE, SIDE, SIDE, dtype=torch.float32)
        self.library.call("lattice_render_backward", grad_image, brick_count, *_planes(planes), gradient)
        return gradient

    def lattice_smooth(
        self, nodes: Tensor, reference: Tensor, table: Tensor, scales: Sequence[float], edge: float
    ) -> Tensor:
        """The smoothness prior's gradient (B, 8, 8, 8)."""
        out = torch.empty_like(nodes)
        self.library.call(
            "lattice_smooth", nodes, reference, nodes.shape[0], table, _size(table), (ctypes.c_float * 3)(*scales), edge,
            threads(), out,
        )  # fmt: skip
        return out


def _size(table: Tensor) -> ctypes.Array[ctypes.c_int32]:
    """Cells along x, y, z."""
    return (ctypes.c_int32 * 3)(*table.shape[::-1])


def _planes(planes: LatticePlanes) -> tuple[Tensor | ctypes.Array | float, ...]:
    """The C interface's arguments from table to threads."""
    return (
        planes.table, _size(planes.table), planes.ras_to_node, planes.frames, planes.shapes, planes.offsets,
        planes.weights, *planes.offsets.shape, planes.background, threads(),
    )  # fmt: skip
