"""DICOM images as slice stacks: grouped by geometry and contrast, sorted by position."""

from __future__ import annotations

import functools
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import GaussianMRIError
from .dicom_blocks import merged_blocks, parallel_blocks, tilt_degrees
from .dicom_frames import Frame, NotAnImage, frames, read_header
from .dicom_pixels import stored_values
from .dicom_source import source_of
from .poses import normals_towards_increasing_k
from .slice_stack import SliceStack

logger = logging.getLogger("GaussianMRI")

Progress = Callable[[float, str], None]

#: Slices whose axes differ by less belong to one orientation (0.1 degrees).
_SAME_ORIENTATION = 2e-3
#: Images closer than this along the normal (mm) are at one position.
_SAME_POSITION_MM = 0.01
#: A stack whose slices shift by more than this per slice, against the normal, is worth a remark.
_NOTABLE_TILT_DEGREES = 1.0


def read_dicom(
    paths: Sequence[Path],
    thickness: float | None = None,
    progress: Progress | None = None,
    localizers: bool = False,
) -> list[SliceStack]:
    """Stacks in DICOM files; see `read_stacks`. Files that hold no image in space are left out, with a log
    line.

    Raises:
        GaussianMRIError: a file is damaged or its geometry absurd, or no file holds an image in space.
    """
    images = _read_headers(paths, progress)
    if any(not f.localizer for f in images) and not localizers:
        dropped = {f.series_uid for f in images if f.localizer}
        if dropped:
            logger.info("Left out %d localiser series; ask for localizers to read them.", len(dropped))
        images = [f for f in images if not f.localizer]
    groups = _groups(images)
    names = _names(groups)
    load = functools.lru_cache(maxsize=2)(stored_values)
    stacks: list[SliceStack] = []
    problems: list[str] = []
    done, total = 0, sum(len(group) for _, group in groups)
    for name, (_, group) in zip(names, groups, strict=True):
        if len(group) == 1 and not (thickness or group[0].thickness or group[0].spacing_between):
            problems.append(
                f"{group[0].path} is a single slice without a SliceThickness. Give its thickness in mm."
            )
            continue
        pixels = np.empty((len(group), *group[0].shape), np.float32)
        for k, frame in enumerate(group):
            pixels[k] = _values(frame, load(frame.path))
            done += 1
            if progress:
                progress(0.5 + 0.5 * done / total, f"reading {name}")
        stacks.append(_stack(name, group, pixels, thickness))
    if not stacks:
        raise GaussianMRIError(problems[0])
    for problem in problems:
        logger.warning("Left out: %s", problem)
    return stacks


def _read_headers(paths: Sequence[Path], progress: Progress | None) -> list[Frame]:
    """Every image in `paths`, each once."""
    images: list[Frame] = []
    seen: set[tuple[object, ...]] = set()
    reasons: list[str] = []
    for number, path in enumerate(paths):
        try:
            found = frames(path, read_header(path))
        except NotAnImage as reason:
            reasons.append(f"{path}: {reason}")
            logger.info("Left out %s: %s.", path, reason)
            continue
        new = [f for f in found if not f.instance_uid or _identity(f) not in seen]
        if len(new) < len(found):
            logger.info("Left out %s: the same image was read before.", path)
        seen.update(_identity(f) for f in new)
        images += new
        if progress:
            progress(0.5 * (number + 1) / len(paths), "reading headers")
    if not images:
        raise GaussianMRIError(
            f"None of the {len(paths)} DICOM files is an image with a position in space ({reasons[0]}). "
            "Give the folder of an MR or CT series."
        )
    return images


def _identity(frame: Frame) -> tuple[object, ...]:
    """What makes two images the same one. Some anonymisers give every slice one UID, so its place counts
    too."""
    return (frame.instance_uid, frame.index, *frame.position.round(3).tolist())


# ---- grouping


def _groups(images: Iterable[Frame]) -> list[tuple[list[str], list[Frame]]]:
    """Images by series, matrix, orientation and contrast; each group sorted by position, with its labels.

    Blocks of slices at a few angles, as they are planned along a spine, are one group (see `merged_blocks`).
    """
    by_grid: dict[tuple[object, ...], list[Frame]] = {}
    for frame in images:
        spacing = np.linalg.norm(frame.ijk_to_ras[:3, :2], axis=0).round(4)
        key = (frame.series_uid, frame.frame_of_reference, frame.shape, *spacing.tolist())
        by_grid.setdefault(key, []).append(frame)
    groups: list[tuple[list[str], list[Frame]]] = []
    for same_grid in by_grid.values():
        found: list[tuple[list[str], list[Frame]]] = []
        for same_way in _by_orientation(same_grid):
            found += _by_contrast(_sorted(same_way), [])
        groups += merged_blocks(found)
    groups.sort(
        key=lambda g: (g[1][0].series_number, g[1][0].series_uid, min(f.instance_number for f in g[1]))
    )
    return groups


def _by_orientation(images: list[Frame]) -> list[list[Frame]]:
    clusters: list[list[Frame]] = []
    for frame in images:
        for cluster in clusters:
            if np.max(np.abs(frame.orientation - cluster[0].orientation)) < _SAME_ORIENTATION:
                cluster.append(frame)
                break
        else:
            clusters.append([frame])
    return clusters


def _sorted(images: list[Frame]) -> list[Frame]:
    normal = images[0].ijk_to_ras[:3, 2]
    return sorted(images, key=lambda f: (float(f.position @ normal), f.instance_number, f.index))


def _by_contrast(images: list[Frame], labels: list[str]) -> list[tuple[list[str], list[Frame]]]:
    """Split images that repeat positions (echoes, b-values, time points) so that each stack has a position
    once.

    An attribute is used when it differs between images at one position and has no more values than a position
    has images; one that counts up with the slices (an acquisition number, a trigger delay) tells nothing
    apart.
    """
    normal = images[0].ijk_to_ras[:3, 2]
    steps = np.diff([float(f.position @ normal) for f in images])
    place = np.concatenate([[0], np.cumsum(steps > _SAME_POSITION_MM)])
    repeats = max(Counter(place.tolist()).values())
    if repeats == 1:
        return [(labels, images)]
    candidates = dict.fromkeys(label for f in images for label in f.contrast)
    for label in [*candidates, "offset"]:
        values = [_in_plane_offset(f) if label == "offset" else f.contrast.get(label) for f in images]
        distinct = list(dict.fromkeys(values))
        pairs = len(set(zip(place.tolist(), values, strict=True)))
        if 2 <= len(distinct) <= repeats and pairs > place[-1] + 1:
            distinct.sort(key=lambda v: (v is None, isinstance(v, str), v))
            parts = [(v, [f for f, own in zip(images, values, strict=True) if own == v]) for v in distinct]
            return [
                group
                for value, part in parts
                for group in _by_contrast(part, [*labels, f"{label} {_shown(value)}"])
            ]
    # Nothing in the headers tells the repeats apart: take them in the order of acquisition.
    ordered: dict[int, list[Frame]] = {}
    for p, frame in sorted(
        zip(place.tolist(), images, strict=True), key=lambda x: (x[0], x[1].instance_number)
    ):
        ordered.setdefault(p, []).append(frame)
    return [
        ([*labels, f"repeat {n + 1}"], [same[n] for same in ordered.values() if n < len(same)])
        for n in range(repeats)
    ]


def _in_plane_offset(frame: Frame) -> tuple[float, ...]:
    """Where the image lies within its plane, to half a millimetre: several fields of view side by side."""
    axes = frame.orientation.reshape(2, 3)
    return tuple(float(v) for v in np.round(axes @ frame.position * 2))


def _shown(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _names(groups: Sequence[tuple[list[str], list[Frame]]]) -> list[str]:
    """A name for each group: the series' description, what tells it from the series' other groups, a
    number."""
    per_series = Counter(group[0].series_uid for _, group in groups)
    names: list[str] = []
    for labels, group in groups:
        parts = [group[0].description or f"series {group[0].series_number}"]
        if per_series[group[0].series_uid] > 1:
            parts.append(("sagittal", "coronal", "axial")[int(np.argmax(np.abs(group[0].ijk_to_ras[:3, 2])))])
        names.append(", ".join(parts + labels))
    count: Counter[str] = Counter()
    for n, name in enumerate(names):
        count[name] += 1
        if names.count(name) > 1 and count[name] > 1:
            names[n] = f"{name} ({count[name]})"
    return names


# ---- one stack


def _values(frame: Frame, stored: NDArray[np.generic]) -> NDArray[np.float64]:
    """Pixel values of one image in the units of the file."""
    if frame.index >= len(stored):
        raise GaussianMRIError(
            f"{frame.path} has no frame {frame.index + 1}; the file is truncated. Copy it again."
        )
    values: NDArray[np.float64] = stored[frame.index].astype(np.float64)
    if frame.inverted:
        values = frame.full_scale - values
    return values * frame.slope + frame.intercept


def _stack(name: str, group: list[Frame], pixels: NDArray[np.float32], thickness: float | None) -> SliceStack:
    poses = np.stack([f.ijk_to_ras for f in group])
    notes: list[str] = []
    known = [f.thickness for f in group if f.thickness]
    own: float | NDArray[np.float64] | None = thickness
    if own is None and known:
        own = np.asarray([f.thickness or float(np.median(known)) for f in group])
    elif own is None and len(group) == 1:
        own = group[0].spacing_between
        notes.append("no SliceThickness, Spacing Between Slices taken for it")
    elif own is None:
        notes.append("no SliceThickness, the distance between slices taken for it")
    notes += _remarks(poses, group[0].shape)
    if any(f.inverted for f in group):
        notes.append("MONOCHROME1, inverted so that high is bright")
    if np.ptp(pixels) == 0:
        notes.append("every pixel has the same value")
    stack = SliceStack.from_array(
        pixels, poses, own, group[0].frame_of_reference, name, source_of(group), notes
    )
    for note in notes:
        logger.info("%s: %s.", name, note)
    return stack


def _remarks(poses: NDArray[np.float64], shape: tuple[int, int]) -> list[str]:
    """What is out of the ordinary in the positions: one slice, blocks at angles, and what each block has."""
    if len(poses) == 1:
        return ["one slice"]
    poses = poses.copy()
    poses[:, :3, 2] = normals_towards_increasing_k(poses, shape)
    blocks = parallel_blocks(poses, shape)
    if len(blocks) == 1:
        return _remarks_on_block(poses, 0)
    angles = [tilt_degrees(poses[block.start, :3, 2]) for block in blocks]
    notes = [f"{len(blocks)} blocks, {min(angles):.1f} to {max(angles):.1f} degrees"]
    for block in blocks:
        if len(block) > 1:
            notes += _remarks_on_block(poses[block.start : block.stop], block.start)
    return notes


def _remarks_on_block(poses: NDArray[np.float64], first: int) -> list[str]:
    """Missing slices, varying spacing and tilt of parallel slices, the first of which has number `first` (from 0)."""
    notes: list[str] = []
    normal = poses[:, :3, 2].mean(axis=0)
    steps = np.diff(poses[:, :3, 3], axis=0)
    distances = steps @ normal
    usual = float(np.median(distances))
    times = np.round(distances / usual)
    missing = (times >= 2) & (np.abs(distances / usual - times) < 0.05)
    for k in np.flatnonzero(missing):
        notes.append(f"gap of {distances[k]:.2f} mm after slice {first + k + 1}: {int(times[k]) - 1} missing")
    rest = distances[~missing]
    if len(rest) and np.ptp(rest) > 0.02 * usual:
        notes.append(f"distances between slices vary from {rest.min():.2f} to {rest.max():.2f} mm")
    walk = steps.sum(axis=0)
    tilt = float(np.degrees(np.arccos(np.clip(walk @ normal / np.linalg.norm(walk), -1, 1))))
    if tilt > _NOTABLE_TILT_DEGREES:
        notes.append(f"slices shifted against each other by {tilt:.1f} degrees (gantry tilt)")
    return notes
