"""The plane that cuts a volume or a model open."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import GaussianMRIError
from ..files import reading
from ..geometry import unit_vector


@dataclass(frozen=True, eq=False)
class ClipPlane:
    """A half-space: points with `normal` . x < `offset` are kept, the side that the normal points to is cut away.

    Source: the clipping condition n . mu < d of "ClipGS" (MICCAI 2025).

    Attributes:
        normal: (3,) float64, unit length (made so), RAS.
        offset: mm; `normal` . x of every point x of the plane.
        file: that says so, for messages; "" where it is none.

    Example:
        >>> plane = ClipPlane.from_point([0, 0, 10], [0, 0, 2])
        >>> plane.signed_distance([[0, 0, 7.5]]).tolist()
        [-2.5]
    """

    normal: NDArray[np.float64]
    offset: float
    _: KW_ONLY
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
        return ClipPlane(-self.normal, -self.offset, file=self.file)

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
