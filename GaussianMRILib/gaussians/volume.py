"""Isotropic volumes of a field: where their voxels lie, and their slabs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import GaussianMRIError
from ..geometry import ImagePlane, hull_corners
from ..geometry.affine import check_spacing, unit_vector
from ..volumes import Grid
from .field_data import FieldData

#: Pixels of a slab: enough for one kernel call to be worth it, and its images take some 32 MB.
SLAB_PIXELS = 1 << 22
#: Voxels of a volume, 8 GB of them; more is a mistake in the spacing.
MOST_VOXELS = 1 << 31
#: Pixels by which a voxel's centre may lie beyond the border: places are rounded.
_SLACK = 1e-6


#: Images (rows, columns) of planes, of a field or of one along a curve.
RenderMany = Callable[[Sequence[ImagePlane]], list[NDArray[np.float32]]]


def finest_spacing(field: FieldData) -> float:
    """mm: the lattice's finest pitch, or the pixels of a field without a lattice."""
    if field.lattice is not None:
        return float(field.lattice.pitch.min())
    return float(np.linalg.norm(field.slice_poses[0, :3, :2], axis=0).min())


def volume_grid(field: FieldData, spacing: float | None, box: ArrayLike | None, axes: str) -> Grid:
    """The smallest grid with every voxel of what was scanned in a box, right-handed; see `GaussianField.volume`."""
    pose = field.slice_poses[0]
    if spacing is None:
        spacing = finest_spacing(field)
    check_spacing(spacing, "spacing of the voxels")
    if axes == "first":
        i = unit_vector(pose[:3, 0])
        k = unit_vector(np.cross(i, pose[:3, 1]))
        directions = np.stack([i, np.cross(k, i), k], axis=1)
    elif axes == "ras":
        directions = np.diag([-1.0, -1.0, 1.0])
    else:
        raise GaussianMRIError(f"A volume's axes are 'first' or 'ras', got '{axes}'.")
    steps = directions * spacing
    # Voxels lie at whole steps from the first slice's first pixel, so that slices in the plane keep their pixels.
    corners = (_scanned_corners(field, box) - pose[:3, 3]) @ np.linalg.inv(steps).T
    first = np.ceil(corners.min(axis=0) - _SLACK)
    count = np.maximum(np.floor(corners.max(axis=0) + _SLACK) - first + 1, 1)
    check_voxels(count, spacing, "a box")
    matrix = np.eye(4)
    matrix[:3, :3] = steps
    matrix[:3, 3] = pose[:3, 3] + steps @ first
    columns, rows, slices = (int(n) for n in count)
    return Grid(matrix, (slices, rows, columns))


def check_voxels(count: NDArray[np.float64], spacing: float, otherwise: str) -> None:
    """Refuse a volume of more voxels (columns, rows, slices) than memory has room for."""
    if count.prod() > MOST_VOXELS:
        raise GaussianMRIError(
            f"A volume of {' x '.join(f'{n:.0f}' for n in count)} voxels is too large; use a larger spacing than "
            f"{spacing:g} mm, or {otherwise}."
        )


def rendered_slabs(render_many: RenderMany, grid: Grid) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """The volume's slabs in order: index of the first slice, voxels (n, rows, columns) with NaN outside the scan."""
    depth = max(1, SLAB_PIXELS // (grid.shape[1] * grid.shape[2]))
    for first in range(0, grid.shape[0], depth):
        planes = [grid.plane(k) for k in range(first, min(first + depth, grid.shape[0]))]
        yield first, np.stack(render_many(planes))


def _scanned_corners(field: FieldData, box: ArrayLike | None) -> NDArray[np.float64]:
    """Corners (V, 3), RAS mm, of what was scanned in a box."""
    if box is None:
        return np.concatenate([hull_corners(hull) for hull in field.hulls])
    bounds = np.asarray(box, np.float64)
    if bounds.shape != (3, 2) or not np.all(np.isfinite(bounds)) or np.any(bounds[:, 0] >= bounds[:, 1]):
        raise GaussianMRIError(f"A box must be ((R0, R1), (A0, A1), (S0, S1)) in mm, got {np.asarray(box).tolist()}.")
    faces = np.r_[np.c_[-np.eye(3), bounds[:, 0]], np.c_[np.eye(3), -bounds[:, 1]]]
    found = []
    for hull in field.hulls:
        try:
            found.append(hull_corners(np.concatenate([hull, faces])))
        except GaussianMRIError:
            continue  # this stack has nothing in the box
    if not found:
        raise GaussianMRIError("Nothing was scanned in the box; move it or make it larger.")
    return np.concatenate(found)
