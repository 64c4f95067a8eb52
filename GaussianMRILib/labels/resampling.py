"""Labels between the slices that they were drawn on.

Source: shape-based interpolation (Raya and Udupa, IEEE Trans. Med. Imaging 9, 1990): the distances to a label's outline in
two neighbouring slices are interpolated, and the label is where the result is positive, so that an outline moves from one
slice to the next where the labels themselves would step. What has nothing to move to ends half-way, as its slice does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import GaussianMRIError
from ..geometry import ImagePlane, check_affine, transform_points
from ..stacks.volumes import stacked_along_coarsest_axis

#: Outlines between slices, or the label of the nearest voxel.
BOUNDARIES = ("smooth", "nearest")
#: mm from every outline, where there is none.
_FAR = 1e4
#: Pixels around a part of a label, within which its outline lies at any angle.
_AROUND = 2

Mask = NDArray[np.bool_]
Distances = NDArray[np.float32]


class _Levels(NamedTuple):
    """A label between its slices.

    Attributes:
        first: (3,) slice, row and column in the whole map, of the first one.
        signed: (n + 1, rows, columns) mm to the outline in each slice, positive inside.
        ends: (n, rows, columns) of the gaps between them, where the label or a hole in it has nothing to move to and ends
            half-way.
    """

    first: NDArray[np.int64]
    signed: Distances
    ends: Mask


class LabelResampler:
    """The label at any place of a label map.

    Slices lie across the map's coarsest axis. With smooth boundaries each label, and the background, has a signed distance
    everywhere, and a place has the label whose distance is largest. A label that is in one slice only is as thick there as
    the slices are apart.

    Args:
        labels: (K, J, I) whole numbers; 0 is the background.
        ijk_to_ras: (4, 4), mm.
        boundaries: one of `BOUNDARIES`.
        progress: called with the fraction that is done; may raise to end the work.

    Raises:
        GaussianMRIError: labels of another kind or shape, a matrix that no voxels can have, unknown boundaries.
    """

    def __init__(
        self,
        labels: ArrayLike,
        ijk_to_ras: ArrayLike,
        *,
        boundaries: str = "smooth",
        progress: Callable[[float], object] | None = None,
    ) -> None:
        array = np.asarray(labels)
        if array.ndim != 3 or not array.size or array.dtype.kind not in "biu":
            raise GaussianMRIError(f"Labels must be whole numbers (K, J, I), got {array.dtype} {array.shape}.")
        if boundaries not in BOUNDARIES:
            raise GaussianMRIError(f"There are no '{boundaries}' boundaries; choose one of {', '.join(BOUNDARIES)}.")
        affine = check_affine(ijk_to_ras, what="the label map's ijk_to_ras")
        self._labels, self._affine = stacked_along_coarsest_axis(array, affine)
        self._levels: dict[int, _Levels] = {}
        if boundaries == "smooth":
            values = np.unique(self._labels)
            spacing = np.linalg.norm(self._affine[:3, [1, 0]], axis=0)
            for number, value in enumerate(values):
                if value or len(values) > 1:
                    self._levels[int(value)] = _levels(self._labels == value, spacing, beyond=value == 0)
                if progress is not None:
                    progress((number + 1) / len(values))
        self._smooth = boundaries == "smooth"

    def render(self, plane: ImagePlane) -> NDArray[np.generic]:
        """Labels (rows, columns) on the middle of a plane, of the map's type; 0 outside the map."""
        places = transform_points(np.linalg.inv(self._affine), plane.points().reshape(-1, 3))[:, ::-1]
        found = np.zeros(len(places), self._labels.dtype)
        shape = np.array(self._labels.shape)
        # Beyond half a voxel around the map there are no labels.
        near = np.flatnonzero(np.all((places > -0.5) & (places < shape - 0.5), axis=1))
        if self._smooth:
            found[near] = self._winners(places[near])
        else:
            index = np.clip(np.rint(places[near]).astype(np.int64), 0, shape - 1)
            found[near] = self._labels[tuple(index.T)]
        return found.reshape(plane.shape)

    def _winners(self, places: NDArray[np.float64]) -> NDArray[np.generic]:
        best = np.full(len(places), -np.inf, np.float32)
        found = np.zeros(len(places), self._labels.dtype)
        for value, levels in self._levels.items():
            beyond = _FAR if value == 0 else -_FAR
            distance = _distance(levels, places, beyond)
            wins = distance > best if value else distance >= best
            best[wins], found[wins] = distance[wins], value
        return found


def _distance(levels: _Levels, places: NDArray[np.float64], beyond: float) -> Distances:
    """mm inside the outline (P,), at slices, rows and columns (P, 3) of the map; `beyond` away from the label."""
    from scipy.ndimage import map_coordinates

    here = places - levels.first
    result = np.full(len(places), beyond, np.float32)
    near = np.flatnonzero(np.all((here > 0) & (here < np.subtract(levels.signed.shape, 1)), axis=1))
    here = here[near]
    below = np.floor(here[:, 0])
    share = (here[:, 0] - below).astype(np.float32)
    index = np.rint(here).astype(np.int64)
    share = np.where(levels.ends[below.astype(np.int64), index[:, 1], index[:, 2]], np.rint(share), share)
    values = (
        map_coordinates(levels.signed, [below + n, here[:, 1], here[:, 2]], order=1, output=np.float32) for n in (0, 1)
    )
    result[near] = (1 - share) * next(values) + share * next(values)
    return result


def _levels(mask: Mask, spacing: NDArray[np.float64], beyond: bool) -> _Levels:
    """Of one label.

    Args:
        mask: (K, J, I).
        spacing: mm between rows, between columns.
        beyond: whether everything around the map is of this label: the background.
    """
    edges = [[0, n] for n in mask.shape]
    if not beyond:
        for axis in range(3):
            there = np.flatnonzero(mask.any(axis=tuple(other for other in range(3) if other != axis)))
            edges[axis] = [int(there[0]), int(there[-1]) + 1]
    part = mask[tuple(slice(*edge) for edge in edges)]
    padded = np.pad(part, 1, constant_values=beyond)
    signed = np.stack([_signed_distance(image, spacing) for image in padded])
    ends = np.zeros((len(signed) - 1, *signed.shape[1:]), bool)
    for end, below, above in zip(ends, padded[:-1], padded[1:], strict=True):
        for one, other in ((below, above), (~below, ~above)):
            end |= (_alone(one, other) & ~other) | (_alone(other, one) & ~one)
    return _Levels(np.array([edge[0] for edge in edges]) - 1, signed, ends)


def _alone(here: Mask, there: Mask) -> Mask:
    """Around the connected parts of one slice that overlap nothing in the other."""
    from scipy.ndimage import binary_dilation, label

    parts, count = label(here)
    lone = np.ones(count + 1, bool)
    lone[0] = False
    lone[np.unique(parts[there])] = False
    around: Mask = binary_dilation(lone[parts], iterations=_AROUND) if lone.any() else np.zeros_like(here)
    return around


def _signed_distance(mask: Mask, spacing: NDArray[np.float64]) -> Distances:
    """mm to the nearest pixel of the other kind, positive inside; zero lies midway between two neighbours."""
    from scipy.ndimage import distance_transform_edt

    if mask.all() or not mask.any():
        return np.full(mask.shape, _FAR if mask.all() else -_FAR, np.float32)
    inside = distance_transform_edt(mask, sampling=spacing)
    outside = distance_transform_edt(~mask, sampling=spacing)
    return (inside - outside).astype(np.float32)
