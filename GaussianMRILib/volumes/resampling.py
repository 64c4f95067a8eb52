"""Planes of interpolated slices: several stacks, slices at angles, thickness, empty space."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import GaussianMRIError
from ..geometry import ImagePlane, as_planes, inside_hull, transform_points
from ..stacks import SliceStack, as_stacks, check_same_frame
from .volume import sample_thickness

NEIGHBOURS = 2  # slices that a point between slices at an angle is interpolated from


class Sampler(Protocol):
    """Anything that has a value at every point, such as a `Volume`."""

    def values(self, points: NDArray[np.float64]) -> NDArray[np.float32]: ...


class Resampler:
    """Renders planes from interpolated stacks; volumes are made once and serve every plane.

    Each stack is split where it has wide gaps (`SliceStack.regions`), and each region into blocks of parallel slices;
    each block becomes one volume, valid in its own hull. Where hulls of one stack overlap (angled blocks of lumbar
    slices) their mean is taken, and space between them that is still inside the region's convex hull is filled from
    the nearest slices. Several stacks contribute their plain mean where they are valid. Everything else is NaN.

    Args:
        stacks: one stack or several in one frame of reference.
        make_volume: from a stack of parallel slices to a volume.
    """

    def __init__(
        self, stacks: SliceStack | Sequence[SliceStack], make_volume: Callable[[SliceStack], Sampler]
    ) -> None:
        self.stacks = as_stacks(stacks)
        if not self.stacks:
            raise GaussianMRIError("There is no stack to resample; pass at least one.")
        check_same_frame(self.stacks)
        self._stacks = [_StackSampler(stack, make_volume) for stack in self.stacks]

    def render(self, plane: ImagePlane) -> NDArray[np.float32]:
        """The image on a plane, (rows, columns) float32: mean over its thickness, NaN outside every hull."""
        (plane,) = as_planes([plane])
        points = plane.points()
        total, count = np.zeros(plane.shape), np.zeros(plane.shape)
        for sampler in self._stacks:
            inside = sampler.inside(points)
            if inside.any():
                total += np.where(inside, sample_thickness(sampler.values, plane), 0)
                count += inside
        return np.where(count > 0, total / np.maximum(count, 1), np.nan).astype(np.float32)


class _StackSampler:
    """Values of one stack everywhere; `inside` says where they mean something."""

    def __init__(self, stack: SliceStack, make_volume: Callable[[SliceStack], Sampler]) -> None:
        self.regions = [_RegionSampler(region, make_volume) for region in stack.regions()]
        self.beside = ScatteredSlices(stack)

    def inside(self, points: NDArray[np.float64]) -> NDArray[np.bool_]:
        return np.any([inside_hull(region.hull, points) for region in self.regions], axis=0)

    def values(self, points: NDArray[np.float64]) -> NDArray[np.float32]:
        """Regions at angles may overlap: their mean; beside all of them, the nearest slices."""
        if len(self.regions) == 1:
            return self.regions[0].values(points)
        total, count = np.zeros(points.shape[:-1]), np.zeros(points.shape[:-1])
        for region in self.regions:
            inside = inside_hull(region.hull, points)
            if inside.any():
                total[inside] += region.values(points[inside])
                count += inside
        empty = count == 0
        if empty.any():
            total[empty] = self.beside.values(points[empty])
        return (total / np.maximum(count, 1)).astype(np.float32)


class _RegionSampler:
    """Values of neighbouring blocks without a wide gap between them; `hull` says where they mean something."""

    def __init__(self, stack: SliceStack, make_volume: Callable[[SliceStack], Sampler]) -> None:
        self.hull = stack.hull()
        blocks = stack.blocks()
        self.whole = make_volume(blocks[0]) if len(blocks) == 1 else None
        self.parts = (
            []
            if self.whole is not None
            else [(block.hull(), make_volume(block)) for block in blocks if block.shape[0] > 1]
        )
        self.between = ScatteredSlices(stack)

    def values(self, points: NDArray[np.float64]) -> NDArray[np.float32]:
        if self.whole is not None:
            return self.whole.values(points)
        total, count = np.zeros(points.shape[:-1]), np.zeros(points.shape[:-1])
        for hull, volume in self.parts:
            inside = inside_hull(hull, points)
            total[inside] += volume.values(points[inside])
            count += inside
        empty = count == 0
        total[empty] = self.between.values(points[empty])
        return (total / np.maximum(count, 1)).astype(np.float32)


class ScatteredSlices:
    """Inverse-distance mean of the two nearest slices, each sampled bilinearly; for slices at any angle.

    Between two slices this is linear interpolation. A point beside a slice takes its nearest border pixel, at
    that pixel's distance.
    """

    def __init__(self, stack: SliceStack) -> None:
        self.stack = stack
        self._inverse = np.linalg.inv(stack.ijk_to_ras)

    def values(self, points: NDArray[np.float64]) -> NDArray[np.float32]:
        from scipy.ndimage import map_coordinates

        flat = points.reshape(-1, 3)
        count = min(NEIGHBOURS, len(self._inverse))
        distances = np.full((count, len(flat)), np.inf)
        nearest = np.zeros((count, len(flat)), dtype=np.int64)
        for k in range(len(self._inverse)):
            _, _, distance = self._locate(k, flat)
            slot = distances.argmax(axis=0)
            closer = np.flatnonzero(distance < distances.max(axis=0))
            distances[slot[closer], closer] = distance[closer]
            nearest[slot[closer], closer] = k
        weights = 1 / np.maximum(distances, 1e-6)
        weights /= weights.sum(axis=0)
        result = np.zeros(len(flat))
        for k in np.unique(nearest):
            slot, chosen = np.nonzero(nearest == k)
            row, column, _ = self._locate(k, flat[chosen])
            values = map_coordinates(self.stack.pixels[k], [row, column], order=1, mode="nearest")
            np.add.at(result, chosen, weights[slot, chosen] * values)
        return result.reshape(points.shape[:-1]).astype(np.float32)

    def _locate(
        self, k: int, points: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Row and column of the nearest place on slice k, and the distance to it in mm."""
        index = transform_points(self._inverse[k], points)
        _, rows, columns = self.stack.shape
        column, row = np.clip(index[:, 0], 0, columns - 1), np.clip(index[:, 1], 0, rows - 1)
        along_i, along_j = self.stack.pixel_spacing
        beside = ((index[:, 0] - column) * along_i) ** 2 + ((index[:, 1] - row) * along_j) ** 2
        return row, column, np.sqrt(beside + index[:, 2] ** 2)
