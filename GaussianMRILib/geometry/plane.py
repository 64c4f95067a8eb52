"""A plane in space to render an image on."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import GaussianMRIError
from ..files import reading
from .affine import (
    LARGEST_SPACING_MM,
    SMALLEST_SPACING_MM,
    all_of,
    check_affine,
    check_spacing,
    numbers,
    pair,
    slice_normal,
    transform_points,
    unit_vector,
)

#: What one image has at most: beyond it a number is wrong, and memory would be gone.
MOST_PIXELS_A_SIDE, MOST_PIXELS = 32767, 1 << 27


@dataclass(frozen=True, eq=False)
class ImagePlane:
    """A rectangular grid of pixels in space: the image a scanner would make there.

    Attributes:
        ijk_to_ras: (4, 4) float64, mm, RAS. Column 0: step along increasing column index i; column 1: step
            along increasing row index j; column 2: unit normal; column 3: centre of pixel (row 0, column 0).
        shape: (rows, columns).
        thickness: mm averaged along the normal; 0, or less than a micrometre, is a thin plane.

    Example:
        >>> plane = ImagePlane.from_axes((0, 0, 0), (1, 0, 0), (0, -1, 0), spacing=(0.5, 0.5), shape=(3, 5))
        >>> plane.points()[1, 2].tolist()
        [0.0, 0.0, 0.0]

    Raises:
        GaussianMRIError: a matrix no pixel grid can have, a shape without pixels, a negative thickness.
    """

    ijk_to_ras: NDArray[np.float64]
    shape: tuple[int, int]
    _: KW_ONLY
    thickness: float = 0.0

    def __post_init__(self) -> None:
        matrix = check_affine(self.ijk_to_ras, what="the plane's ijk_to_ras")
        if matrix.ndim != 2:
            raise GaussianMRIError(f"A plane has one (4, 4) ijk_to_ras, got {matrix.shape}.")
        matrix[:3, 2] = slice_normal(matrix)
        matrix.flags.writeable = False
        object.__setattr__(self, "ijk_to_ras", matrix)
        shape = _shape(self.shape)
        if min(shape) < 1:
            raise GaussianMRIError(f"A plane needs at least 1 x 1 pixels (rows, columns), got {self.shape}.")
        if max(shape) > MOST_PIXELS_A_SIDE or shape[0] * shape[1] > MOST_PIXELS:
            raise GaussianMRIError(
                f"A plane of {shape[0]} x {shape[1]} pixels is too large: at most {MOST_PIXELS_A_SIDE} a side and "
                f"{MOST_PIXELS >> 20} million in all. Take larger pixels or a smaller plane."
            )
        object.__setattr__(self, "shape", shape)
        thickness = _number(self.thickness, "plane's thickness")
        if not 0.0 <= thickness <= LARGEST_SPACING_MM:
            raise GaussianMRIError(
                f"The plane's thickness must be 0 to {LARGEST_SPACING_MM:g} mm, got {thickness}."
            )
        # A micrometre is no slab, and no file's reader takes it for one.
        object.__setattr__(self, "thickness", thickness if thickness >= SMALLEST_SPACING_MM else 0.0)

    # ---- constructors

    @classmethod
    def from_axes(
        cls,
        center: ArrayLike,
        i_axis: ArrayLike,
        j_axis: ArrayLike,
        *,
        spacing: tuple[float, float] = (0.5, 0.5),
        shape: tuple[int, int] = (224, 224),
        thickness: float = 0.0,
    ) -> ImagePlane:
        """Plane with its middle at `center` (RAS mm) and its rows and columns along given directions.

        Args:
            center: (3,) RAS mm, the middle of the image.
            i_axis: (3,) direction of increasing column index; any length.
            j_axis: (3,) direction of increasing row index; any length, perpendicular to `i_axis`.
            spacing: mm between columns (along i), mm between rows (along j).
            shape: (rows, columns).
            thickness: mm, 0 for a thin plane.
        """
        i, j = unit_vector(i_axis, what="i axis"), unit_vector(j_axis, what="j axis")
        spacing = pair(spacing, "plane's pixel spacing (mm along i, mm along j)")
        check_spacing(spacing, "plane's pixel spacing")
        middle = numbers(center, "plane's center")
        if middle.shape != (3,):
            raise GaussianMRIError(
                f"The plane's center must be three numbers (RAS mm), got {np.shape(center)}."
            )
        rows, columns = _shape(shape)
        matrix = np.eye(4)
        matrix[:3, 0] = i * spacing[0]
        matrix[:3, 1] = j * spacing[1]
        matrix[:3, 2] = np.cross(i, j)
        matrix[:3, 3] = middle - matrix[:3, 0] * (columns - 1) / 2 - matrix[:3, 1] * (rows - 1) / 2
        return cls(matrix, (rows, columns), thickness=thickness)

    @classmethod
    def from_normal(
        cls,
        center: ArrayLike,
        normal: ArrayLike,
        *,
        spacing: tuple[float, float] = (0.5, 0.5),
        shape: tuple[int, int] = (224, 224),
        thickness: float = 0.0,
        up: ArrayLike | None = None,
    ) -> ImagePlane:
        """Plane with its middle at `center`, perpendicular to `normal`, with `up` pointing up in the image.

        Without `up` the image is turned as radiologists hang it: anterior up on a plane that is mostly axial,
        else superior up. The normal keeps its sign; columns run so that the image is seen from the usual side
        (patient's right on the left of axial and coronal images, anterior on the left of sagittal ones).
        """
        n = unit_vector(normal, what="normal")
        i_wanted, up_wanted = _viewing_axes(n)
        wanted = up_wanted if up is None else unit_vector(up, what="up direction")
        upward = wanted - n * (wanted @ n)
        if np.linalg.norm(upward) < 1e-6:
            raise GaussianMRIError("The up direction is parallel to the plane's normal; choose another one.")
        j = -unit_vector(upward, what="up direction")
        i = np.cross(j, n)
        return cls.from_axes(
            center, -i if i @ i_wanted < 0 else i, j, spacing=spacing, shape=shape, thickness=thickness
        )._facing(n)

    @classmethod
    def from_markups(
        cls,
        markups: str | os.PathLike[str] | Mapping[str, Any],
        *,
        spacing: tuple[float, float] | None = None,
        shape: tuple[int, int] | None = None,
        thickness: float = 0.0,
    ) -> ImagePlane:
        """Plane of the first plane markup in a Slicer `.mrk.json` file (path or parsed content).

        The image covers the markup's size. Its rows and columns run along the markup's axes, swapped or
        reversed so that the image hangs as in `from_normal`; the normal is the markup's. `spacing` is mm
        along i and j (0.5 by default); `shape` sets (rows, columns) around the same centre, and without
        `spacing` spreads them over the size.

        Raises:
            GaussianMRIError: the file is no markups file, has no plane, or the plane is incomplete.
        """
        return cls.set_from_markups(markups, spacing=spacing, shape=shape, thickness=thickness)[0][1]

    @classmethod
    def set_from_markups(
        cls,
        markups: str | os.PathLike[str] | Mapping[str, Any],
        *,
        spacing: tuple[float, float] | None = None,
        shape: tuple[int, int] | None = None,
        thickness: float = 0.0,
    ) -> list[tuple[str, ImagePlane]]:
        """Every plane markup of a file with its name ("" where it has none), each as by `from_markups`."""
        from .markups import markups_name, read_plane_markups

        found = read_plane_markups(markups)
        with reading(markups_name(markups), "a markups file"):  # a size that makes no image is the file's
            planes = [
                (
                    m.name,
                    cls.hung(
                        m.center, m.x, m.y, size=m.size, spacing=spacing, shape=shape, thickness=thickness
                    ),
                )
                for m in found
            ]
        return planes

    @classmethod
    def hung(
        cls,
        center: NDArray[np.float64],
        x: NDArray[np.float64],
        y: NDArray[np.float64],
        *,
        size: tuple[float, float] | None,
        spacing: tuple[float, float] | None = None,
        shape: tuple[int, int] | None = None,
        thickness: float = 0.0,
    ) -> ImagePlane:
        """The image on a rectangle, hung as by `from_markups`.

        Args:
            center, x, y: its middle (RAS mm) and the unit vectors along its sides, (3,) each; the normal is x cross y.
            size: mm along x and y; default 112 x 112.
            spacing, shape, thickness: as in `from_markups`.
        """
        normal = np.cross(x, y)
        i_wanted, up_wanted = _viewing_axes(unit_vector(normal, what="plane's normal"))
        width, height = size or (112.0, 112.0)
        if abs(x @ up_wanted) > abs(y @ up_wanted):
            x, y, width, height = y, x, height, width
        i = -x if x @ i_wanted < 0 else x
        j = y if y @ up_wanted < 0 else -y
        if spacing is None:
            spacing = (0.5, 0.5) if shape is None or size is None else (width / shape[1], height / shape[0])
        check_spacing(spacing, "plane's pixel spacing")
        if shape is None:
            shape = (max(1, round(height / spacing[1])), max(1, round(width / spacing[0])))
        return cls.from_axes(center, i, j, spacing=spacing, shape=shape, thickness=thickness)._facing(normal)

    # ---- properties

    @property
    def spacing(self) -> tuple[float, float]:
        """(mm between columns, along i; mm between rows, along j)."""
        lengths = np.linalg.norm(self.ijk_to_ras[:3, :2], axis=0)
        return float(lengths[0]), float(lengths[1])

    @property
    def i_axis(self) -> NDArray[np.float64]:
        """Unit vector (3,) of increasing column index, RAS."""
        return self.ijk_to_ras[:3, 0] / self.spacing[0]

    @property
    def j_axis(self) -> NDArray[np.float64]:
        """Unit vector (3,) of increasing row index, RAS."""
        return self.ijk_to_ras[:3, 1] / self.spacing[1]

    @property
    def normal(self) -> NDArray[np.float64]:
        """Unit normal (3,), RAS."""
        return self.ijk_to_ras[:3, 2].copy()

    @property
    def origin(self) -> NDArray[np.float64]:
        """Centre (3,) of pixel (row 0, column 0), RAS mm."""
        return self.ijk_to_ras[:3, 3].copy()

    @property
    def center(self) -> NDArray[np.float64]:
        """Middle (3,) of the image, RAS mm."""
        rows, columns = self.shape
        return transform_points(self.ijk_to_ras, [(columns - 1) / 2, (rows - 1) / 2, 0.0])

    # ---- methods

    def points(self) -> NDArray[np.float64]:
        """Pixel centres, (rows, columns, 3) float64, RAS mm."""
        rows, columns = self.shape
        j, i = np.arange(rows, dtype=np.float64), np.arange(columns, dtype=np.float64)
        return (
            self.origin
            + i[None, :, None] * self.ijk_to_ras[:3, 0]
            + j[:, None, None] * self.ijk_to_ras[:3, 1]
        )

    def corners(self) -> NDArray[np.float64]:
        """The four outer corners (4, 3) of the image (pixel edges, not centres), RAS mm."""
        rows, columns = self.shape
        ij = [(i, j, 0.0) for j in (-0.5, rows - 0.5) for i in (-0.5, columns - 0.5)]
        return transform_points(self.ijk_to_ras, ij)

    def offset(self, mm: float) -> ImagePlane:
        """The same plane moved by `mm` along its normal."""
        matrix = self.ijk_to_ras.copy()
        matrix[:3, 3] += _number(mm, "distance along the normal") * self.normal
        return replace(self, ijk_to_ras=matrix)

    def stack(self, count: int, step: float) -> list[ImagePlane]:
        """`count` parallel planes, `step` mm apart along the normal, centred on this one."""
        count = _whole(count, "number of planes")
        if count < 1:
            raise GaussianMRIError(f"A stack of planes needs at least one plane, got {count}.")
        if count > 1:
            check_spacing(abs(step), "step between planes")
        return [self.offset((k - (count - 1) / 2) * step) for k in range(count)]

    def transformed(self, matrix: ArrayLike) -> ImagePlane:
        """The plane after a rigid motion `matrix` (4, 4) of RAS space."""
        motion = numbers(matrix, "motion")
        if motion.shape != (4, 4):
            raise GaussianMRIError(f"The motion of a plane must be a matrix (4, 4) of RAS space, got {motion.shape}.")
        return replace(self, ijk_to_ras=motion @ self.ijk_to_ras)

    def _facing(self, normal: NDArray[np.float64]) -> ImagePlane:
        """The same pixels with the unit normal on the side of `normal`."""
        matrix = self.ijk_to_ras.copy()
        matrix[:3, 2] = normal
        return replace(self, ijk_to_ras=matrix)


def as_planes(planes: Any) -> list[ImagePlane]:
    """One plane or several as a list.

    Raises:
        GaussianMRIError: something among them is no plane.
    """
    return all_of(
        ImagePlane,
        planes,
        "An image is made on an ImagePlane, got {got}. ImagePlane.from_markups reads one from a file; several planes "
        "at once are for render_many of a field.",
    )


def _shape(shape: Any) -> tuple[int, int]:
    rows, columns = pair(shape, "plane's shape (rows, columns)")
    return _whole(rows, "number of rows"), _whole(columns, "number of columns")


def _number(value: Any, what: str) -> float:
    array = numbers(value, what)
    if array.size != 1:
        raise GaussianMRIError(f"The {what} must be one number, got {array.size}.")
    return float(array.item())


def _whole(value: Any, what: str) -> int:
    number = _number(value, what)
    if not number.is_integer():
        raise GaussianMRIError(f"The {what} must be a whole number, got {value}.")
    return int(number)


def _viewing_axes(normal: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Directions (RAS) that radiologists want to the right and upwards in an image with this unit normal."""
    dominant = int(np.argmax(np.abs(normal)))
    rightwards = [0.0, -1.0, 0.0] if dominant == 0 else [-1.0, 0.0, 0.0]
    upwards = [0.0, 1.0, 0.0] if dominant == 2 else [0.0, 0.0, 1.0]
    return np.asarray(rightwards), np.asarray(upwards)
