"""Curved planar reformation: a field along a curve, shown as if the curve were straight."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import GaussianMRIError
from ..geometry import Curve, ImagePlane, as_planes, check_projection
from ..geometry.affine import check_spacing
from ..volumes import Grid
from . import volume
from .volume import check_voxels, finest_spacing, rendered_slabs

if TYPE_CHECKING:
    from .field import GaussianField

#: Samples across a slab of which the largest or smallest is taken, at most.
_MOST_SAMPLES = 200
#: Share of a step along the curve up to which an image's direction counts as across it.
_LEVEL = 1e-6


class StraightField:
    """A field along a curve, in the curve's straight space (see `Curve`), where it is rendered as a field is.

    Lengths along the curve and across it are kept. Off the curve lengths along it are not: planes across the curve spread on
    the outside of a bend and crowd on its inside, and where they meet (`folding`) places are shown twice.

    Args:
        field: to be rendered.
        curve: through what was scanned.
        width: mm that images and volumes show on both sides of the curve together.
        spacing: mm between pixels; default: the field's own.

    Attributes:
        plane: the straightened image: the thin plane of the straight space through the curve, along its `across`; it hangs
            as by `ImagePlane.hung`.
        grid: the straightened volume, `width` wide and deep; columns across, rows aside, slices along the curve.

    Raises:
        GaussianMRIError: a width or spacing that makes no image or too large a one.
    """

    def __init__(self, field: GaussianField, curve: Curve, *, width: float = 60.0, spacing: float | None = None) -> None:
        spacing = finest_spacing(field) if spacing is None else float(spacing)
        check_spacing(spacing, "spacing of the pixels along a curve")
        check_spacing(width, "width across a curve")
        self.field, self.curve, self.width = field, curve, float(width)
        self.offset, self.frame_of_reference = field.offset, None  # nobody was scanned in the straight space
        matrix, beside, along = curve.straight_to_ras, max(1, round(width / spacing)), max(1, round(curve.length / spacing))
        check_voxels(np.array([beside, beside, along], float), spacing, "a smaller width")
        middle = matrix[:3, 3] + curve.length / 2 * matrix[:3, 2]
        self.plane = ImagePlane.hung(
            middle, matrix[:3, 0], matrix[:3, 2], size=(beside * spacing, along * spacing), spacing=(spacing, spacing)
        )
        voxels = matrix.copy()
        voxels[:3, :3] *= spacing
        voxels[:3, 3] = middle - voxels[:3, :3] @ (np.array([beside, beside, along]) - 1) / 2
        self.grid = Grid(voxels, (along, beside, beside))

    def spaced(self, spacing: float) -> StraightField:
        """The same with other pixels, of `spacing` mm."""
        return StraightField(self.field, self.curve, width=self.width, spacing=spacing)

    @property
    def folding(self) -> str:
        """A sentence where the volume is folded, else empty; see `Curve.folding`."""
        return self.curve.folding(self.width, aside=self.width)

    def render(self, plane: ImagePlane, *, projection: str = "mean") -> NDArray[np.float32]:
        """The image on a plane of the straight space that lies along the curve or across it.

        Args:
            plane: one of its two directions is the straight curve's, or neither has any of it.
            projection: mean over the plane's thickness, or the largest or smallest value in it, of a plane along the curve.

        Returns:
            (rows, columns) float32 in the units of the input; NaN outside what was scanned.

        Raises:
            GaussianMRIError: a plane at another angle, an unknown projection, "max" or "min" of a plane without thickness.
        """
        (plane,) = as_planes([plane])
        check_projection(projection, planes=[plane])
        local = np.linalg.inv(self.curve.straight_to_ras) @ plane.ijk_to_ras
        across = np.abs(local[2, :2]) <= _LEVEL * np.linalg.norm(local[:3, :2], axis=0)
        upright = np.hypot(*local[:2, :2]) <= _LEVEL * np.linalg.norm(local[:3, :2], axis=0)
        if across.all():
            pose = self.curve.frames(local[2, 3])[0]
            local[2, 3] = 0.0
            curved = ImagePlane(pose @ local, plane.shape, thickness=plane.thickness)
            return self.field.render_many([curved], views=False)[0]
        if across[0] and upright[1]:
            return self._along(local, plane.shape, plane.thickness, projection)
        if across[1] and upright[0]:
            turned = local[:, [1, 0, 2, 3]]
            return np.ascontiguousarray(self._along(turned, plane.shape[::-1], plane.thickness, projection).T)
        raise GaussianMRIError("Along a curve there are images along it and across it; turn the plane to one of these.")

    def render_many(self, planes: Sequence[ImagePlane]) -> list[NDArray[np.float32]]:
        """`render` for several planes; those across the curve in one kernel call."""
        local = np.linalg.inv(self.curve.straight_to_ras) @ np.stack([plane.ijk_to_ras for plane in planes])
        if np.abs(local[:, 2, :2]).max() > _LEVEL * np.abs(local[:, :3, :2]).max():
            return [self.render(plane) for plane in planes]
        poses = self.curve.frames(local[:, 2, 3])
        local[:, 2, 3] = 0.0
        curved = [
            ImagePlane(pose, plane.shape, thickness=plane.thickness)
            for pose, plane in zip(poses @ local, planes, strict=True)
        ]
        return self.field.render_many(curved, views=False)

    def image(self, *, slab: float = 0.0, projection: str = "mean") -> NDArray[np.float32]:
        """The straightened image, on `plane`.

        Args:
            slab: mm around the image that are shown in it; 0: thin.
            projection: mean, largest ("max") or smallest ("min") value in the slab.

        Returns:
            (rows, columns) float32 in the units of the input; NaN outside what was scanned.
        """
        return self.render(ImagePlane(self.plane.ijk_to_ras, self.plane.shape, thickness=slab), projection=projection)

    def slabs(self) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """The straightened volume on `grid` in parts; see `GaussianField.slabs`."""
        return rendered_slabs(self.render_many, self.grid)

    def volume(self) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """The straightened volume.

        Returns:
            Voxels (Z, rows, columns) float32 in the units of the input, NaN outside what was scanned, and their ijk_to_ras
            (4, 4) in the straight space. Columns run across, rows aside, slices along the curve.
        """
        voxels = np.empty(self.grid.shape, np.float32)
        for first, slab in self.slabs():
            voxels[first : first + len(slab)] = slab
        return voxels, self.grid.ijk_to_ras

    def planes(self, step: float) -> list[tuple[float, ImagePlane]]:
        """Planes of the patient across the curve, `width` wide and high, hung as by `ImagePlane.hung`.

        Args:
            step: mm along the curve between them; they are centred on it.

        Returns:
            mm from the curve's beginning, and the plane; from its beginning to its end.
        """
        return planes_across(self.curve, step, self.width, float(np.linalg.norm(self.grid.ijk_to_ras[:3, 0])))

    def _along(
        self, local: NDArray[np.float64], shape: tuple[int, int], thickness: float, projection: str
    ) -> NDArray[np.float32]:
        """An image (rows, columns) whose rows lie across the curve; `local` (4, 4) is its pose beside the straight curve."""
        rows, columns = shape
        frames = self.curve.frames(local[2, 3] + local[2, 1] * np.arange(rows))
        lines = frames @ local
        lines[:, :3, 1] = frames[:, :3, 2]
        lines[:, :3, 3] = frames[:, :3, 3] + frames[:, :3, :2] @ local[:2, 3]
        if projection == "mean":
            return self.field.render_matrices(lines, (1, columns), thickness=thickness)[:, 0]
        finest = finest_spacing(self.field) / 2
        count = int(np.clip(np.ceil(thickness / finest) + 1, 3, _MOST_SAMPLES)) | 1  # odd: the middle is one of them
        through = lines[:, :3, 2] * thickness
        lines[:, :3, 1], lines[:, :3, 2] = through / (count - 1), frames[:, :3, 2]
        lines[:, :3, 3] -= through / 2
        image = np.empty(shape, np.float32)
        at_once = max(1, volume.SLAB_PIXELS // (count * columns))
        for first in range(0, rows, at_once):
            samples = self.field.render_matrices(lines[first : first + at_once], (count, columns))
            found = (np.fmax if projection == "max" else np.fmin).reduce(samples, axis=1)
            image[first : first + at_once] = np.where(np.isnan(samples[:, count // 2]), np.nan, found)
        return image


def planes_across(curve: Curve, step: float, width: float, spacing: float) -> list[tuple[float, ImagePlane]]:
    """See `StraightField.planes`; spacing: mm between pixels."""
    check_spacing(step, "step between planes along a curve")
    check_spacing(width, "width across a curve")
    count = int(curve.length / step + 1e-9) + 1
    s = (curve.length - (count - 1) * step) / 2 + step * np.arange(count)
    return [
        (
            float(at),
            ImagePlane.hung(
                frame[:3, 3], frame[:3, 0], frame[:3, 1], size=(width, width), spacing=(spacing, spacing)
            ),
        )
        for at, frame in zip(s, curve.frames(s), strict=True)
    ]


def straighten(
    field: GaussianField,
    curve: Curve | ArrayLike,
    *,
    width: float = 60.0,
    spacing: float | None = None,
    across: ArrayLike | str | None = None,
    fixed: bool = False,
    turn: float = 0.0,
) -> StraightField:
    """A field along a curve, such as a spinal canal, a nerve or a vessel, as if the curve were straight.

    Args:
        field: what was fitted.
        curve: a `Curve`, or points (N, 3) RAS mm that a smooth one goes through.
        width, spacing: mm, of images and volumes; see `StraightField`.
        across, fixed, turn: how a curve through points has its image turned; see `Curve`.

    Raises:
        GaussianMRIError: a curve, width or spacing that makes no image, or too large a one.

    Example:
        >>> straight = gm.straighten(field, points, width=50)            # doctest: +SKIP
        >>> image = straight.image(slab=4)                               # doctest: +SKIP
        >>> voxels, ijk_to_ras = straight.volume()                       # doctest: +SKIP
        >>> straight.curve.to_curved(points_of_the_straight_space)       # doctest: +SKIP
    """
    if not isinstance(curve, Curve):
        curve = Curve(curve, across=across, fixed=fixed, turn=turn)
    elif across is not None or fixed or turn:
        raise GaussianMRIError("How a curve has its image turned is said when it is made: Curve(points, across=...).")
    return StraightField(field, curve, width=width, spacing=spacing)


__all__ = ["StraightField", "planes_across", "straighten"]
