"""Boxes of voxels, without their intensities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import GaussianMRIError
from ..geometry import ImagePlane
from ..geometry.affine import transform_points
from ..stacks import SliceStack

LARGEST_GRID = 60_000_000  # voxels; more would not fit a laptop


@dataclass(frozen=True, eq=False)
class Grid:
    """A box of voxels.

    Attributes:
        ijk_to_ras: (4, 4) float64, mm.
        shape: slices, rows, columns.
    """

    ijk_to_ras: NDArray[np.float64]
    shape: tuple[int, int, int]

    @property
    def spacing(self) -> tuple[float, float, float]:
        """mm along slices, rows, columns."""
        step = np.linalg.norm(self.ijk_to_ras[:3, :3], axis=0)
        return float(step[2]), float(step[1]), float(step[0])

    def plane(self, k: int) -> ImagePlane:
        """A slice, thin."""
        matrix = self.ijk_to_ras.copy()
        matrix[:3, 3] += k * matrix[:3, 2]
        return ImagePlane(matrix, self.shape[1:])

    def planes(self) -> list[ImagePlane]:
        """All slices, thin, in order."""
        return [self.plane(k) for k in range(self.shape[0])]

    def points(self) -> NDArray[np.float64]:
        """Voxel centres (slices, rows, columns, 3), RAS mm."""
        index = np.stack(np.meshgrid(*[np.arange(n) for n in self.shape], indexing="ij"), axis=-1)
        return transform_points(self.ijk_to_ras, index[..., ::-1])


def isotropic_grid(stacks: Sequence[SliceStack], *, spacing: float | None = None) -> Grid:
    """Cubic voxels along the axes of the first stack that enclose every stack's slab.

    Args:
        spacing: edge, mm; default: the smallest pixel spacing of all stacks.

    Raises:
        GaussianMRIError: more voxels than a computer can hold.
    """
    first = stacks[0].plane(0)
    spacing = float(spacing or min(min(stack.pixel_spacing) for stack in stacks))
    axes = np.stack([first.i_axis, first.j_axis, first.normal], axis=1)
    corners = []
    for stack in stacks:
        for plane in stack.planes():
            half = plane.thickness / 2 * plane.normal
            corners += [plane.corners() - half, plane.corners() + half]
    local = np.concatenate(corners) @ axes
    low, high = local.min(axis=0), local.max(axis=0)
    count = np.maximum(np.ceil((high - low) / spacing - 1e-3), 1).astype(int)
    if np.prod(count.astype(float)) > LARGEST_GRID:
        raise GaussianMRIError(
            f"A grid of {spacing:g} mm over these stacks has {np.prod(count.astype(float)):.3g} voxels; "
            "choose a larger spacing or crop the stacks."
        )
    affine = np.eye(4)
    affine[:3, :3] = axes * spacing
    # A remainder of the box is left over at the far side, so that voxels of a first stack as fine stay in
    # place.
    affine[:3, 3] = axes @ (low + spacing / 2)
    return Grid(affine, (int(count[2]), int(count[1]), int(count[0])))
