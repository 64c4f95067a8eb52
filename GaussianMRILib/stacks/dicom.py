"""DICOM images as slice stacks: grouped by geometry and contrast, sorted by position."""

from __future__ import annotations

import functools
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import GaussianMRIError
from ..files import reading
from .dicom_blocks import Group, parallel_blocks, tilt_degrees
from .dicom_frames import Frame, NotAnImage, frames, read_header_and_layout
from .dicom_groups import SAME_POSITION_MM, grouped, kinds_within_series, names_of
from .dicom_pixels import meaningful, raw_frame, stored_values
from .dicom_repeats import UNORDERED, UNORDERED_NOTE
from .dicom_source import source_of
from .left_out import LeftOut
from .localizers import unnamed_localizers
from .modality import fill_padding
from .poses import normals_towards_increasing_k
from .slice_stack import SliceStack
from .volumes import LABELS, is_label_map

logger = logging.getLogger("GaussianMRI")

Progress = Callable[[float, str], None]
Load = Callable[[Path], NDArray[np.generic]]

#: Slices thicker than this many times their distance are worth a remark: some are meant so, but few.
_NOTABLE_THICKNESS = 4.0
_THICK = (
    ": where the SliceThickness of the header is wrong, give the right one (`thickness` of read_stacks, --thickness)"
)
#: Remarks with one of these are warnings.
_SERIOUS = ("missing", UNORDERED_NOTE, _THICK)
_LOCALIZER = "a localiser, which is read where its files are given alone, or with `localizers=True` of read_stacks"
#: A stack whose slices shift by more than this per slice, against the normal, is worth a remark.
_NOTABLE_TILT_DEGREES = 1.0


def read_dicom(
    paths: Sequence[Path],
    thickness: float | None = None,
    progress: Progress | None = None,
    localizers: bool = False,
    left_out: LeftOut | None = None,
) -> list[SliceStack]:
    """Stacks in DICOM files; see `read_stacks`. What is no image in space, and what cannot be used, goes to `left_out`.

    Without `left_out` every file counts as named: one that is damaged or absurd is an error.

    Raises:
        GaussianMRIError: a file that was named is damaged or its geometry absurd.
    """
    left_out = LeftOut(paths) if left_out is None else left_out
    images = _read_headers(paths, progress, left_out)
    if not localizers:
        images = _without_localizers(images, left_out)
    images = _well_placed(images, left_out)
    groups = grouped(images)
    kinds, lost = kinds_within_series(groups), _lost(groups)
    load = functools.lru_cache(maxsize=2)(stored_values)
    stacks: list[SliceStack] = []
    maps: list[tuple[Path, SliceStack]] = []
    done, total = 0, sum(len(group) for _, group in groups)
    for name, (_, group), kind, notes in zip(names_of(groups), groups, kinds, lost, strict=True):
        if len(group) == 1 and not (thickness or group[0].thickness or group[0].spacing_between):
            left_out.failed(
                group[0].path,
                GaussianMRIError(
                    f"{group[0].path} is a single slice without a SliceThickness. Give its thickness in mm."
                ),
            )
            continue
        try:
            with reading(group[0].path, "a DICOM image"):  # sizes that are wrong may need more memory than there is
                pixels = np.empty((len(group), *group[0].shape), np.float32)
        except GaussianMRIError as error:
            left_out.failed(group[0].path, error)
            continue
        padded = np.zeros(pixels.shape, bool) if any(f.padding for f in group) else None
        read: list[int] = []
        for k, frame in enumerate(group):
            try:
                with reading(frame.path, "a readable DICOM image", "Copy the file again."):
                    values, mask = _values(frame, load)
                with np.errstate(over="ignore"):
                    pixels[k] = values
                if not np.isfinite(pixels[k]).all():
                    raise GaussianMRIError(
                        f"{frame.path} has pixels that are NaN or infinite. Repair it or leave it out."
                    )
                read.append(k)
            except GaussianMRIError as error:
                left_out.failed(frame.path, error)
                continue
            if padded is not None and mask is not None:
                padded[k] = mask
            done += 1
            if progress:
                progress(0.5 + 0.5 * done / total, f"reading {name}")
        if not read:
            continue
        if len(read) < len(group):
            notes = [*notes, f"{len(group) - len(read)} of its {len(group)} slices cannot be read and are missing"]
            group, pixels = [group[k] for k in read], pixels[read]
            padded = None if padded is None else padded[read]
        if padded is not None and (note := fill_padding(pixels, padded)):
            logger.info("%s: %s.", name, note)
        try:
            stack = _stack(name, group, pixels, thickness, kind, notes)
        except GaussianMRIError as error:
            left_out.failed(group[0].path, error)
            continue
        if LABELS in stack.notes and not any(left_out.is_named(f.path) for f in group):
            maps.append((group[0].path, stack))
        else:
            stacks.append(stack)
    if not stacks:
        return [stack for _, stack in maps]
    for path, stack in maps:
        left_out.add(path, f"{stack.name}, a label map by its values; name its files to read it")
    return stacks


def _read_headers(paths: Sequence[Path], progress: Progress | None, left_out: LeftOut) -> list[Frame]:
    """Every image in `paths`, each once."""
    images: list[Frame] = []
    known: dict[tuple[str, int], list[tuple[list[float], Frame]]] = {}
    load = functools.lru_cache(maxsize=2)(stored_values)
    for number, path in enumerate(paths):
        if progress:
            progress(0.5 * (number + 1) / len(paths), "reading headers")
        try:
            found = frames(path, *read_header_and_layout(path))
        except NotAnImage as reason:
            left_out.add(path, str(reason))
            continue
        except GaussianMRIError as error:
            left_out.failed(path, error)
            continue
        new = []
        for frame in found:
            place = frame.position.tolist()
            same = known.setdefault((frame.instance_uid, frame.index), []) if frame.instance_uid else []
            if not any(_near(place, there) and _copies(frame, other, load) for there, other in same):
                new.append(frame)
            same.append((place, frame))
        if len(new) < len(found):
            logger.info("Left out %s: the same image was read before.", path)
        images += new
    return images


def _without_localizers(images: list[Frame], left_out: LeftOut) -> list[Frame]:
    """Images without localisers, unless there is nothing else."""
    rest = [f for f in images if not f.localizer]
    if not rest:
        return images
    said = {id(f): _LOCALIZER for f in images if f.localizer}
    guessed = [f for f in unnamed_localizers(rest) if not left_out.is_named(f.path)]
    said |= {id(f): f"{_LOCALIZER} (by its planes at right angles, its Image Type does not say it)" for f in guessed}
    for path, reason in dict.fromkeys((f.path, said[id(f)]) for f in images if id(f) in said):
        left_out.add(path, reason)
    return [f for f in images if id(f) not in said]


def _near(one: list[float], other: list[float]) -> bool:
    return all(abs(a - b) <= SAME_POSITION_MM for a, b in zip(one, other, strict=True))


def _copies(one: Frame, other: Frame, load: Load) -> bool:
    """Whether two images of one UID at one position are the same; some anonymisers give one UID to many."""
    if one.shape != other.shape:
        return False
    try:
        with reading(one.path, "a readable DICOM image"):
            alike = one.path == other.path or np.array_equal(_stored(one, load), _stored(other, load))
    except GaussianMRIError:  # one of them is damaged, which is said when it is read
        return False
    if not alike:
        logger.warning(
            "%s and %s are different images under one SOP Instance UID; both are read.", other.path, one.path.name
        )
    return alike


def _well_placed(images: list[Frame], left_out: LeftOut) -> list[Frame]:
    """Images without those of series whose positions are wrong: slices at several locations, in one place."""
    series: dict[tuple[str, str | None], list[Frame]] = {}
    for f in images:
        series.setdefault((f.series_uid, f.frame_of_reference), []).append(f)
    kept: list[Frame] = []
    for members in series.values():
        locations = {round(f.slice_location, 2) for f in members if f.slice_location is not None}
        first = members[0].position
        if len(locations) < 2 or any(np.abs(f.position - first).max() > SAME_POSITION_MM for f in members):
            kept += members
            continue
        error = GaussianMRIError(
            f"{members[0].path.parent}: {len(members)} images lie at one position, though SliceLocation runs from "
            f"{min(locations):g} to {max(locations):g}; the positions are wrong. Correct ImagePositionPatient."
        )
        for f in members:
            left_out.failed(f.path, error)
    return kept


def _lost(groups: Sequence[Group]) -> list[list[str]]:
    """For each group, notes on slices that its series should have and that are not among the files."""
    notes: list[list[str]] = [[] for _ in groups]
    series: dict[str, list[int]] = {}
    for n, (_, group) in enumerate(groups):
        series.setdefault(group[0].series_uid, []).append(n)
    for members in series.values():
        images = [f for n in members for f in groups[n][1]]
        numbers = Counter(f.instance_number for f in images)
        single = {f.path for f in images}
        # Of numbers that leave most out, or are nonsense, there is no list to be made.
        last = max(numbers) if max(numbers) <= 2 * len(images) else 0
        absent = sorted({*range(1, last + 1)} - {*numbers})
        expected = max((f.expected for f in images), default=0)
        if len(single) == len(images) == len(numbers) and 0 < len(absent) <= max(1, len(images) // 4):
            shown = ", ".join(map(str, absent[:8])) + (" ..." if len(absent) > 8 else "")
            notes[members[0]].append(f"no image has the Instance Number {shown} of its series: slices may be missing")
        elif len(images) < expected <= 2 * len(images) and len({f.contrast.get("acquisition") for f in images}) == 1:
            notes[members[0]].append(f"{len(images)} of {expected} images of its acquisition are there: slices are missing")
        for n in members:
            most = max((len(groups[m][1]) for m in members if _alike(groups[m], groups[n])), default=0)
            if any(label.startswith(UNORDERED) for label in groups[n][0]):
                notes[n].append(UNORDERED_NOTE)
            if len(groups[n][1]) < most:
                notes[n].append(f"{len(groups[n][1])} slices where others of its series have {most}: slices are missing")
    return notes


def _alike(one: Group, other: Group) -> bool:
    """Whether two stacks of a series differ in their labels alone, as the echoes of one acquisition do."""
    (labels, a), (other_labels, b) = one, other
    return (
        len(labels) == len(other_labels) > 0
        and [text.rsplit(" ", 1)[0] for text in labels] == [text.rsplit(" ", 1)[0] for text in other_labels]
        and "repeat" not in labels[-1]
        and "stack" not in labels[-1]
        and a[0].shape == b[0].shape
        and float(np.abs(a[0].orientation - b[0].orientation).max()) < 0.01
    )


# ---- one stack


def _values(frame: Frame, load: Load) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
    """Pixel values of one image in the units of the file, and where it is padding."""
    raw = _stored(frame, load)
    stored = meaningful(raw, frame.bits_stored, frame.high_bit)
    if frame.slope == 0 and stored.size and np.ptp(stored):
        raise GaussianMRIError(f"{frame.path} has a RescaleSlope of 0, which makes one value of all. Correct the header.")
    mask = frame.padding(raw, stored) if frame.padding else None
    if frame.lut is not None:
        return frame.lut(stored, inverted=frame.inverted), mask
    if frame.slope == 1 and frame.intercept == 0 and not frame.inverted:
        return stored, mask
    values = stored.astype(np.float64)
    if frame.inverted:
        values = frame.full_scale - values
    return values * frame.slope + frame.intercept, mask


def _stored(frame: Frame, load: Load) -> NDArray[np.generic]:
    """Stored values (rows, columns) of one image, with whatever lies in unused bits where they were not compressed."""
    if frame.layout is not None:
        return raw_frame(frame.path, frame.layout, frame.index)
    stored = load(frame.path)
    if frame.index >= len(stored):
        raise GaussianMRIError(
            f"{frame.path} has no frame {frame.index + 1}; the file is truncated. Copy it again."
        )
    image: NDArray[np.generic] = stored[frame.index]
    return image


def _stack(
    name: str,
    group: list[Frame],
    pixels: NDArray[np.float32],
    thickness: float | None,
    kind: dict[str, str],
    lost: list[str],
) -> SliceStack:
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
    remarks = _remarks(poses, group[0].shape)
    # A gap says the same as the number that is missing, and where.
    notes += lost if not any("missing" in text for text in remarks) else [n for n in lost if "Number" not in n]
    notes += remarks
    if any(f.inverted for f in group):
        notes.append("MONOCHROME1, inverted so that high is bright")
    if np.ptp(pixels) == 0:
        notes.append("every pixel has the same value")
    if is_label_map(pixels):
        notes.append(LABELS)
    stack = SliceStack.from_array(
        pixels,
        poses,
        thickness=own,
        frame_of_reference=group[0].frame_of_reference,
        name=name,
        source=source_of(group, kind),
        notes=notes,
        copy=False,
    )
    if thickness is None and len(group) > 1 and SAME_POSITION_MM < stack.spacing < stack.thickness / _NOTABLE_THICKNESS:
        notes.append(f"slices {stack.thickness:.4g} mm thick every {stack.spacing:.4g} mm{_THICK}")
        stack = replace(stack, notes=tuple(notes))
    for note in notes:
        serious = any(text in note for text in _SERIOUS)
        logger.log(logging.WARNING if serious else logging.INFO, "%s: %s.", name, note)
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
