"""Planes that cut a volume or a model open, and the box that crops it."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import GaussianMRIError
from ..files import reading
from ..geometry import transform_points, unit_vector

#: How several planes cut, in the words of Slicer's `vtkMRMLClipNode`, which are about what is cut away: "union" is all that
#: any plane cuts away, so that what all planes keep is left; "intersection" is only what all planes cut away.
CLIP_TYPES = ("union", "intersection")
#: Lowest and highest corner in RAS, mm; or a (4, 4) matrix from a cube of -1 to 1 to RAS mm, for a box that is turned.
Roi = tuple[ArrayLike, ArrayLike] | ArrayLike
#: What cuts a model: one plane, several of the type "union", or nothing.
Cutting: TypeAlias = "ClipPlane | Sequence[ClipPlane] | None"


@dataclass(frozen=True, eq=False)
class ClipPlane:
    """A half-space: points with `normal` . x < `offset` are kept, the side that the normal points to is cut away.

    Source: the clipping condition n . mu < d of "ClipGS" (MICCAI 2025).

    Attributes:
        normal: (3,) float64, unit length (made so), RAS.
        offset: mm; `normal` . x of every point x of the plane.
        joint: of several planes with this, only what lies beyond all of them is cut away; see `combined`.
        file: that says so, for messages; "" where it is none.

    Example:
        >>> plane = ClipPlane.from_point([0, 0, 10], [0, 0, 2])
        >>> plane.signed_distance([[0, 0, 7.5]]).tolist()
        [-2.5]
    """

    normal: NDArray[np.float64]
    offset: float
    _: KW_ONLY
    joint: bool = False
    file: str = ""

    def __post_init__(self) -> None:
        normal = unit_vector(self.normal, what="clip plane's normal")
        normal.flags.writeable = False
        object.__setattr__(self, "normal", normal)
        object.__setattr__(self, "offset", float(self.offset))
        if not abs(self.offset) <= 1e9:  # or NaN
            raise GaussianMRIError(
                f"The clip plane's offset must be a finite number of mm, got {self.offset}."
            )

    @classmethod
    def from_point(cls, point: ArrayLike, normal: ArrayLike) -> ClipPlane:
        """The plane through `point` (3,) RAS mm that keeps the side opposite to `normal` (3,)."""
        direction = unit_vector(normal, what="clip plane's normal")
        return cls(direction, float(direction @ np.asarray(point, dtype=np.float64)))

    @classmethod
    def from_markups(cls, markups: str | os.PathLike[str] | Mapping[str, Any]) -> ClipPlane:
        """The first plane of a Slicer `.mrk.json` file (path or parsed content); its normal is x cross y.

        Raises:
            GaussianMRIError: the file is no markups file, has no plane, or the plane is incomplete.
        """
        from ..geometry.markups import markups_name, read_plane_markups

        plane = read_plane_markups(markups)[0]
        with reading(markups_name(markups), "a markups file"):  # axes that span no plane are the file's
            cut = cls.from_point(plane.center, np.cross(plane.x, plane.y))
        return replace(cut, file=markups_name(markups))

    def signed_distance(self, points: ArrayLike) -> NDArray[np.float64]:
        """mm from the plane to RAS points (..., 3): (...), negative on the kept side."""
        distance: NDArray[np.float64] = np.asarray(points, dtype=np.float64) @ self.normal - self.offset
        return distance

    def flipped(self) -> ClipPlane:
        """The same plane with the other side kept."""
        return replace(self, normal=-self.normal, offset=-self.offset)

    def to_dict(self) -> dict[str, Any]:
        """For JSON: normal and offset."""
        return {"normal": self.normal.tolist(), "offset": self.offset}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ClipPlane:
        """The plane that `to_dict` described.

        Raises:
            GaussianMRIError: a value is missing or is not a number.
        """
        try:
            normal = np.asarray(values["normal"], dtype=np.float64)
            return cls(normal, float(values["offset"]))
        except (KeyError, TypeError, ValueError) as error:
            raise GaussianMRIError(f"The description of a clip plane is incomplete: {error}.") from error


def combined(planes: Sequence[ClipPlane], clip_type: str) -> tuple[ClipPlane, ...]:
    """The planes as they cut together.

    Args:
        clip_type: one of `CLIP_TYPES`.

    Raises:
        GaussianMRIError: another word.

    Example:
        >>> right, upper = ClipPlane([1, 0, 0], 0.0), ClipPlane([0, 0, 1], 0.0)
        >>> [plane.joint for plane in combined([right, upper], "intersection")]
        [True, True]
    """
    if clip_type not in CLIP_TYPES:
        raise GaussianMRIError(f"Planes cut as one of {', '.join(CLIP_TYPES)}, not as {clip_type!r}.")
    joint = clip_type == "intersection" and len(planes) > 1
    return tuple(replace(plane, joint=joint) for plane in planes)


def is_hollow(planes: Sequence[ClipPlane]) -> bool:
    """Whether what the planes leave of a convex body may be other than convex."""
    return sum(plane.joint for plane in planes) > 1


def convex_planes(cut: Cutting) -> tuple[ClipPlane, ...]:
    """One plane, several or none as a tuple, for what knows planes of the type "union" only.

    Raises:
        GaussianMRIError: planes of the type "intersection".
    """
    planes = () if cut is None else (cut,) if isinstance(cut, ClipPlane) else tuple(cut)
    if is_hollow(planes):
        raise GaussianMRIError(
            "Splats and their cut faces are cut by planes of the type union only: what planes of the type intersection "
            "leave is not convex. Let the path tracer show the volume, or choose union."
        )
    return planes


def box_to_ras(roi: Roi) -> NDArray[np.float64]:
    """(4, 4): a cube of -1 to 1 to the box in RAS, mm.

    Raises:
        GaussianMRIError: no box, or an empty one.
    """
    given = np.asarray(roi, dtype=np.float64)
    if given.shape == (2, 3):
        matrix = np.eye(4)
        matrix[:3, :3] = np.diag(given[1] - given[0]) / 2
        matrix[:3, 3] = given.mean(axis=0)
        empty = not np.all(given[1] > given[0])
    elif given.shape == (4, 4):
        matrix = given
        edges = np.linalg.norm(given[:3, :3], axis=0)
        empty = not (np.all(edges > 0) and abs(np.linalg.det(given[:3, :3] / np.where(edges > 0, edges, 1))) > 1e-6)
    else:
        raise GaussianMRIError(f"A region is two corners (RAS, mm) or a (4, 4) matrix, got numbers of shape {given.shape}.")
    if empty or not np.all(np.isfinite(matrix)):
        raise GaussianMRIError(f"The region {given.tolist()} (RAS, mm) is empty.")
    return matrix


def box_corners(box: NDArray[np.float64]) -> NDArray[np.float64]:
    """(8, 3) RAS mm: the corners of a box (`box_to_ras`)."""
    return transform_points(box, np.stack(np.meshgrid(*[(-1.0, 1.0)] * 3, indexing="ij"), axis=-1).reshape(-1, 3))


def box_planes(box: NDArray[np.float64]) -> tuple[ClipPlane, ...]:
    """The six planes that keep what lies in a box (`box_to_ras`)."""
    rows, centre = np.linalg.inv(box[:3, :3]), box[:3, 3]
    return tuple(ClipPlane.from_point(centre + side * box[:3, a], side * rows[a]) for a in range(3) for side in (-1, 1))
