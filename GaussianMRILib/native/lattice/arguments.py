"""What the lattice's operators take, and what an implementation of them does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ..planes.arguments import check_planes, pixel_count
from ..support.operators import CPU, check, check_tensor

SIDE = 8  # nodes along each axis of a brick
BELOW, AROUND = 1, 3  # missing bricks before each axis of the table that CUDA kernels get, and in all

#: GmLatticePlane, member by member.
PLANE = np.dtype([(name, np.float64, 3) for name in ("start", "column", "row", "normal")])
NUMBERS = {
    "GmLatticePlane": PLANE.itemsize, "kBrickSide": SIDE, "kLatticeBelow": BELOW, "kLatticeAround": AROUND
}  # fmt: skip


@dataclass(frozen=True)
class LatticePlanes:
    """Where the bricks of a lattice are, and planes through it; see `GaussianMRILib.native.lattice_render`."""

    table: Tensor  # (bz, by, bx) int32
    ras_to_node: Tensor  # (3, 4) float64, on the CPU
    frames: Tensor  # (P, 12)
    shapes: Tensor  # (P, 2) int32, on the CPU
    offsets: Tensor  # (P, Q)
    weights: Tensor  # (P, Q)
    background: float

    @property
    def total(self) -> int:
        """Number of pixels of all planes."""
        return pixel_count(self.shapes)

    def check(self, bricks: int, device: torch.device) -> None:
        """Raise a ValueError unless everything fits together and is on the device."""
        check_table(self.table, bricks, device)
        check_tensor("ras_to_node", self.ras_to_node, (3, 4), torch.float64, CPU)
        check_planes(self.frames, self.shapes, self.offsets, self.weights, self.background, device)


class Implementation(Protocol):
    """The operators on arguments that have been checked, without a graph, contiguous."""

    def lattice_render(self, nodes: Tensor, planes: LatticePlanes) -> tuple[Tensor, Tensor]:
        """Image and density (total)."""
        ...

    def lattice_render_backward(self, grad_image: Tensor, planes: LatticePlanes, brick_count: int) -> Tensor:
        """Gradient (brick_count, 8, 8, 8) of sum(grad_image * image) by the nodes."""
        ...

    def lattice_smooth(
        self, nodes: Tensor, reference: Tensor, table: Tensor, scales: Sequence[float], edge: float
    ) -> Tensor:
        """The smoothness prior's gradient (B, 8, 8, 8)."""
        ...


def check_table(table: Tensor, bricks: int, device: torch.device) -> None:
    """Check a table's form; `check_names` looks at what is in it."""
    check_tensor("table", table, (None, None, None), torch.int32, device)
    check(bricks >= 0, f"there cannot be {bricks} bricks.")


def check_names(table: Tensor, bricks: int) -> None:
    """Check that a table names bricks that there are, each once."""
    named = table[table >= 0]
    beyond = bool((table < -1).any()) or bool((named >= bricks).any())
    check(not beyond, "the table names a brick that there is not.")
    check(len(named.unique()) == len(named), "the table names a brick twice.")
