"""Planes made from other things: along a line, about an axis, across another plane, through a shape."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import GaussianMRIError
from .affine import axis_of, check_spacing, unit_vector
from .plane import ImagePlane

Vector = NDArray[np.float64]
Spacing = float | tuple[float, float] | None
#: mm along x and y of a plane that nothing else gives a size, as of a markups plane without one.
DEFAULT_SIZE = (112.0, 112.0)
#: Planes of one set; more is a mistake in the step.
MOST_PLANES = 999


class PlaneAngles(NamedTuple):
    """Angles in degrees, 0 to 90, between a plane and the patient's three."""

    axial: float
    sagittal: float
    coronal: float


def plane_angles(plane: ImagePlane) -> PlaneAngles:
    """How far a plane is tilted against axial, sagittal and coronal planes."""
    right, anterior, superior = np.rad2deg(np.arccos(np.clip(np.abs(plane.normal), 0, 1))).tolist()
    return PlaneAngles(superior, right, anterior)


def planes_along(
    start: ArrayLike,
    end: ArrayLike,
    step: float,
    *,
    size: tuple[float, float] = DEFAULT_SIZE,
    spacing: Spacing = None,
    thickness: float = 0.0,
) -> list[ImagePlane]:
    """Planes across the line from one point to another, the first at its start and the others every `step` mm.

    Args:
        start, end: (3,) RAS mm; the normal points from one to the other.
        step: mm.
        size: mm along columns and rows.
        spacing: mm between pixels, one number or (along i, along j); 0.5 by default.
        thickness: mm.

    Raises:
        GaussianMRIError: points at one place, a step that is none or makes more than 999 planes.
    """
    first, axis, length = axis_of(start, end)
    check_spacing(step, "step between planes")
    count = int(length / step + 1e-6) + 1
    if count > MOST_PLANES:
        raise GaussianMRIError(
            f"A step of {step:g} mm makes {count} planes on {length:.4g} mm, more than {MOST_PLANES}; take a larger step."
        )
    return [upright(first + k * step * axis, axis, size, spacing, thickness) for k in range(count)]


def radial_planes(
    start: ArrayLike,
    end: ArrayLike,
    count: int,
    *,
    size: tuple[float, float] = DEFAULT_SIZE,
    spacing: Spacing = None,
    thickness: float = 0.0,
) -> list[ImagePlane]:
    """Planes through an axis, evenly turned about it over 180 degrees, each around the middle of the two points.

    The first holds the patient's left-right direction as nearly as it can (anterior-posterior, of an axis from left to
    right); the others turn from there, right-handed about the axis.

    Args:
        start, end: (3,) RAS mm, two points of the axis.
        count: of planes, which are 180 / count degrees apart.
        size: mm across and along the axis.
        spacing, thickness: as in `planes_along`.

    Raises:
        GaussianMRIError: points at one place, or a number of planes that is not 1 to 999.
    """
    first, axis, length = axis_of(start, end)
    if not 1 <= count <= MOST_PLANES:
        raise GaussianMRIError(f"There can be 1 to {MOST_PLANES} planes about an axis, got {count}.")
    towards = np.array([0.0, 1.0, 0.0]) if np.argmax(np.abs(axis)) == 0 else np.array([1.0, 0.0, 0.0])
    x = unit_vector(towards - (towards @ axis) * axis)
    turned = np.cross(axis, x)
    middle = first + length / 2 * axis
    angles = np.pi * np.arange(count) / count
    across = np.cos(angles)[:, None] * x + np.sin(angles)[:, None] * turned
    return [hung(middle, direction, axis, size, spacing, thickness) for direction in across]


def orthogonal_planes(plane: ImagePlane) -> tuple[ImagePlane, ImagePlane]:
    """The two planes through a plane's middle that are perpendicular to it: along its columns, and along its rows.

    They are squares as wide as the plane's longer side, of its smaller pixel spacing and its thickness.
    """
    rows, columns = plane.shape
    side = max(columns * plane.spacing[0], rows * plane.spacing[1])
    options = (side, side), min(plane.spacing), plane.thickness
    return upright(plane.center, plane.i_axis, *options), upright(plane.center, plane.j_axis, *options)


def best_fit_plane(
    simplices: ArrayLike, *, margin: float = 10.0, spacing: Spacing = None, thickness: float = 0.0
) -> ImagePlane:
    """The plane that fits points, the length of a curve or the area of a surface best, in the sense of least squares.

    Its image covers all of it, and the normal points to the right, anterior or superior, whichever is nearest.

    Args:
        simplices: (N, 1, 3) points, (N, 2, 3) pieces of a curve or (N, 3, 3) triangles, RAS mm.
        margin: mm around.
        spacing, thickness: as in `planes_along`.

    Raises:
        GaussianMRIError: numbers that are not finite, less than a plane, such as a straight line, or a negative margin.
    """
    check_margin(margin)
    corners = np.asarray(simplices, np.float64)
    if corners.ndim != 3 or not corners.size or corners.shape[2] != 3 or not np.isfinite(corners).all():
        raise GaussianMRIError(f"A plane is fitted to points (N, 1 to 3, 3) in RAS mm, got {corners.shape}.")
    edges = corners[:, 1:] - corners[:, :1]
    weights = np.sqrt(np.linalg.det(edges @ edges.transpose(0, 2, 1)).clip(0)) if edges.shape[1] else np.ones(len(corners))
    if not weights.sum() > 0:
        raise GaussianMRIError("A plane cannot be fitted to a shape without extent.")
    weights = weights / weights.sum()
    center = weights @ corners.mean(axis=1)
    # Integral of x x^T over a simplex with d + 1 corners v: (sum v v^T + s s^T) / ((d + 1) (d + 2)) with s = sum v.
    away, number = corners - center, corners.shape[1]
    moments = np.einsum("nca,ncb->nab", away, away) + np.einsum("na,nb->nab", away.sum(1), away.sum(1))
    covariance = np.einsum("n,nab->ab", weights, moments) / (number * (number + 1))
    spread = np.linalg.eigvalsh(covariance)
    if not spread[1] > 1e-10 * max(spread[2], 1e-12):
        raise GaussianMRIError("What a plane is fitted to lies on one line; any plane through it fits as well.")
    return fitted_plane(center, covariance, corners.reshape(-1, 3), np.zeros((1, 3)), margin, spacing, thickness)


def fitted_plane(
    center: Vector,
    covariance: Vector,
    points: Vector,
    around: Vector,
    margin: float,
    spacing: Spacing,
    thickness: float,
) -> ImagePlane:
    """The plane through a centre of mass across the direction in which a covariance (3, 3) is least.

    Args:
        points: (N, 3), which the image covers, RAS mm.
        around: (M, 3) corners of what is around each point, relative to it, mm.
        margin: mm beyond.
    """
    normal = np.linalg.eigh(covariance)[1][:, 0]
    normal = normal * np.sign(normal[np.argmax(np.abs(normal))])
    x, y = _upright_axes(center, normal)
    sides = np.stack([x, y], axis=1)
    along, beside = (points - center) @ sides, around @ sides
    low = along.min(axis=0) + beside.min(axis=0) - margin
    high = along.max(axis=0) + beside.max(axis=0) + margin
    width, height = (high - low).tolist()
    return hung(center + sides @ ((low + high) / 2), x, y, (width, height), spacing, thickness)


def check_margin(margin: float) -> None:
    """Refuse a margin (mm) around what a plane is fitted to that is negative, or NaN."""
    if not margin >= 0:
        raise GaussianMRIError(f"The margin around what a plane is fitted to must not be negative, got {margin:g} mm.")


def upright(
    center: Vector, normal: Vector, size: tuple[float, float], spacing: Spacing, thickness: float
) -> ImagePlane:
    """The image of a plane with this unit normal that hangs as by `ImagePlane.from_normal`; `size` in mm."""
    return hung(center, *_upright_axes(center, normal), size, spacing, thickness)


def hung(
    center: Vector, x: Vector, y: Vector, size: tuple[float, float], spacing: Spacing, thickness: float
) -> ImagePlane:
    """`ImagePlane.hung` of axes of any length, with one spacing or two; without a usable size, of `DEFAULT_SIZE`."""
    x, y = unit_vector(x, what="plane's x axis"), unit_vector(y, what="plane's y axis")
    usable = all(0 < side < np.inf for side in size)
    return ImagePlane.hung(center, x, y, size=size if usable else None, spacing=pair_of(spacing), thickness=thickness)


def pair_of(spacing: Spacing) -> tuple[float, float] | None:
    """Pixel spacing along i and j."""
    if spacing is None:
        return None
    along_i, along_j = np.broadcast_to(np.asarray(spacing, dtype=np.float64), (2,)).tolist()
    return along_i, along_j


def _upright_axes(center: Vector, normal: Vector) -> tuple[Vector, Vector]:
    x = ImagePlane.from_normal(center, normal).i_axis
    return x, np.cross(normal, x)
