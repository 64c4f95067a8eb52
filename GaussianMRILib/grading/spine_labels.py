"""Label maps of TotalSpineSeg and SPINEPS: their discs, vertebrae and canal, and whether that can be so."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import GaussianMRIError
from ..geometry import transform_points
from ..interruption import checkpoint
from ..labels import LabelFile, read_labels
from .disc import DiscGeometry
from .disc_segment import disc_from_segment
from .label_schemes import EXTRA, SPINE, SPINEPS_VERTEBRAE, Scheme, scheme_of
from .labels import LEVELS

if TYPE_CHECKING:
    from pathlib import Path

    from ..stacks import SliceStack

_SHARE = 0.2  # of a label, from which on a part of it is no speck
_APART = 15.0  # mm along the body between two vertebrae, or discs, of one label


@dataclass(frozen=True, eq=False)
class SpineLabels:
    """A label map with its scheme.

    Attributes:
        labels: the map.
        scheme: what its values mean.
        name: of the file or node, for messages.
        places: RAS mm of the middle of each label that the scheme names, by value.
        double: names of vertebrae and discs that are there twice.

    Raises:
        GaussianMRIError: left and right are exchanged in it.
    """

    labels: LabelFile
    scheme: Scheme
    name: str
    places: dict[int, NDArray[np.float64]] = field(init=False)
    double: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        from scipy import ndimage

        voxels, matrix = self.labels.voxels, self.labels.ijk_to_ras
        named = {value: name for name, value in {**self.scheme.vertebrae, **self.scheme.discs}.items()}
        wanted = {*named, *self.scheme.canal, *(value for pair in self.scheme.sides for value in pair)}
        places, double = {}, []
        for value, box in enumerate(ndimage.find_objects(voxels.astype(np.int32)), 1):
            if box is None or value not in wanted:
                continue
            checkpoint()
            mask = voxels[box] == value
            start = np.array([part.start for part in box])
            places[value] = transform_points(matrix, (np.argwhere(mask).mean(axis=0) + start)[::-1])
            if value in named and _twice(mask, matrix):
                double.append(named[value])
        object.__setattr__(self, "places", places)
        object.__setattr__(self, "double", tuple(double))
        for left, right in self.scheme.sides:
            if left in places and right in places and places[left][0] >= places[right][0]:
                raise GaussianMRIError(
                    f"Left and right are exchanged in {self.name}: its {left} (left) lies to the patient's right of its "
                    f"{right} (right). Take the label map as the program wrote it."
                )

    @property
    def there(self) -> list[str]:
        """Vertebrae in the map, from the head down."""
        return [name for name in SPINE if self.scheme.vertebrae.get(name) in self.places]

    def anomalies(self) -> list[str]:
        """What is unusual about the vertebrae: more or fewer than most people have, the same one twice."""
        there, said = self.there, []
        if extra := [name for name in EXTRA if name in there]:
            said.append(f"{self.name} has {', '.join(extra)}: a transitional vertebra, levels may be named otherwise")
        if missing := self._missing():
            said.append(f"{self.name} lacks {', '.join(missing)} between {there[0]} and {there[-1]}")
        said += [f"{self.name} has {name} twice" for name in self.double]
        return said

    def _missing(self) -> list[str]:
        there = self.there
        if len(there) < 2:
            return []
        between = SPINE[SPINE.index(there[0]) : SPINE.index(there[-1])]
        return [name for name in between if name not in there and name not in EXTRA]

    def problem(self, level: str) -> str:
        """Why a level cannot be taken from this map; "" where it can.

        No disc gets a name that its neighbours contradict, and none gets another name than the map's.
        """
        upper, lower = level.split("/")
        there, disc = self.there, self.scheme.discs.get(level)
        between = [name for name in EXTRA if name in there and _order(upper) < _order(name) < _order(lower)]
        if self._counted():
            return f"the vertebrae of {self.name} are counted from the top, not named; run SPINEPS with -model_labeling"
        if between:
            return f"{' and '.join(between)} lies between {upper} and {lower} in {self.name}, so that there is no {level}"
        for name in (level, upper, lower):
            if name in self.double:
                return f"{name} is twice in {self.name}"
        gaps = [name for name in (upper, lower) if name in self._missing()]
        if gaps:
            return f"{self.name} has no {' and no '.join(gaps)}, though vertebrae above and below"
        if disc not in self.places:
            if len(there) > 1 and not (_order(there[0]) <= _order(upper) and _order(lower) <= _order(there[-1])):
                return f"{level} is not in the field of view of {self.name}, which has {there[0]} to {there[-1]}"
            held = ", ".join(name for name, value in self.scheme.discs.items() if value in self.places) or "none"
            return f"{self.name} ({self.scheme.name}) has no disc {level}; its discs: {held}"
        place = self.places[disc]
        for name, sign in ((upper, 1), (lower, -1)):
            if name in there and sign * (self.places[self.scheme.vertebrae[name]] - place)[2] <= 0:
                side = "above" if sign > 0 else "below"
                return f"{name} does not lie {side} the disc {level} in {self.name}, which is upside down or mixed up"
        return ""

    def _counted(self) -> bool:
        """Whether vertebrae are numbered from 1 at the top and do not reach the numbers of lumbar ones."""
        there = self.there
        return self.scheme.name == SPINEPS_VERTEBRAE.name and there[:1] == ["C1"] and not any(n[0] == "L" for n in there)

    def discs(
        self, levels: Iterable[str] = LEVELS, sagittal: SliceStack | None = None
    ) -> tuple[dict[str, DiscGeometry], dict[str, str]]:
        """All discs at once.

        Args:
            levels: those of interest.
            sagittal: the series whose slices cross the discs; see `disc_from_segment`.

        Returns:
            discs by level, and why there is none, by level.
        """
        found, problems = {}, {}
        for level in levels:
            checkpoint()
            if reason := self.problem(level):
                problems[level] = reason
                continue
            try:
                disc = disc_from_segment(
                    self.labels.voxels, self.labels.ijk_to_ras, level, sagittal, self.scheme.discs[level]
                )
            except GaussianMRIError as error:
                problems[level] = f"{self.name}: {error}"
                continue
            found[level] = replace(disc, file=self.name)
        return found, problems

    def disc_points(self, levels: Iterable[str] = LEVELS) -> NDArray[np.float64]:
        """RAS mm (N, 3) of voxels of the discs of some levels, every n-th where there are thousands."""
        values = [self.scheme.discs[level] for level in levels if level in self.scheme.discs]
        there = np.argwhere(np.isin(self.labels.voxels, values))[:, ::-1].astype(np.float64)
        return transform_points(self.labels.ijk_to_ras, there[:: max(1, len(there) // 4000)])

    def remarks(self, level: str) -> list[str]:
        """What has to stand beside anything that is said of a level of this map."""
        said = []
        if lacking := [name for name in level.split("/") if name not in self.there]:
            said.append(f"{' and '.join(lacking)} not in the label map, so that the name {level} is not checked")
        if extra := [name for name in EXTRA if name in self.there]:
            said.append(f"{', '.join(extra)} in the label map: levels may be named otherwise")
        value = self.scheme.discs.get(level)
        if value in self.places:
            axis = 2 - int(np.abs(self.labels.ijk_to_ras[2, :3]).argmax())
            ends = self.labels.voxels.take([0, -1], axis=axis)
            if (ends == value).any():
                said.append("the disc reaches the edge of the label map")
        return said

    def says(self, disc: DiscGeometry) -> str:
        """How the level of a disc of another source disagrees with this map; "" where it does not."""
        near = {
            name: float(np.linalg.norm(self.places[value] - disc.center))
            for name, value in self.scheme.discs.items()
            if value in self.places
        }
        if not near:
            return ""
        nearest = min(near, key=lambda name: near[name])
        if nearest == disc.level:
            return ""
        return f"{disc.named} lies at {nearest} of {self.name}, {near[nearest]:.0f} mm from the middle of that disc"


def _order(name: str) -> int:
    return SPINE.index(name)


def _twice(mask: NDArray[np.bool_], matrix: NDArray[np.float64]) -> bool:
    """Whether a label has two large parts one above the other; an arch may be apart from its body, behind it."""
    from scipy import ndimage

    parts, count = ndimage.label(mask, np.ones((3, 3, 3)))
    sizes = np.bincount(parts.ravel())[1:]
    large = [number + 1 for number in range(count) if sizes[number] >= _SHARE * sizes.sum()]
    middles = np.array([(matrix[:3, :3] @ np.argwhere(parts == number).mean(axis=0)[::-1]) for number in large])
    for n, one in enumerate(middles):
        for other in middles[n + 1 :]:
            _, behind, above = np.abs(one - other)
            if above > _APART and above > behind:
                return True
    return False


def spine_labels(labels: LabelFile, name: str) -> SpineLabels:
    """A label map with what its values mean.

    Raises:
        GaussianMRIError: nothing says what they mean, or left and right are exchanged.
    """
    scheme = scheme_of(labels)
    if scheme is None:
        values = [int(value) for value in np.unique(labels.voxels) if value][:20]
        raise GaussianMRIError(
            f"{name} is no label map of TotalSpineSeg or SPINEPS: nothing says what its values {values} are. Give a file of "
            "these, or a .seg.nrrd with names such as disc_L4_L5, vertebrae_L4 and spinal_canal."
        )
    return SpineLabels(labels, scheme, name)


def read_spine_labels(path: Path) -> SpineLabels:
    """Read a label map of TotalSpineSeg or SPINEPS.

    Raises:
        GaussianMRIError: see `read_labels` and `spine_labels`.
    """
    return spine_labels(read_labels(path), str(path))


def canal_mask(labels: LabelFile, name: str) -> NDArray[np.bool_]:
    """The canal in a label map, the cord included; a map of one value is one of the canal.

    Raises:
        GaussianMRIError: nothing in it is a canal.
    """
    scheme = scheme_of(labels)
    values: Any = np.array(scheme.canal if scheme else [])
    there = [int(value) for value in np.unique(labels.voxels) if value]
    if scheme is None and len(there) == 1:
        values = np.array(there)
    mask: NDArray[np.bool_] = np.isin(labels.voxels, values)
    if not mask.any():
        raise GaussianMRIError(
            f"{name} has no spinal canal ({scheme.name if scheme else 'values'}: {there[:20]}). Give a file that has it; of "
            "SPINEPS that is the one with seg-spine in its name."
        )
    return mask


def check_same_grid(first: LabelFile, second: LabelFile, names: tuple[str, str]) -> None:
    """Refuse two label maps of one run that lie on different grids.

    Raises:
        GaussianMRIError: they do.
    """
    corners = [_corners(labels) for labels in (first, second)]
    if first.voxels.shape != second.voxels.shape or np.abs(corners[0] - corners[1]).max() > 0.5:
        raise GaussianMRIError(
            f"{names[0]} and {names[1]} lie on different grids ({first.voxels.shape}, {second.voxels.shape} voxels), though "
            "they should be of one run. Give the two files that were written together."
        )


def check_on_scan(labels: LabelFile, stacks: Sequence[SliceStack], name: str) -> None:
    """Refuse a label map that does not lie on a scan, or lies on it as in a mirror.

    A label map in whose voxels left and right were exchanged, and whose grid was not, cannot be told from the scan's place.

    Raises:
        GaussianMRIError: it is of another frame of reference, or mirrored.
    """
    there = np.argwhere(labels.voxels)[:, ::-1]
    if not len(there):
        raise GaussianMRIError(f"{name} is empty. Give a label map with labels in it.")
    points = transform_points(labels.ijk_to_ras, there[:: max(1, len(there) // 4000)].astype(np.float64))
    corners = _corners(labels)
    grids = [(stack, stack.grid()) for stack in stacks]
    boxes = [(stack.name, _box(grid, stack.pixels.shape)) for stack, grid in grids if grid is not None]
    if any(_same_corners(corners, box) for _, box in boxes):
        return
    for scan, box in boxes:
        for axes, words in (([-1, 1, 1], "left and right"), ([-1, -1, 1], "LPS and RAS"), ([1, -1, 1], "front and back")):
            if _same_corners(corners * axes, box):
                raise GaussianMRIError(
                    f"{name} lies on {scan} as in a mirror: {words} are exchanged. Write it again with the "
                    "orientation of the scan."
                )
    inside = np.any([stack.inside(points) for stack in stacks], axis=0)
    if inside.mean() < 0.9:
        raise GaussianMRIError(
            f"{1 - inside.mean():.0%} of {name} lies outside the scan: it is of another scan or frame of reference. Give "
            "the label map that was made from this scan."
        )


def lies_on_grid(labels: LabelFile, stack: SliceStack) -> bool:
    """Whether a label map has the grid of a series, wherever its first voxel is."""
    grid = stack.grid()
    return grid is not None and _same_corners(_corners(labels), _box(grid, stack.pixels.shape))


def _corners(labels: LabelFile) -> NDArray[np.float64]:
    return _box(labels.ijk_to_ras, labels.voxels.shape)


def _box(matrix: NDArray[np.float64], shape: Sequence[int]) -> NDArray[np.float64]:
    """Middles (8, 3) of the outermost voxels."""
    ends = [[0, size - 1] for size in reversed(shape)]
    return transform_points(matrix, np.stack(np.meshgrid(*ends, indexing="ij"), axis=-1).reshape(-1, 3).astype(np.float64))


def _same_corners(one: NDArray[np.float64], other: NDArray[np.float64]) -> bool:
    """Whether two boxes are one, wherever their first corner is."""
    distances = np.linalg.norm(one[:, None] - other[None], axis=2)
    return bool(distances.min(axis=1).max() < 0.5 and distances.min(axis=0).max() < 0.5)
