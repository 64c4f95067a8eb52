"""Geometry of several slices: their normals and distances, and which of them belong together.

A series that follows a spine has blocks of parallel slices, each at the angle of its disc. What holds between the
slices of one block (a distance, a missing slice) means nothing between two blocks, so both are told apart here, once.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ..geometry.affine import slice_normal

Array = NDArray[np.float64]

#: Slices further than this part of a pixel off a straight row have no common columns. Headers round positions
#: to a few hundredths of a millimetre; a seventh of a pixel is below what an interpolated image shows.
TOLERANCE_PIXELS = 0.15
#: Between slices whose centres are further apart than this many times the usual distance nothing was scanned. One
#: missing slice (twice the distance) is still interpolated across, and so is the wedge between neighbouring blocks.
WIDE_GAP = 2.5


@dataclass(frozen=True, eq=False)
class SliceColumns:
    """Parallel slices seen as columns of pixels.

    Attributes:
        positions: (K,) mm along the normal from the first slice, increasing.
        ijk_to_ras: (4, 4); columns 0, 1, 3 of the first slice, column 2 the step along a column per mm of
            position (the normal, or sheared).
    """

    positions: Array
    ijk_to_ras: Array

    def volume_affine(self, start: float, step: float) -> Array:
        """`ijk_to_ras` of a volume whose sub-slices lie at start + step * k mm."""
        affine = self.ijk_to_ras.copy()
        affine[:3, 3] += start * affine[:3, 2]
        affine[:3, 2] *= step
        return affine


def columns_of(poses: Array, shape: tuple[int, ...], tolerance: float | None = None) -> SliceColumns | None:
    """The columns of slices that are parallel, in order and on one line; else None.

    Args:
        poses: (K, 4, 4), normals towards increasing k.
        shape: ends in rows, columns.
        tolerance: largest distance of any pixel from its column, mm; default: 0.15 pixels.
    """
    rows, columns = shape[-2:]
    if tolerance is None:
        tolerance = TOLERANCE_PIXELS * float(np.linalg.norm(poses[0, :3, :2], axis=0).min())
    turn = np.linalg.norm(poses[:, :3, 0] - poses[0, :3, 0], axis=1) * (columns - 1)
    turn += np.linalg.norm(poses[:, :3, 1] - poses[0, :3, 1], axis=1) * (rows - 1)
    origins = poses[:, :3, 3] - poses[0, :3, 3]
    positions = origins @ poses[0, :3, 2]
    affine = poses[0].copy()
    if len(positions) > 1:
        if np.diff(positions).min() <= tolerance:
            return None
        affine[:3, 2] = origins[-1] / positions[-1]
    off_line = np.linalg.norm(origins - positions[:, None] * affine[:3, 2], axis=1)
    return SliceColumns(positions, affine) if (turn + off_line).max() <= tolerance else None


def parallel_runs(poses: Array, shape: tuple[int, ...]) -> list[range]:
    """The longest runs of slices that are parallel, in order and on one line; together they are all slices."""
    total = len(poses)
    if columns_of(poses, shape) is not None:
        return [range(total)]
    runs, start = [], 0
    while start < total:
        stop = start + 1
        while stop < total and columns_of(poses[start : stop + 1], shape) is not None:
            stop += 1
        runs.append(range(start, stop))
        start = stop
    return runs


def connected_runs(poses: Array, shape: tuple[int, ...], spacing: float) -> list[range]:
    """Runs of slices without a gap of more than 2.5 times `spacing` (mm) between neighbours' centres."""
    middle = centers(poses, shape)
    steps = np.linalg.norm(np.diff(middle, axis=0), axis=1)
    cuts = [0, *(np.flatnonzero(steps > WIDE_GAP * spacing) + 1).tolist(), len(poses)]
    return [range(start, stop) for start, stop in pairwise(cuts)]


def usual_spacing(poses: Array, shape: tuple[int, ...]) -> float:
    """Median distance (mm) between neighbouring slices of one block; of all neighbours where no block has two slices.

    `poses` are (K, 4, 4) with K > 1; the sign of their normals does not matter.
    """
    upright = poses.copy()
    upright[:, :3, 2] = normals_towards_increasing_k(poses, shape)
    runs = parallel_runs(upright, shape)
    if max(map(len, runs)) < 2:
        return float(np.median(_distances(upright, shape)))
    within = [_distances(upright[run.start : run.stop], shape) for run in runs if len(run) > 1]
    return float(np.median(np.concatenate(within)))


def centers(poses: Array, shape: tuple[int, ...]) -> Array:
    """Centres (K, 3) of the slices, RAS mm."""
    middle = [(shape[-1] - 1) / 2, (shape[-2] - 1) / 2]
    result: Array = poses[:, :3, 3] + poses[:, :3, 0] * middle[0] + poses[:, :3, 1] * middle[1]
    return result


def normals_towards_increasing_k(poses: Array, shape: tuple[int, ...]) -> Array:
    """Unit normals (K, 3); all on the side of the walk from the first to the last slice."""
    normals = slice_normal(poses)
    normals = np.where((normals @ normals[0])[:, None] < 0, -normals, normals)
    middle = centers(poses, shape)
    walk = float((middle[-1] - middle[0]) @ normals.mean(axis=0))
    # Slices at one place (a single one, repeated acquisitions) say nothing: keep the side that was given.
    return -normals if walk < -1e-6 else normals


def _distances(poses: Array, shape: tuple[int, ...]) -> Array:
    """(K-1,) mm between neighbouring slices along the mean normal."""
    normal = normals_towards_increasing_k(poses, shape).mean(axis=0)
    distances: Array = np.abs(np.diff(centers(poses, shape) @ (normal / np.linalg.norm(normal))))
    return distances
