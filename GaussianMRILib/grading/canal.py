"""Area and anteroposterior diameter of the spinal canal on the plane of a disc, from a segmentation; no network.

On labels whose slices lie along the plane, or that are fine, outlines are interpolated between the slices. Of sagittal
slices only a few cross the canal: there the area is the integral of its front-to-back lengths, whose squares are a
parabola from side to side for every ellipse. Both are means over planes 3 mm of the normal, as an axial slice is.

Sources of the cut-offs: Schönström, Bolender and Spengler, Spine 10:806, 1985, and Bolender et al., J Bone Joint Surg Am
67:237, 1985 (100 mm²); Schönström and Hansson, Spine 13:385, 1988 (75 mm²: pressure between the roots begins to rise).
Schizas et al., Spine 35:1919, 2010: areas below cut-offs and the look of the dural sac name different patients.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import GaussianMRIError
from ..files import atomic_write
from ..geometry import check_affine, transform_points
from ..interruption import checkpoint
from ..stacks.volumes import stacked_along_coarsest_axis
from .disc import DiscGeometry, Points, Vector
from .labels import LEVELS

#: mm², areas of the dural sac below which the literature speaks of narrowing.
CUTOFFS = (100.0, 75.0)
CUTOFFS_TEXT = "Cut-offs of the literature: 100 mm² (Schönström 1985), 75 mm² (Schönström 1988). Not a diagnosis."
#: mm along the disc's normal over which a measure is a mean, and the planes of that mean.
THICKNESS, PLANES = 3.0, 7
#: Share of the area within which the true one lies where slices lie along the plane, or voxels are fine.
WITHIN = 0.03
#: The same by how many sagittal slices cross the canal, with fewer there is no number: for 95 % of sections from angular to
#: nearly rectangular (superellipses of exponents 1.7 to 2.5), wherever the slices lie.
WITHIN_BY_SLICES = {3: 0.15, 4: 0.10, 5: 0.07, 6: WITHIN}
_REACH = 75.0  # mm around the disc's centre in which the plane is looked at
_PIXEL = 0.25  # mm
_SIZE = 60.0  # mm of the plane around the middle of a section that is drawn
_ALONG = 12.0  # mm of the canal to either side of the plane whose direction is taken
_SMALLEST_PIECE = 2.0  # mm², of a canal in pieces; less is a speck
_BEYOND = 5.0  # mm along the normal to which the canal has to go on, and with which share of its area
_REST = 0.5
_STANDING = 0.5  # cosine between the normals of plane and slices, below which the slices stand on the plane


class NotMeasuredError(GaussianMRIError):
    """Why there is no number at a level."""


@dataclass(frozen=True)
class CanalMeasure:
    """The canal at one disc.

    Attributes:
        level: such as "L4/L5".
        area: mm², on the disc's plane; None where it was not measured.
        uncertainty: mm², by the coarseness of the label map alone; see `WITHIN` and `WITHIN_BY_SLICES`.
        diameter: mm from front to back through the middle of the section; None likewise.
        center: RAS mm, the middle of the section.
        problem: why there is no number.
        notes: what has to stand beside the number.
    """

    level: str
    area: float | None = None
    uncertainty: float | None = None
    diameter: float | None = None
    center: tuple[float, float, float] | None = None
    problem: str = ""
    notes: tuple[str, ...] = ()

    @property
    def below(self) -> float | None:
        """The smallest of `CUTOFFS` that the area is below, mm²."""
        return min((cut for cut in CUTOFFS if self.area is not None and self.area < cut), default=None)

    def _unsure(self) -> list[str]:
        """The cut-offs on whose other side the area may lie."""
        if self.area is None or self.uncertainty is None:
            return []
        return [f"{cut:.0f} mm² lies within ±" for cut in CUTOFFS if abs(self.area - cut) <= self.uncertainty]

    @property
    def text(self) -> str:
        """For people: "L4/L5 canal: 92.4 ± 3 mm², 9.1 mm front to back"."""
        if self.area is None or self.diameter is None:
            return f"{self.level} canal: not measured, {self.problem}"
        return f"{self.level} canal: {self.area:.1f} ± {self.uncertainty:.0f} mm², {self.diameter:.1f} mm front to back"

    def cells(self) -> dict[str, str]:
        """A row of a table, units in its names."""
        return {
            "level": self.level,
            "area (mm²)": "" if self.area is None else f"{self.area:.1f}",
            "± (mm²)": "" if self.uncertainty is None else f"{self.uncertainty:.0f}",
            "AP diameter (mm)": "" if self.diameter is None else f"{self.diameter:.1f}",
            "below cut-off (mm²)": "" if self.below is None else f"{self.below:.0f}",
            "remarks": "; ".join([*([self.problem] if self.problem else []), *self._unsure(), *self.notes]),
        }


class Canal:
    """A segmented canal.

    Args:
        mask: (K, J, I) bool: the dural sac, with the cord where that is a label of its own.
        ijk_to_ras: (4, 4), RAS mm.
        inside: whether RAS points (N, 3) were scanned; default: whether they lie in the label map.

    Raises:
        GaussianMRIError: a mask or matrix of another kind.
    """

    def __init__(
        self, mask: ArrayLike, ijk_to_ras: ArrayLike, inside: Callable[[Points], NDArray[np.bool_]] | None = None
    ) -> None:
        voxels = np.asarray(mask)
        if voxels.ndim != 3 or voxels.dtype != bool:
            raise GaussianMRIError(f"A canal is a mask (K, J, I), got {voxels.dtype} {voxels.shape}.")
        affine = check_affine(ijk_to_ras, what="the canal's ijk_to_ras")
        whole, self._whole_matrix = voxels.shape, affine
        self._inside = inside or (lambda points: _in_grid(points, whole, self._whole_matrix))
        voxels, affine = stacked_along_coarsest_axis(voxels, affine)
        self._voxels, self._matrix = _cropped(voxels, affine)
        self._inverse = np.linalg.inv(self._matrix)
        steps = np.linalg.norm(self._matrix[:3, :3], axis=0)
        self.spacing = float(steps[2])
        self._thick = bool(steps[2] > 1.2 * steps[:2].max())
        self._normal: Vector = self._inverse[2, :3] / np.linalg.norm(self._inverse[2, :3])
        self._distances: dict[int, NDArray[np.float32]] = {}

    def measure(self, disc: DiscGeometry) -> CanalMeasure:
        """Area and diameter on the plane of a disc; where there is none, the result says why."""
        try:
            return self._measure(disc)
        except NotMeasuredError as error:
            return CanalMeasure(disc.level, problem=str(error))

    def _measure(self, disc: DiscGeometry) -> CanalMeasure:
        middle = self._checked(disc)
        across = self._thick and abs(self._normal @ disc.normal) < _STANDING
        if across and abs(self._normal @ disc.left) < 0.9:
            raise NotMeasuredError(f"the slices of the label map are {self.spacing:.1f} mm apart from front to back")
        slope = self._slope(disc, middle)
        found = []
        for offset in np.linspace(-THICKNESS / 2, THICKNESS / 2, PLANES):
            checkpoint()
            found.append(self._of_lengths(disc, offset) if across else self._of_pixels(disc, offset, middle, slope))
        area, diameter, left, back = np.mean([values for values, _ in found], axis=0)
        slices = min(count for _, count in found)
        within = WITHIN_BY_SLICES[min(slices, max(WITHIN_BY_SLICES))] if across else WITHIN
        center = tuple((disc.center + left * disc.left + back * disc.back).tolist())
        notes = (f"{slices} slices {self.spacing:.1f} mm apart cross the canal",) if across else ()
        return CanalMeasure(disc.level, float(area), float(within * area), float(diameter), center, notes=notes)

    # ---- what has to be so -----------------------------------------------------------------------------------

    def _checked(self, disc: DiscGeometry) -> Vector:
        """The middle of the section, mm to the left and to the back, from a first look by the nearest voxels.

        Raises:
            NotMeasuredError: no canal, one in pieces, in front of the disc, cut by the edge, or that ends here.
        """
        from scipy import ndimage

        shown, places = self._nearest(disc, 0.0)
        if not shown.any():
            raise NotMeasuredError("there is no canal on the plane of the disc")
        parts, count = ndimage.label(shown, np.ones((3, 3)))
        sizes = np.bincount(parts.ravel())[1:] * (2 * _PIXEL) ** 2
        if count > 1 and np.sort(sizes)[-2] >= _SMALLEST_PIECE:
            raise NotMeasuredError(
                f"the canal is in {int((sizes >= _SMALLEST_PIECE).sum())} pieces on the plane of the disc "
                f"({', '.join(f'{size:.0f}' for size in np.sort(sizes)[::-1][:4])} mm²)"
            )
        here = places[shown]
        middle: Vector = here.mean(axis=0)
        if middle[1] <= 0:
            raise NotMeasuredError("the canal lies in front of the disc; the label map is turned round")
        axes = self._matrix[:3, :3]
        steps = [np.abs(axis @ axes).max() * sign * unit for axis, unit in
                 ((disc.left, np.array([1.0, 0])), (disc.back, np.array([0, 1.0]))) for sign in (-1, 1)]  # fmt: skip
        around = np.concatenate([here + step for step in steps])
        if not self._inside(_on_plane(disc, around, 0.0)).all():
            raise NotMeasuredError("the canal is cut by the edge of the scan")
        for offset in (-_BEYOND, _BEYOND):
            share = float(self._nearest(disc, offset)[0].sum() / shown.sum())
            if share < _REST:
                where = "below" if offset < 0 else "above"
                raise NotMeasuredError(
                    f"the segmented canal ends here: {_BEYOND:.0f} mm {where} the plane {share:.0%} of its area is left"
                )
        return middle

    def _nearest(self, disc: DiscGeometry, offset: float) -> tuple[NDArray[np.bool_], Points]:
        """Whether the nearest voxel is the canal's, and the places (rows, columns, 2), mm to the left and to the back."""
        line = np.arange(-_REACH, _REACH, 2 * _PIXEL)
        places = np.stack(np.meshgrid(line, line), axis=-1)
        index = np.rint(transform_points(self._inverse, _on_plane(disc, places, offset)))[..., ::-1].astype(np.int64)
        shape = np.array(self._voxels.shape)
        index = np.where(((index >= 0) & (index < shape)).all(axis=-1, keepdims=True), index, 0)  # the rim is empty
        return self._voxels[tuple(np.moveaxis(index, -1, 0))], places

    # ---- slices along the plane --------------------------------------------------------------------------------

    def _slope(self, disc: DiscGeometry, middle: Vector) -> Vector:
        """Rows and columns by which the canal moves from slice to slice around a plane."""
        place = float(self._inverse[2] @ [*_on_plane(disc, middle, 0.0), 1.0])
        near = [k for k in np.flatnonzero(self._voxels.any(axis=(1, 2))) if abs(k - place) * self.spacing <= _ALONG]
        centers = [np.argwhere(self._voxels[k]).mean(axis=0) for k in near]
        return np.polyfit(near, centers, 1)[0] if len(near) > 1 else np.zeros(2)

    def _of_pixels(self, disc: DiscGeometry, offset: float, middle: Vector, slope: Vector) -> tuple[Vector, int]:
        """Area, diameter and middle (left, back) of the section, from its pixels; 0."""
        line = np.arange(-_SIZE / 2, _SIZE / 2, _PIXEL)
        places = middle + np.stack(np.meshgrid(line, line), axis=-1).reshape(-1, 2)
        share = _covered(self._between(disc, offset, places, slope), _PIXEL)
        if not share.any():
            raise NotMeasuredError("the canal ends on the plane of the disc")
        left, back = share @ places / share.sum()
        fine = np.arange(back - _SIZE / 2, back + _SIZE / 2, _PIXEL / 5)
        depth = self._between(disc, offset, np.column_stack([np.full(len(fine), left), fine]), slope)
        return np.array([share.sum() * _PIXEL**2, _inside_share(depth).sum() * _PIXEL / 5, left, back]), 0

    def _between(self, disc: DiscGeometry, offset: float, places: Points, slope: Vector) -> Vector:
        """mm inside the outline at places (N, 2) of a plane, from both slices beside a place, moved along the canal.

        Source: shape-based interpolation, see `labels.resampling`; across the slices, what lies half way between two
        outlines that overlap in part would be smaller than both.
        """
        from scipy.ndimage import map_coordinates

        at, row, column = transform_points(self._inverse, _on_plane(disc, places, offset)).T[::-1]
        below = np.floor(at).astype(np.int64)
        result = np.zeros(len(places))
        for k in np.unique([below, below + 1]):
            part = np.flatnonzero((below == k) | (below == k - 1))
            away = k - at[part]
            moved = np.stack([row[part] + slope[0] * away, column[part] + slope[1] * away])
            depth = map_coordinates(self._depth(int(k)), moved, order=1, cval=-1.0)
            result[part] += (1 - np.abs(away)) * depth
        return result

    # ---- slices across the plane -------------------------------------------------------------------------------

    def _of_lengths(self, disc: DiscGeometry, offset: float) -> tuple[Vector, int]:
        """Area, diameter and middle (left, back) of the section, from its lengths in the slices that cross it; how many."""
        from scipy.ndimage import map_coordinates

        # Slice number of the plane's point at (left, back): start + slope . (left, back).
        start = float(self._inverse[2] @ [*_on_plane(disc, np.zeros(2), offset), 1.0])
        slope = self._inverse[2, :3] @ np.column_stack([disc.left, disc.back])
        apart = 1 / float(np.linalg.norm(slope))
        across, along = slope * apart, np.array([-slope[1], slope[0]]) * apart
        along *= np.sign(along[1])
        fine = np.arange(-_REACH, _REACH, 0.1)
        rows = []
        for k in np.flatnonzero(self._voxels.any(axis=(1, 2))):
            places = across * (k - start) * apart + fine[:, None] * along
            index = transform_points(self._inverse, _on_plane(disc, places, offset))
            depth = map_coordinates(self._depth(int(k)), index[:, [1, 0]].T, order=1, cval=-1.0)
            inside = _inside_share(depth)
            length = float(inside.sum() * 0.1)
            if length > 0:
                rows.append(((k - start) * apart, length, float((inside * (fine[1:] - 0.05)).sum() / inside.sum())))
        if len(rows) < min(WITHIN_BY_SLICES):
            raise NotMeasuredError(
                f"only {len(rows)} slices {self.spacing:.1f} mm apart cross the canal, too few; use labels of axial slices"
            )
        side, lengths, depths = np.array(rows).T
        area, middle, diameter = integrated(side, lengths)
        left, back = across * middle + along * float(np.interp(middle, side, depths))
        return np.array([area, diameter, left, back]), len(rows)

    def _depth(self, k: int) -> NDArray[np.float32]:
        """mm inside the outline in a slice."""
        if k not in self._distances:
            from scipy.ndimage import distance_transform_edt

            spacing = np.linalg.norm(self._matrix[:3, [1, 0]], axis=0)
            depth = np.full(self._voxels.shape[1:], -_REACH)
            if 0 <= k < len(self._voxels) and self._voxels[k].any():
                mask = self._voxels[k]
                depth = distance_transform_edt(mask, spacing) - distance_transform_edt(~mask, spacing)
            self._distances[k] = depth.astype(np.float32)
        return self._distances[k]


def integrated(side: Vector, lengths: Vector) -> tuple[float, float, float]:
    """Area of a section from its lengths along parallel lines, its middle across them, and its length there.

    The squares of the lengths are a parabola for an ellipse: one is fitted, and what it leaves is interpolated between the
    lines. The section ends where it vanishes, before the next line, which has no length.

    Args:
        side: (n,) mm, places of the lines, evenly apart, n >= 3.
        lengths: (n,) mm, above 0.
    """
    apart, center = float(side[1] - side[0]), float(side.mean())
    design = np.vander(side - center, 3)
    weights = 1 / np.maximum(lengths, 1.0)
    for _ in range(3):  # an error of a length counts twice the length in its square
        parabola = np.linalg.lstsq(design * weights[:, None], lengths**2 * weights, rcond=None)[0]
        weights = 1 / np.sqrt(np.clip(design @ parabola, 1.0, None))
    ends = side[0] - apart, side[-1] + apart
    fine = np.linspace(*ends, 4001)
    rest = np.interp(fine, [ends[0], *side, ends[1]], [0, *(lengths**2 - design @ parabola), 0])
    squares = np.polyval(parabola, fine - center) + rest
    inside = np.zeros(len(fine), bool)
    middle = int(np.argmin(np.abs(fine - center)))
    holes = np.flatnonzero(squares <= 0)
    low = holes[holes < middle].max(initial=-1) + 1
    high = holes[holes > middle].min(initial=len(fine))
    inside[low:high] = True
    shown = np.where(inside, np.sqrt(np.clip(squares, 0, None)), 0.0)
    step = fine[1] - fine[0]
    area = float(shown.sum() * step)
    mean = float((shown * fine).sum() * step / area)
    return area, mean, float(np.interp(mean, fine, shown))


def _covered(depth: NDArray[Any], pixel: float) -> Vector:
    """Share of each pixel inside an outline, from the signed distance of its middle."""
    return np.clip(0.5 + np.asarray(depth, np.float64) / pixel, 0.0, 1.0)


def _inside_share(depth: NDArray[Any]) -> Vector:
    """Share of each step between samples of a signed distance in which it is positive, crossed linearly."""
    one, other = depth[:-1].astype(np.float64), depth[1:].astype(np.float64)
    high, low = np.maximum(one, other), np.minimum(one, other)
    return np.where(low > 0, 1.0, np.where(high > 0, high / np.maximum(high - low, 1e-9), 0.0))


def _on_plane(disc: DiscGeometry, places: NDArray[np.float64], offset: float) -> Points:
    """RAS (..., 3) of places (..., 2), mm to the left and to the back on a plane `offset` mm above the disc's."""
    points: Points = disc.center + places @ np.stack([disc.left, disc.back]) + offset * disc.normal
    return points


def _in_grid(points: Points, shape: tuple[int, ...], matrix: NDArray[np.float64]) -> NDArray[np.bool_]:
    index = transform_points(np.linalg.inv(matrix), points)[:, ::-1]
    return np.asarray(((index >= -0.5) & (index <= np.array(shape) - 0.5)).all(axis=1))


def _cropped(
    mask: NDArray[np.bool_], matrix: NDArray[np.float64]
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """The part that holds the canal with a rim of air, and its matrix."""
    there = [np.flatnonzero(mask.any(axis=tuple(other for other in range(3) if other != axis))) for axis in range(3)]
    box = [slice(int(line[0]), int(line[-1]) + 1) if len(line) else slice(0, 1) for line in there]
    moved = matrix.copy()
    moved[:3, 3] = transform_points(matrix, [part.start - 1 for part in box][::-1])
    return np.pad(mask[tuple(box)], 1), moved


def measure_canal(
    canal: Canal,
    discs: Mapping[str, DiscGeometry],
    levels: Iterable[str] = LEVELS,
    *,
    problems: Mapping[str, str] | None = None,
    notes: Mapping[str, Iterable[str]] | None = None,
    progress: Callable[[float], object] | None = None,
) -> list[CanalMeasure]:
    """The canal at every disc.

    Args:
        discs: by level.
        levels: rows of the result, in order.
        problems: why there is no disc, by level.
        notes: what has to stand beside a measure, by level.
        progress: called with the fraction done.

    Returns:
        one row for each level, with numbers or with the reason why there are none.
    """
    rows = []
    wanted = list(levels)
    for number, level in enumerate(wanted, 1):
        checkpoint()
        said = tuple((notes or {}).get(level, ()))
        if level in discs:
            row = canal.measure(discs[level])
            rows.append(replace(row, notes=row.notes + said))
        else:
            rows.append(CanalMeasure(level, problem=(problems or {}).get(level, "there is no such disc"), notes=said))
        if progress is not None:
            progress(number / len(wanted))
    return rows


def write_measures(path: Path, measures: Iterable[CanalMeasure]) -> None:
    """Write a CSV table: a row for each level, units in the header.

    Raises:
        GaussianMRIError: the file cannot be written.
    """
    rows = [measure.cells() for measure in measures]
    with atomic_write(path) as temporary, open(temporary, "w", newline="", encoding="utf-8-sig") as file:
        writer = csv.DictWriter(file, list(CanalMeasure("").cells()))
        writer.writeheader()
        writer.writerows(rows)
