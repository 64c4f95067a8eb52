"""One intervertebral disc as grading needs it: a frame, its front and back in sagittal slices, its width."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import GaussianMRIError
from ..geometry import check_affine, unit_vector
from .labels import LEVELS

if TYPE_CHECKING:
    from ..stacks import SliceStack

Vector = NDArray[np.float64]
Points = NDArray[np.float64]

#: mm, half-axes of a lumbar disc of an adult, where nothing better is known.
HALF_WIDTH, HALF_DEPTH = 25.0, 17.0


@dataclass(frozen=True, eq=False)
class DiscGeometry:
    """Where a disc is and how it lies; see `disc_sources` for what it can be made of.

    Source: "Rendering Novel Views of MRI using 3D Gaussian Splatting", Fig. 4.

    Attributes:
        frame: (4, 4) float64, RAS mm, a rotation: column 0 unit vector to the patient's left, 1 to the back, 2 the
            disc's normal, which points superior, 3 the centre of the disc.
        posterior, anterior: (M, 3) RAS mm: where the m-th sagittal slice that crosses the disc meets its back and
            front border; M is 1 where only the midline is known.
        sagittal_depth: mm, lateral depth of the sagittal slices that cross the disc: from the centre of the first
            to that of the last, and one spacing.
        level: such as "L5/S1".
        provenance: what this was made of, for people.
        series_depth: mm, the same of all slices of the sagittal series; None where there was none.
        height: mm between the end plates in the middle of the disc; None where it is not known.
        facts: further measures and warnings; JSON types only.
        file: that says so, for messages; "" where it is none.

    Raises:
        GaussianMRIError: a frame that is no rotation, points down or to the patient's right; numbers that are not
            finite; an unknown level.
    """

    frame: NDArray[np.float64]
    posterior: Points
    anterior: Points
    sagittal_depth: float
    level: str
    provenance: str
    series_depth: float | None = None
    height: float | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    file: str = ""

    def __post_init__(self) -> None:
        frame = check_affine(self.frame, what="the disc's frame")
        axes = frame[:3, :3] if frame.ndim == 2 else np.zeros((3, 3))
        if not np.allclose(axes.T @ axes, np.eye(3), atol=1e-5) or np.linalg.det(axes) < 0:
            raise GaussianMRIError(
                "A disc's frame must be a rotation: unit vectors to the left, back and up."
            )
        if axes[0, 0] >= 0 or axes[2, 2] <= 0:
            raise GaussianMRIError(
                "A disc's frame must point to the patient's left, back and up; this one does not. "
                "Check whether left and right, or superior and inferior, were exchanged."
            )
        frame.flags.writeable = False
        object.__setattr__(self, "frame", frame)
        for name in ("posterior", "anterior"):
            points = np.array(getattr(self, name), dtype=np.float64)
            if points.ndim != 2 or points.shape[1] != 3 or not len(points) or not np.isfinite(points).all():
                raise GaussianMRIError(
                    f"The disc's {name} points must be (M, 3), M >= 1, got {points.shape}."
                )
            if np.abs(points - frame[:3, 3]).max() > 500 or np.abs(points).max() > 1e5:
                raise GaussianMRIError(f"The disc's {name} points lie more than 500 mm from its middle, or in no scanner.")
            points.flags.writeable = False
            object.__setattr__(self, name, points)
        if len(self.posterior) != len(self.anterior):
            raise GaussianMRIError(
                f"A disc needs as many anterior as posterior points, got {len(self.anterior)} and "
                f"{len(self.posterior)}."
            )
        lengths = [self.sagittal_depth, *(v for v in (self.series_depth, self.height) if v is not None)]
        if not all(np.isfinite(v) and 2 <= v < 500 for v in lengths):
            raise GaussianMRIError(f"A disc's lengths must be at least 2 and below 500 mm, got {lengths}.")
        object.__setattr__(self, "level", level_name(self.level))

    def __repr__(self) -> str:
        return (
            f"DiscGeometry({self.level}, centre {self.center.round(1).tolist()}, tilt {self.tilt_degrees:.1f} degrees, "
            f"depth {self.sagittal_depth:.1f} mm, {self.provenance})"
        )

    @property
    def named(self) -> str:
        """Its level, and the file that has it: what messages about its place call it."""
        return f"{self.level} ({self.file})" if self.file else self.level

    @property
    def left(self) -> Vector:
        """Unit vector (3,) to the patient's left, in the disc's plane."""
        return self.frame[:3, 0].copy()

    @property
    def back(self) -> Vector:
        """Unit vector (3,) to the patient's back, in the disc's plane."""
        return self.frame[:3, 1].copy()

    @property
    def normal(self) -> Vector:
        """Unit normal (3,) of the disc, superior."""
        return self.frame[:3, 2].copy()

    @property
    def center(self) -> Vector:
        """Centre (3,) of the disc, RAS mm."""
        return self.frame[:3, 3].copy()

    @property
    def tilt_degrees(self) -> float:
        """Angle between the disc's normal and the superior axis of the scanner."""
        return angle_degrees(self.normal, [0, 0, 1])

    def local(self, points: ArrayLike) -> Points:
        """RAS points (..., 3) in the disc's frame: mm to the left, to the back and up from its centre."""
        return np.asarray((np.asarray(points, dtype=np.float64) - self.center) @ self.frame[:3, :3])

    def to_dict(self) -> dict[str, Any]:
        """JSON types only; RAS mm."""
        return {
            "frame": self.frame.tolist(),
            "posterior": self.posterior.tolist(),
            "anterior": self.anterior.tolist(),
            "sagittal_depth": float(self.sagittal_depth),
            "level": self.level,
            "provenance": self.provenance,
            "series_depth": None if self.series_depth is None else float(self.series_depth),
            "height": None if self.height is None else float(self.height),
            "facts": self.facts,
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> DiscGeometry:
        """The inverse of `to_dict`.

        Raises:
            GaussianMRIError: something is missing or cannot be.
        """
        try:
            frame, posterior, anterior = (
                np.asarray(content[name], dtype=np.float64) for name in ("frame", "posterior", "anterior")
            )
            series, height = (
                None if content.get(name) is None else float(content[name])
                for name in ("series_depth", "height")
            )
            return cls(
                frame,
                posterior,
                anterior,
                float(content["sagittal_depth"]),
                str(content["level"]),
                str(content["provenance"]),
                series,
                height,
                dict(content.get("facts") or {}),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise GaussianMRIError(
                f"The description of the disc is incomplete or damaged ({error}); write it with `to_dict`."
            ) from error


def level_name(name: str) -> str:
    """A level as in `LEVELS`, from "L5/S1", "L5-S1", "l5_s1" or "L5S1".

    Raises:
        GaussianMRIError: no lumbar level.
    """
    found = re.fullmatch(r"(L\d)\W*_?\W*([LS]\d?)", name.strip().upper())
    level = f"{found[1]}/{found[2] if found[2] != 'S' else 'S1'}" if found else ""
    if level not in LEVELS:
        raise GaussianMRIError(
            f"'{name}' is not a level of the lumbar spine; levels are {', '.join(LEVELS)}."
        )
    return level


def angle_degrees(first: ArrayLike, second: ArrayLike) -> float:
    """Angle between two axes (3,), 0 to 90 degrees: their signs do not count."""
    a, b = unit_vector(first, what="first direction"), unit_vector(second, what="second direction")
    return float(np.degrees(np.arctan2(np.linalg.norm(np.cross(a, b)), abs(a @ b))))


def disc_frame(center: ArrayLike, normal: ArrayLike, left: ArrayLike) -> NDArray[np.float64]:
    """(4, 4) frame of a disc from its centre, its normal (either sign) and a direction to the left.

    Args:
        center: (3,) RAS mm.
        normal: (3,); turned so that it points superior.
        left: (3,); made perpendicular to the normal and turned towards the patient's left.

    Raises:
        GaussianMRIError: the directions are parallel, or the normal is horizontal.
    """
    up = unit_vector(normal, what="disc's normal")
    if abs(up[2]) < 0.2:
        raise GaussianMRIError(
            f"The disc's normal {up.round(2).tolist()} is nearly horizontal; a disc of the lumbar spine lies across "
            "the body. Check the plane, the points or the segment."
        )
    up = up * np.sign(up[2])
    sideways = unit_vector(left, what="direction to the left")
    if abs(sideways[0]) < 0.2:
        raise GaussianMRIError(
            f"The direction to the left {sideways.round(2).tolist()} runs along the midline. Check left and right."
        )
    sideways = -sideways * np.sign(sideways[0])
    sideways = unit_vector(sideways - up * (sideways @ up), what="direction to the left across the normal")
    frame = np.eye(4)
    frame[:3, 0], frame[:3, 1], frame[:3, 2] = sideways, np.cross(up, sideways), up
    frame[:3, 3] = np.asarray(center, dtype=np.float64)
    return frame


def left_across(sagittal: SliceStack, near: ArrayLike) -> Vector:
    """Unit vector (3,) to the left across the sagittal slice nearest to a point (3,).

    Raises:
        GaussianMRIError: the slices are not sagittal.
    """
    nearest = int(np.argmin(np.abs(sagittal.distances(near))))
    normal: Vector = sagittal.ijk_to_ras[nearest, :3, 2]
    if abs(normal[0]) < 0.7:
        raise GaussianMRIError(f"{sagittal.name} is not sagittal; give the sagittal series.")
    return -normal * np.sign(normal[0])


def series_depth(sagittal: SliceStack) -> float:
    """mm from the first to the last slice's centre, and one spacing."""
    return float(np.ptp(sagittal.positions) + sagittal.spacing)


def plane_fit(places: Points, heights: Vector, tolerance: float = 0.25) -> Vector:
    """Plane through most of some points: its slopes along two directions and its height at the origin, (3,).

    Args:
        places: (N, 2) mm.
        heights: (N,) mm.
        tolerance: mm within which a point always counts; others count up to 2.5 robust standard deviations.
    """
    design = np.column_stack([places, np.ones(len(places))])
    kept = np.ones(len(places), dtype=bool)
    for _ in range(4):
        solution = np.linalg.lstsq(design[kept], heights[kept], rcond=None)[0]
        residual = np.abs(design @ solution - heights)
        kept = residual <= max(2.5 * 1.4826 * float(np.median(residual)), tolerance)
    return np.asarray(solution)


def bisector(upper: Vector, lower: Vector) -> tuple[Vector, float]:
    """Unit normal (3,) half way between two planes of `plane_fit`, in their directions, and their angle in degrees."""
    normals = [unit_vector([-plane[0], -plane[1], 1.0], what="end plate") for plane in (upper, lower)]
    return unit_vector(normals[0] + normals[1], what="bisector"), angle_degrees(*normals)
