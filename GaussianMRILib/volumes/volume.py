"""Voxels with their intensities."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass

import numpy as np
from numpy.typing import NDArray

from ..errors import GaussianMRIError
from ..geometry import ImagePlane, as_planes, inside_hull, transform_points


@dataclass(frozen=True, eq=False)
class Volume:
    """Voxels that can be sampled on any plane.

    Attributes:
        pixels: (Z, rows, columns) float32.
        ijk_to_ras: (4, 4) float64, mm, RAS; column 2 is the step between sub-slices and may be sheared.
        hull: (M, 4) half-spaces n.x + d <= 0 in RAS mm of what was acquired; a tuple of such for the union of
            several stacks; None for the voxels' outer edges.
        order: degree of the spline that interpolates, 0 to 3.
        name: short label for people.
    """

    pixels: NDArray[np.float32]
    ijk_to_ras: NDArray[np.float64]
    _: KW_ONLY
    hull: NDArray[np.float64] | tuple[NDArray[np.float64], ...] | None = None
    order: int = 3
    name: str = ""

    def __post_init__(self) -> None:
        if self.pixels.ndim != 3 or 0 in self.pixels.shape:
            raise GaussianMRIError(f"A volume must be (slices, rows, columns), got {self.pixels.shape}.")

    @property
    def spacing(self) -> float:
        """mm between the centres of neighbouring voxels, along the axis where it is smallest."""
        return float(np.linalg.norm(self.ijk_to_ras[:3, :3], axis=0).min())

    @functools.cached_property
    def coefficients(self) -> NDArray[np.float32]:
        """B-spline coefficients of the pixels."""
        from scipy.ndimage import spline_filter

        pixels = np.asarray(self.pixels, dtype=np.float32)
        return (
            spline_filter(pixels, order=self.order, output=np.float32, mode="mirror")
            if self.order > 1
            else pixels
        )

    def values(self, points: NDArray[np.float64]) -> NDArray[np.float32]:
        """Spline values at RAS points (..., 3), mm; beyond the outermost voxels' centres the border's."""
        return self._spline(np.clip(self._index(points), 0, np.array(self.pixels.shape) - 1))

    def inside(self, points: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Whether RAS points (..., 3) were acquired; (...) bool."""
        if self.hull is not None:
            hulls = self.hull if isinstance(self.hull, tuple) else (self.hull,)
            return np.any([inside_hull(hull, points) for hull in hulls], axis=0)
        index = self._index(points)
        return np.asarray(((index >= -0.5) & (index <= np.array(self.pixels.shape) - 0.5)).all(axis=-1))

    def at(self, points: NDArray[np.float64]) -> NDArray[np.float32]:
        """Spline values where something was acquired, mirrored at the outermost voxels' centres; elsewhere NaN."""
        return np.where(self.inside(points), self._spline(self._index(points)), np.float32(np.nan))

    def sample(self, plane: ImagePlane) -> NDArray[np.float32]:
        """The image on a plane, (rows, columns): mean over its thickness, NaN outside the hull."""
        (plane,) = as_planes([plane])
        points = plane.points()
        return np.where(self.inside(points), sample_thickness(self.values, plane), np.float32(np.nan))

    def _index(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """[k, j, i] (..., 3) of RAS points."""
        return transform_points(np.linalg.inv(self.ijk_to_ras), points)[..., ::-1]

    def _spline(self, index: NDArray[np.float64]) -> NDArray[np.float32]:
        from scipy.ndimage import map_coordinates

        return map_coordinates(
            self.coefficients,
            np.moveaxis(index, -1, 0),
            order=self.order,
            prefilter=False,
            mode="mirror",
            output=np.float32,
        )


def thickness_offsets(thickness: float, *, step: float = 0.8) -> NDArray[np.float64]:
    """Midpoints, mm along the normal, of equal parts of a thickness, each about `step` mm; [0] if thin."""
    count = max(round(thickness / step), 3) if thickness > 0 else 1
    return ((np.arange(count) + 0.5) / count - 0.5) * thickness


def sample_thickness(
    values: Callable[[NDArray[np.float64]], NDArray[np.float32]], plane: ImagePlane
) -> NDArray[np.float32]:
    """Mean of `values(points)` over the thickness of a plane, (rows, columns) float32."""
    points = plane.points()
    images = [values(points + offset * plane.normal) for offset in thickness_offsets(plane.thickness)]
    return np.mean(images, axis=0, dtype=np.float32)
