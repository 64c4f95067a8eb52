"""Voxel interpolation, the baseline of the seed paper (its section 5.2)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..errors import GaussianMRIError
from ..geometry import ImagePlane
from ..geometry.affine import transform_points
from ..stacks import SliceStack
from ..volumes import Resampler, default_factor, upsample
from .spline import Stacks


class VoxelInterpolator(Resampler):
    """Isotropic voxels by cubic spline, then the inverse-distance-weighted mean of the k nearest of them.

    "First, anisotropic scans are made isotropic using cubic spline interpolation based on the minimum voxel
    spacing.
    Second, the intensities corresponding to nearest neighbours of each target coordinate are inverse
    distance-weighted and averaged." The paper leaves k and the power of the distance open.

    Args:
        stacks: one or several.
        k: number of nearest voxels; 8 is the cube around a point.
        power: weights are 1 / distance^power.
    """

    def __init__(self, stacks: Stacks, *, k: int = 8, power: float = 1.0) -> None:
        if k < 1 or power < 0:
            raise GaussianMRIError(
                f"Voxel interpolation needs k >= 1 and power >= 0, got k={k}, power={power}."
            )
        super().__init__(stacks, lambda stack: _NearestVoxels(stack, k, power))


class _NearestVoxels:
    def __init__(self, stack: SliceStack, k: int, power: float) -> None:
        from scipy.spatial import cKDTree

        volume = upsample(stack, factor=default_factor(stack))
        pixels, affine = _square_pixels(volume.pixels, volume.ijk_to_ras, min(stack.pixel_spacing))
        index = np.stack(np.meshgrid(*[np.arange(n) for n in pixels.shape], indexing="ij"), axis=-1)
        points = transform_points(affine, index.reshape(-1, 3)[:, ::-1])
        # Voxels lie on a lattice: splitting at midpoints is as good as a balanced tree and several times
        # faster.
        self.tree = cKDTree(points, balanced_tree=False, compact_nodes=False)
        self.pixels = pixels.ravel()
        self.k, self.power = min(k, len(self.pixels)), power

    def values(self, points: NDArray[np.float64]) -> NDArray[np.float32]:
        distance, nearest = self.tree.query(points.reshape(-1, 3), k=list(range(1, self.k + 1)), workers=-1)
        weights = 1 / np.maximum(distance, 1e-6) ** self.power
        values = (weights * self.pixels[nearest]).sum(axis=-1) / weights.sum(axis=-1)
        return values.reshape(points.shape[:-1]).astype(np.float32)


def _square_pixels(
    pixels: NDArray[np.float32], ijk_to_ras: NDArray[np.float64], spacing: float
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Resample in-plane by cubic spline where pixels are not square."""
    from scipy.interpolate import make_interp_spline

    affine = ijk_to_ras.copy()
    for axis, column in ((2, 0), (1, 1)):
        factor = spacing / np.linalg.norm(affine[:3, column])
        if abs(factor - 1) > 1e-3 and pixels.shape[axis] > 3:
            index = np.arange(0, pixels.shape[axis] - 1 + 1e-6, factor)
            spline = make_interp_spline(np.arange(pixels.shape[axis]), pixels, k=3, axis=axis)
            pixels = spline(index).astype(np.float32)
            affine[:3, column] *= factor
    return pixels, affine


def voxel_interpolation(
    stacks: Stacks, plane: ImagePlane, *, k: int = 8, power: float = 1.0
) -> NDArray[np.float32]:
    """`VoxelInterpolator(stacks, k, power).render(plane)`, (rows, columns) float32, NaN outside."""
    return VoxelInterpolator(stacks, k=k, power=power).render(plane)
