"""Planes, boxes and curves from 3D Slicer's markups files (`.mrk.json`)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import GaussianMRIError
from ..files import read_json, reading
from .affine import LARGEST_POSITION_MM, LPS_RAS, axis_of, unit_vector

Vector = NDArray[np.float64]


class PlaneMarkup(NamedTuple):
    """A plane of a markups file.

    Attributes:
        name: "" where the file has none.
        center: (3,) RAS mm.
        x, y: unit vectors (3,), RAS; the normal is x cross y.
        size: mm along x and y; None when the markup has none.
    """

    name: str
    center: Vector
    x: Vector
    y: Vector
    size: tuple[float, float] | None


def read_plane_markups(markups: str | os.PathLike[str] | Mapping[str, Any]) -> list[PlaneMarkup]:
    """The planes of a Slicer markups file (path) or of its parsed content, in order; markups of other kinds are left out.

    Raises:
        GaussianMRIError: not a markups file, no plane in it, or an incomplete plane.
    """
    name, content = load_markups(markups)
    with reading(name, "a markups file"):
        planes = _of_kind(content, "Plane")
        if not planes:
            raise GaussianMRIError(
                f"{name} has no plane markup. Place a plane in Slicer's Markups module and save it."
            )
        result = [_plane(name, plane) for plane in planes]
    return result


def read_line_markup(markups: str | os.PathLike[str] | Mapping[str, Any]) -> tuple[Vector, Vector]:
    """Both ends (3,), RAS mm, of the first line in a Slicer markups file (path) or its parsed content, or of its first point
    list with two points.

    Raises:
        GaussianMRIError: not a markups file, no line and no two points in it, or both at one place.
    """
    name, content = load_markups(markups)
    with reading(name, "a markups file"):
        for markup in _of_kind(content, "Line", "Fiducial"):
            ends = _points(markup, _to_ras(name, markup))
            if len(ends) == 2 and np.all(np.abs(ends) <= LARGEST_POSITION_MM):  # not NaN
                axis_of(*ends)
                return ends[0], ends[1]
        raise GaussianMRIError(
            f"{name} has no line markup with both its ends. Place a line in Slicer's Markups module and save it."
        )


def read_roi_markup(markups: str | os.PathLike[str] | Mapping[str, Any]) -> NDArray[np.float64]:
    """The first ROI box of a Slicer markups file (path) or of its parsed content.

    Returns:
        (4, 4): a cube of -1 to 1 to the box in RAS, mm.

    Raises:
        GaussianMRIError: not a markups file, no ROI in it, or an incomplete one.
    """
    name, content = load_markups(markups)
    with reading(name, "a markups file"):
        found = _of_kind(content, "ROI")
        if not found:
            raise GaussianMRIError(f"{name} has no ROI markup. Draw a box in Slicer's Markups module and save it.")
        to_ras, box = _to_ras(name, found[0]), np.eye(4)
        try:
            axes = np.asarray(found[0].get("orientation", np.eye(3)), dtype=np.float64).reshape(3, 3)
            half = np.asarray(found[0]["size"], dtype=np.float64).reshape(3) / 2
            box[:3, :3] = to_ras @ axes * half
            box[:3, 3] = to_ras @ np.asarray(found[0]["center"], dtype=np.float64).reshape(3)
        except (KeyError, TypeError, ValueError) as error:
            raise GaussianMRIError(f"The ROI in {name} is incomplete: it needs a center and a size.") from error
        if not (np.all(np.abs(box) <= LARGEST_POSITION_MM) and np.all(half > 0)):  # or NaN
            raise GaussianMRIError(f"The ROI in {name} has no extent, or lies far from any scanner.")
    return box


def read_curve_markup(markups: str | os.PathLike[str] | Mapping[str, Any]) -> Vector:
    """The first curve of a Slicer markups file (path) or of its parsed content, open or closed.

    Returns:
        (N, 3) RAS mm: places on the curve that Slicer draws by default, ten from one control point to the next: a cubic
        spline over the points' numbers, which begins and ends with no speed. A closed curve ends where it began. (The file
        does not tell of the other kinds of curves.)

    Raises:
        GaussianMRIError: not a markups file, no curve in it, or one of fewer than two points.
    """
    from scipy.interpolate import CubicSpline

    name, content = load_markups(markups)
    with reading(name, "a markups file"):
        curves = _of_kind(content, "Curve", "ClosedCurve")
        if not curves:
            raise GaussianMRIError(f"{name} has no curve markup. Place a curve in Slicer's Markups module and save it.")
        points = np.array(_points(curves[0], _to_ras(name, curves[0])), np.float64).reshape(-1, 3)
        closed = curves[0]["type"] == "ClosedCurve"
        if len(points) < (3 if closed else 2) or not np.all(np.abs(points) <= LARGEST_POSITION_MM):  # or NaN
            raise GaussianMRIError(f"The curve in {name} has too few points, or points that are far from any scanner.")
        if closed:
            points = np.concatenate([points, points[:1]])
        spline = CubicSpline(np.arange(len(points)), points, bc_type="periodic" if closed else "clamped")
    return np.asarray(spline(np.linspace(0, len(points) - 1, 10 * (len(points) - 1) + 1)))


def _of_kind(content: Any, *kinds: str) -> list[Mapping[str, Any]]:
    """The markups of some types in a file's content, in order."""
    found = content.get("markups") if isinstance(content, Mapping) else None
    several = found if isinstance(found, list) else []
    return [m for m in several if isinstance(m, Mapping) and m.get("type") in kinds]


def _to_ras(name: str, markup: Mapping[str, Any]) -> Vector:
    """(3, 3) from a markup's coordinates, which have to be in mm, to RAS."""
    units = markup.get("coordinateUnits", "mm")
    if isinstance(units, str) and units != "mm":
        raise GaussianMRIError(f"{name} is in {units}; save the {str(markup.get('type')).lower()} in mm.")
    system = markup.get("coordinateSystem", "LPS")
    # Slicer writes "LPS"/"RAS"; its first releases wrote the numbers of its own enumeration.
    if system in ("LPS", 1, "1"):
        return LPS_RAS[:3, :3]
    if system in ("RAS", 0, "0"):
        return np.eye(3)
    raise GaussianMRIError(f"{name} has the unknown coordinate system {system!r}; expected LPS or RAS.")


def _plane(name: str, plane: Mapping[str, Any]) -> PlaneMarkup:
    to_ras = _to_ras(name, plane)
    try:
        center, x, y = _pose(plane, to_ras)
        size = _size(plane)
        bounds = np.asarray(plane.get("planeBounds", ()), dtype=np.float64)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise GaussianMRIError(
            f"The plane in {name} is incomplete: it needs a center and an orientation."
        ) from error
    if bounds.shape == (4,) and np.all(np.isfinite(bounds)):
        center = center + x * (bounds[0] + bounds[1]) / 2 + y * (bounds[2] + bounds[3]) / 2
    if not np.all(np.abs(center) <= LARGEST_POSITION_MM):  # or NaN
        raise GaussianMRIError(f"The plane in {name} has a center that is not finite, or far from any scanner.")
    return PlaneMarkup(str(plane.get("name") or ""), center, x, y, size)


def markups_name(markups: str | os.PathLike[str] | Mapping[str, Any]) -> str:
    """What messages call it."""
    return "The markups content" if isinstance(markups, Mapping) else os.fspath(markups)


def load_markups(markups: str | os.PathLike[str] | Mapping[str, Any]) -> tuple[str, Any]:
    name = markups_name(markups)
    if isinstance(markups, Mapping):
        return name, markups
    with reading(name, "a markups file", "Give a .mrk.json saved by Slicer."):
        content = read_json(name)
    return name, content


def _points(markup: Mapping[str, Any], to_ras: Vector) -> list[Vector]:
    defined = [p for p in markup.get("controlPoints", []) if p.get("positionStatus", "defined") == "defined"]
    return [to_ras @ np.asarray(p["position"], dtype=np.float64).reshape(3) for p in defined]


def _pose(plane: Mapping[str, Any], to_ras: Vector) -> tuple[Vector, Vector, Vector]:
    """Center and the unit x and y axes; from the stored pose, else from the control points."""
    if "orientation" in plane and "center" in plane:
        axes = to_ras @ np.asarray(plane["orientation"], dtype=np.float64).reshape(3, 3)
        center = to_ras @ np.asarray(plane["center"], dtype=np.float64).reshape(3)
        return center, unit_vector(axes[:, 0], what="plane's x axis"), unit_vector(axes[:, 1], what="plane's y axis")
    points = _points(plane, to_ras)
    if "normal" in plane and ("center" in plane or points):
        center = (
            to_ras @ np.asarray(plane["center"], dtype=np.float64).reshape(3)
            if "center" in plane
            else points[0]
        )
        normal = unit_vector(
            to_ras @ np.asarray(plane["normal"], dtype=np.float64).reshape(3), what="plane's normal"
        )
        helper = np.eye(3)[int(np.argmin(np.abs(normal)))]
        x = unit_vector(np.cross(helper, normal), what="plane's x axis")
        return center, x, np.cross(normal, x)
    # Three points: origin, then two that span the plane.
    origin, first, second = points[:3]
    x = unit_vector(first - origin, what="first edge of the plane")
    normal = unit_vector(np.cross(x, second - origin), what="plane's normal (its three points lie on a line)")
    return origin, x, np.cross(normal, x)


def _size(plane: Mapping[str, Any]) -> tuple[float, float] | None:
    values = np.asarray(plane.get("size", ()), dtype=np.float64)
    if values.ndim == 1 and len(values) >= 2 and np.all(np.isfinite(values[:2]) & (values[:2] > 0)):
        return float(values[0]), float(values[1])
    return None
