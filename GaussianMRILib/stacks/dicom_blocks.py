"""Blocks of slices at angles of their own within one DICOM series: which of them are one acquisition.

A technologist plans the axial slices of a lumbar spine disc by disc: three or four parallel slices each, in one series,
with one contrast. Readers that group by orientation make five series of it, whose intensities, noise and names then look
unrelated.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from .dicom_frames import Frame
from .kinds import same_contrast
from .poses import WIDE_GAP, centers, parallel_runs, usual_spacing

Group = tuple[list[str], list[Frame]]

#: Normals of one acquisition's blocks lie within this angle of each other; the planes of a localizer do not.
LARGEST_ANGLE_DEGREES = 45.0
#: Blocks that share more than this part of the shorter one's extent show one place twice.
_LARGEST_OVERLAP = 0.5
#: Normals that differ by less than this (0.1 degrees) are of one block.
_SAME_NORMAL = 2e-3


def merged_blocks(groups: list[Group]) -> list[Group]:
    """Join groups of parallel frames of one series, matrix and pixel spacing that are blocks of one acquisition.

    Joined are groups with one contrast whose normals lie within 45 degrees of each other and which lie one after the
    other along their mean normal. Groups that cover each other by more than half stay apart: they are one place seen
    twice (a straight and an angled set), fields of view side by side, or slices turned about one axis.

    Args:
        groups: labels and frames, the frames of each sorted along their normal.

    Returns:
        groups as given, or joined: block after block along the mean normal, each block's slices in order.
    """
    clusters: list[list[Group]] = []
    for group in groups:
        for cluster in clusters:
            if all(_fit_together(group, other) for other in cluster):
                cluster.append(group)
                break
        else:
            clusters.append([group])
    return [cluster[0] if len(cluster) == 1 else _joined(cluster) for cluster in clusters]


def _fit_together(one: Group, other: Group) -> bool:
    (labels, frames), (other_labels, other_frames) = one, other
    if labels != other_labels or not same_contrast(frames[0], other_frames[0]):
        return False
    cosine = float(_normal(frames) @ _normal(other_frames))
    if abs(cosine) < np.cos(np.radians(LARGEST_ANGLE_DEGREES)):
        return False
    mean = _normal(frames) + np.sign(cosine) * _normal(other_frames)
    mean /= np.linalg.norm(mean)
    return not any(
        overlap(a, b, mean) > _LARGEST_OVERLAP for a in _pieces(frames) for b in _pieces(other_frames)
    )


def _joined(cluster: list[Group]) -> Group:
    """One group of several, in the direction of the first one's normal."""
    first = _normal(cluster[0][1])
    upwards = [group if _normal(group) @ first > 0 else group[::-1] for _, group in cluster]
    normals = np.stack([_normal(group) for group in upwards])
    normals *= np.sign(normals @ first)[:, None]
    mean = normals.mean(axis=0)
    # Two blocks can have one angle, and a third one lie between them.
    pieces = [piece for group in upwards for piece in _pieces(group)]
    pieces.sort(key=lambda piece: float(np.mean([_center(f) @ mean for f in piece])))
    return cluster[0][0], [frame for piece in pieces for frame in piece]


def _pieces(frames: list[Frame]) -> list[list[Frame]]:
    """Parallel frames in order, cut where the distance is much wider than usual."""
    if len(frames) < 3:
        return [frames]
    places = np.array([f.position @ _normal(frames) for f in frames])
    steps = np.abs(np.diff(places))
    cuts = [0, *(np.flatnonzero(steps > WIDE_GAP * np.median(steps)) + 1).tolist(), len(frames)]
    return [frames[start:stop] for start, stop in pairwise(cuts)]


def overlap(one: list[Frame], other: list[Frame], direction: NDArray[np.float64]) -> float:
    """The part of the shorter one's extent along `direction` that both share."""
    ends = []
    for frames in (one, other):
        places = [float(_center(f) @ direction) for f in frames]
        usual = abs(places[-1] - places[0]) / (len(places) - 1) if len(places) > 1 else 1.0
        half = (frames[0].thickness or usual) / 2
        ends.append((min(places) - half, max(places) + half))
    (low, high), (other_low, other_high) = ends
    return (min(high, other_high) - max(low, other_low)) / min(high - low, other_high - other_low)


def _normal(frames: list[Frame]) -> NDArray[np.float64]:
    normal: NDArray[np.float64] = frames[0].ijk_to_ras[:3, 2]
    return normal


def _center(frame: Frame) -> NDArray[np.float64]:
    rows, columns = frame.shape
    middle: NDArray[np.float64] = frame.ijk_to_ras @ [(columns - 1) / 2, (rows - 1) / 2, 0, 1]
    return middle[:3]


def parallel_blocks(poses: NDArray[np.float64], shape: tuple[int, ...]) -> list[range]:
    """Runs of slices that people would call a block: cut where the angle changes, or at a wide gap that is off the line.

    `SliceStack.blocks` is stricter, since what it returns is interpolated: it also cuts where one slice is shifted.
    """
    normals = poses[:, :3, 2]
    turned = np.linalg.norm(np.cross(normals[1:], normals[:-1]), axis=1) >= _SAME_NORMAL
    steps = np.linalg.norm(np.diff(centers(poses, shape), axis=0), axis=1)
    wide = steps > WIDE_GAP * usual_spacing(poses, shape)
    off_line = np.zeros(len(poses) - 1, bool)
    off_line[[run.start - 1 for run in parallel_runs(poses, shape)[1:]]] = True
    cuts = [0, *(np.flatnonzero(turned | (wide & off_line)) + 1).tolist(), len(poses)]
    return [range(start, stop) for start, stop in pairwise(cuts)]


def tilt_degrees(normal: NDArray[np.float64]) -> float:
    """Angle between slices with a unit normal and the nearest plane of the body (sagittal, coronal, axial)."""
    return float(np.degrees(np.arccos(min(1.0, float(np.abs(normal).max())))))
