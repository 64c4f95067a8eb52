"""Voxel super-resolution of several stacks by regularised least squares, the classical competitor; see `volumes.solver`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ..errors import GaussianMRIError
from ..geometry import ImagePlane
from ..stacks import SliceStack, as_stacks, hulls_of
from ..volumes import Volume, isotropic_grid, solve
from ..volumes.solver import SMOOTHNESS


class SuperResolution:
    """Super-resolved voxels of one or several stacks, rendered on planes.

    Args:
        stacks: in one frame of reference.
        spacing: voxel edge, mm; default: the smallest pixel spacing.
        smoothness: weight of the squared gradient; the default is the best on simulated lumbar and brain
            pairs.
        iterations: of conjugate gradients, at most.
    """

    def __init__(
        self,
        stacks: SliceStack | Sequence[SliceStack],
        *,
        spacing: float | None = None,
        smoothness: float = SMOOTHNESS,
        iterations: int = 40,
    ) -> None:
        self.stacks = as_stacks(stacks)
        if not self.stacks:
            raise GaussianMRIError("There is no stack to resample; pass at least one.")
        grid = isotropic_grid(self.stacks, spacing=spacing)
        pixels = solve(self.stacks, grid, smoothness=smoothness, iterations=iterations)
        self.volume = Volume(pixels, grid.ijk_to_ras, hull=hulls_of(self.stacks))

    def render(self, plane: ImagePlane) -> NDArray[np.float32]:
        """The image on a plane, (rows, columns) float32: mean over its thickness, NaN outside every hull."""
        return self.volume.sample(plane)


def superresolution(
    stacks: SliceStack | Sequence[SliceStack], plane: ImagePlane, *, spacing: float | None = None
) -> NDArray[np.float32]:
    """`SuperResolution(stacks, spacing).render(plane)`: (rows, columns) float32, NaN outside the stacks."""
    return SuperResolution(stacks, spacing=spacing).render(plane)
