"""Discs from segments and label maps."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import GaussianMRIError
from ..geometry import check_affine, transform_points
from ..stacks import SliceStack
from .disc import (
    DiscGeometry,
    Points,
    Vector,
    angle_degrees,
    bisector,
    disc_frame,
    left_across,
    level_name,
    plane_fit,
    series_depth,
)
from .label_schemes import TOTALSPINESEG

logger = logging.getLogger("GaussianMRI")

#: A segment whose smallest variance is more than this share of the next is not flat enough to have a sure plane.
FLAT = 0.35
_STEP = 0.25  # mm along a line that looks for the border of a segment
_RIM = 3.0  # mm of a disc's border that say nothing about its end plates
_SHORTEST = 3.0  # mm of disc in a sagittal slice that count as a crossing
_LARGEST_REFINEMENT = 20.0  # degrees between a segment's flat axis and its end plates


def disc_from_segment(
    mask: ArrayLike,
    ijk_to_ras: ArrayLike,
    level: str,
    sagittal: SliceStack | None = None,
    label: int | None = None,
) -> DiscGeometry:
    """Disc from a segment or a label map.

    The disc's normal starts as the axis of smallest variance and becomes the bisector of planes fitted to its upper
    and lower face. Left is the direction across the sagittal slices.

    Args:
        mask: (K, rows, columns), bool, or integers of a label map.
        ijk_to_ras: (4, 4) of the voxels, RAS mm.
        level: such as "L5/S1".
        sagittal: the series whose slices cross the disc; by default the planes of voxels across the body.
        label: value of the disc; by default TotalSpineSeg's for the level (100 at L5/S1).

    Raises:
        GaussianMRIError: an empty segment, an unknown label, a segment that does not lie across the body or that
            fewer than two sagittal slices cross.
    """
    level = level_name(level)
    voxels, matrix, facts = _component(np.asarray(mask), check_affine(ijk_to_ras), level, label)
    inside = _Inside(voxels, matrix)
    points = transform_points(matrix, np.argwhere(voxels)[:, ::-1])
    covariance = np.cov(points.T) + matrix[:3, :3] @ matrix[:3, :3].T / 12  # voxels are boxes, not points
    variances, axes = np.linalg.eigh(covariance)
    flatness = float(variances[0] / variances[1])
    left = left_across(sagittal, points.mean(axis=0)) if sagittal is not None else _left_of_grid(matrix)
    frame = disc_frame(points.mean(axis=0), axes[:, 0], left)
    flat = frame[:3, 2].copy()
    frame, height, wedge = _between_end_plates(inside, points, frame, left)
    frame, height, wedge = _between_end_plates(inside, points, frame, left)
    facts |= {
        "flatness": round(flatness, 3),
        "wedge_degrees": round(wedge, 2),
        "refined_degrees": round(angle_degrees(flat, frame[:3, 2]), 2),
    }
    provenance = f"segment ({facts.get('label', 'mask')})"
    if flatness > FLAT:
        facts["warning"] = (
            f"the segment is not flat (l3/l2 {flatness:.2f} > {FLAT}), so its plane is not sure"
        )
    elif facts["refined_degrees"] > _LARGEST_REFINEMENT:
        facts["warning"] = (
            f"end plates and flat axis of the segment differ by {facts['refined_degrees']} degrees"
        )
    if "warning" in facts:
        logger.warning("%s: %s. Look at the segment.", level, facts["warning"])
        provenance += f"; WARNING: {facts['warning']}"
    posterior, anterior, depth = _crossings(
        inside, points, frame, _lateral_places(frame, matrix, points, sagittal)
    )
    series = None if sagittal is None else series_depth(sagittal)
    return DiscGeometry(frame, posterior, anterior, depth, level, provenance, series, height, facts)


def _component(
    mask: NDArray[Any], matrix: NDArray[np.float64], level: str, label: int | None
) -> tuple[NDArray[np.bool_], NDArray[np.float64], dict[str, Any]]:
    """The largest connected part of a disc with two voxels of air around it, its matrix, and facts."""
    from scipy import ndimage

    if mask.ndim != 3 or matrix.ndim != 2:
        raise GaussianMRIError(f"A segment is (K, rows, columns) with one (4, 4) matrix, got {mask.shape}.")
    facts: dict[str, Any] = {}
    if mask.dtype != bool:
        values = [int(v) for v in np.unique(mask) if v != 0]
        wanted = label if label is not None else TOTALSPINESEG.discs[level]
        if wanted not in values:
            raise GaussianMRIError(
                f"The label map has no {wanted} for {level}; it has {values[:20]}. Name the label of the disc."
            )
        mask = mask == wanted
        facts["label"] = wanted
    if not mask.any():
        raise GaussianMRIError(f"The segment of {level} is empty. Choose another segment.")
    parts, count = ndimage.label(mask, np.ones((3, 3, 3)))
    if count > 1:
        sizes = np.bincount(parts.ravel())[1:]
        facts["dropped_share"] = round(1 - float(sizes.max() / sizes.sum()), 4)
        mask = parts == 1 + int(sizes.argmax())
    box = ndimage.find_objects(mask.astype(np.uint8))[0]
    cropped = np.pad(mask[box], 2)
    if mask.sum() < 30 or min(s.stop - s.start for s in box) < 2:
        raise GaussianMRIError(
            f"The segment of {level} has {int(mask.sum())} voxels in {cropped.shape[0] - 4} slices, too few for a disc."
        )
    shifted = matrix.copy()
    shifted[:3, 3] = transform_points(matrix, [s.start - 2 for s in box][::-1])
    return cropped, shifted, facts


class _Inside:
    """Whether RAS points lie in a segment, whose surface is half way between voxels."""

    def __init__(self, voxels: NDArray[np.bool_], matrix: NDArray[np.float64]) -> None:
        self.voxels, self.inverse = voxels.astype(np.float32), np.linalg.inv(matrix)

    def __call__(self, points: Points) -> NDArray[np.bool_]:
        from scipy.ndimage import map_coordinates

        index = np.moveaxis(transform_points(self.inverse, points)[..., ::-1], -1, 0)
        return np.asarray(map_coordinates(self.voxels, index, order=1, cval=0.0) > 0.5)


def _between_end_plates(
    inside: _Inside, points: Points, frame: NDArray[np.float64], left: Vector
) -> tuple[NDArray[np.float64], float, float]:
    """The frame half way between planes through both faces of a segment, its height in mm, their angle in degrees."""
    from scipy.ndimage import distance_transform_edt

    low, high = _extent(points, frame)
    a, b = np.arange(low[0], high[0], 1.0), np.arange(low[1], high[1], 1.0)
    c = np.arange(low[2], high[2], _STEP)
    grid = np.stack(np.meshgrid(a, b, c, indexing="ij"), axis=-1)
    filled = inside(transform_points(frame, grid))
    footprint = filled.any(axis=2)
    depth = distance_transform_edt(np.pad(footprint, 1))[1:-1, 1:-1]
    core = depth > _RIM if (depth > _RIM).sum() >= 30 else footprint
    where = np.stack(np.meshgrid(a, b, indexing="ij"), axis=-1)[core]
    bottom = c[filled.argmax(axis=2)[core]] - _STEP / 2
    top = c[len(c) - 1 - filled[:, :, ::-1].argmax(axis=2)[core]] + _STEP / 2
    upper, lower = plane_fit(where, top), plane_fit(where, bottom)
    normal, wedge = bisector(upper, lower)
    middle = where.mean(axis=0)
    center = [*middle, (upper @ [*middle, 1] + lower @ [*middle, 1]) / 2]
    height = float((upper - lower) @ [*middle, 1])
    return disc_frame(transform_points(frame, center), frame[:3, :3] @ normal, left), height, wedge


def _extent(points: Points, frame: NDArray[np.float64]) -> tuple[Vector, Vector]:
    local = (points - frame[:3, 3]) @ frame[:3, :3]
    return local.min(axis=0) - 6.0, local.max(axis=0) + 6.0


def _left_of_grid(matrix: NDArray[np.float64]) -> Vector:
    """The axis of voxels that runs most nearly to the left."""
    axes = matrix[:3, :3] / np.linalg.norm(matrix[:3, :3], axis=0)
    axis: Vector = axes[:, int(np.argmax(np.abs(axes[0])))]
    return -axis * np.sign(axis[0])


def _lateral_places(
    frame: NDArray[np.float64], matrix: NDArray[np.float64], points: Points, sagittal: SliceStack | None
) -> tuple[Vector, float, float]:
    """Where sagittal slices cut the disc's left-right axis, mm from its centre; their spacing; cosine between both."""
    left, center = frame[:3, 0], frame[:3, 3]
    if sagittal is not None:
        normals = sagittal.ijk_to_ras[:, :3, 2]
        places = -sagittal.distances(center) / (normals @ left)
        return np.sort(places), sagittal.spacing, float(np.abs(normals @ left).mean())
    axis = int(np.argmax(np.abs(matrix[0, :3]) / np.linalg.norm(matrix[:3, :3], axis=0)))
    step = float(np.linalg.norm(matrix[:3, axis]))
    low, high = _extent(points, frame)
    offset = float((points[0] - center) @ left)  # some voxel's centre, so that places fall on voxels
    count = np.arange(np.floor((low[0] - offset) / step), np.ceil((high[0] - offset) / step) + 1)
    return offset + count * step, step, 1.0


def _crossings(
    inside: _Inside, points: Points, frame: NDArray[np.float64], places: tuple[Vector, float, float]
) -> tuple[Points, Points, float]:
    """Posterior and anterior intersections (M, 3) of sagittal slices with the segment, and the depth of these slices."""
    lateral, spacing, cosine = places
    low, high = _extent(points, frame)
    b = np.arange(low[1], high[1], _STEP)
    grid = np.stack(np.meshgrid(lateral, b, [0.0], indexing="ij"), axis=-1)[:, :, 0]
    filled = inside(transform_points(frame, grid))
    crossing = np.flatnonzero(filled.sum(axis=1) * _STEP >= _SHORTEST)
    if len(crossing) < 2:
        raise GaussianMRIError(
            f"{len(crossing)} of {len(lateral)} sagittal slices cross the disc; at least two have to. "
            "Check that segment and sagittal series are of one study."
        )
    front = b[filled[crossing].argmax(axis=1)] - _STEP / 2
    back = b[len(b) - 1 - filled[crossing][:, ::-1].argmax(axis=1)] + _STEP / 2
    flat = np.zeros(len(crossing))
    ends = [
        transform_points(frame, np.column_stack([lateral[crossing], depth, flat])) for depth in (back, front)
    ]
    return ends[0], ends[1], float(np.ptp(lateral[crossing]) * cosine + spacing)
